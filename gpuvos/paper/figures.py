"""The paper's figures 1, 3, 4, 5 and 7 of any clip."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor

from gpuvos import functional as F
from gpuvos import viz
from gpuvos.config import Config
from gpuvos.paper.oracles import grid_truth
from gpuvos.pipeline.segment import segment
from gpuvos.types import Features, Segmentation
from gpuvos.viz.contact_sheet import BACKGROUND, CANDIDATE, FOREGROUND, NEITHER, TRUTH

_WIDTH, _GAP, _PAPER = 420, 6, 20
_GRAPH = 14  # rows of the grid that figure 3 shows as a graph
_COLUMNS = 5  # frames of figures 1 and 5


def draw_figures(
    frames: Tensor, features: Features, config: Config, *, frame: int = 0, truth: Tensor | None = None
) -> dict[str, Tensor]:
    """Figures of the paper as pictures ``[3, H, W]`` uint8, by name.

    Figure 1: frame (with the outline of the truth), embedding with the seeds of the object in magenta and those of
    the background in blue, result. Figure 3: frame, embedding, embedding graph; edge map, candidates, seeds. Figure
    4: frame, embedding with the initial background in blue and other seeds in red, regions; flow, region flow, motion
    saliency. Figure 5: results along the clip. Figure 7, only with ``truth``: regions and first mask, regions taken for
    foreground, regions taken for background.

    Args:
        frames: ``[T, 3, H, W]`` uint8 or float in [0, 1].
        features: of these frames.
        config: parameters of the method.
        frame: what figures 3 and 4 show.
        truth: ``[T, H, W]`` bool.

    Example:
        >>> frames = torch.zeros(2, 3, 32, 48, dtype=torch.uint8)
        >>> features = Features(torch.rand(2, 4, 16, 24), torch.rand(2, 16, 24), torch.rand(2, 2, 16, 24))
        >>> sorted(draw_figures(frames, features, Config(rule="paper")))
        ['figure1', 'figure3', 'figure4', 'figure5']
    """
    result = segment(*features, config=config, size=(frames.shape[-2], frames.shape[-1]))
    canvas = _Canvas(frames, features, result, config, truth)
    figures = {
        "figure1": canvas.figure1(),
        "figure3": canvas.figure3(frame),
        "figure4": canvas.figure4(frame),
        "figure5": canvas.figure5(),
    }
    if truth is not None:
        figures["figure7"] = canvas.figure7(truth)
    return figures


class _Canvas:
    """Panels of one size, ``[n, 3, h, w]`` uint8 of chosen frames."""

    def __init__(
        self, frames: Tensor, features: Features, result: Segmentation, config: Config, truth: Tensor | None
    ) -> None:
        self.frames, self.features, self.result, self.config = frames, features, result, config
        self.truth = truth
        self.size = (max(1, round(_WIDTH * frames.shape[-2] / frames.shape[-1])), _WIDTH)
        self.grid = (features.objectness.shape[-2], features.objectness.shape[-1])

    def figure1(self) -> Tensor:
        times = self._times(3)
        points = self._seeds(self._embedding(times), times, self.result.foreground, self.result.background)
        return _page(
            [[part[row] for part in (self._frame(times), points, self._mask(times))] for row in range(len(times))]
        )

    def figure3(self, frame: int) -> Tensor:
        times = torch.tensor([frame], device=self.frames.device)
        embedding = self.features.embedding[times]
        config = self.config
        exact = config.edge_reduce == "max"
        edges = F.edge_map(embedding, reduce=config.edge_reduce, temperature=config.temperature, squared_distance=exact)
        candidates = F.candidate_mask(edges, window=config.window)
        shown = edges.sqrt() if exact else edges
        top = shown.flatten().float().quantile(0.99).clamp(min=1e-12).item()
        dim = self._picture(times).float() / 255 * 0.42 + 0.08
        index = torch.arange(candidates[0].numel(), device=dim.device).expand(1, -1)
        dots = viz.draw_points(dim, index, self.grid, valid=candidates.flatten(1), color=CANDIDATE, radius=1)
        group = torch.arange(self.config.num_seeds, device=dim.device).expand(1, -1)
        seeds, valid = self.result.seeds.index[times], self.result.seeds.valid[times]
        chosen = viz.draw_points(dim, seeds, self.grid, valid=valid, group=group, radius=3)
        heat = viz.heatmap(self._smooth(shown / top), low=0.0, high=1.0)
        return _page([[self._picture(times)[0], *self._graph(frame)], [heat[0], dots[0], chosen[0]]])

    def _box(self, frame: int) -> tuple[slice, slice]:
        """Rows and columns of the grid, of the shape of a panel, around the strongest edge of the result's outline."""
        h, w = self.grid
        rows, columns = min(h, _GRAPH), min(w, round(_GRAPH * self.size[1] / self.size[0]))
        outline = viz.mask_contour(grid_truth(self.result.mask[frame : frame + 1], self.grid))
        edges = F.edge_map(self.features.embedding[frame : frame + 1], squared_distance=True)
        place = int(torch.where(outline, edges, 0).flatten().argmax())
        top = min(max(place // w - rows // 2, 0), h - rows)
        left = min(max(place % w - columns // 2, 0), w - columns)
        return slice(top, top + rows), slice(left, left + columns)

    def _graph(self, frame: int) -> tuple[Tensor, Tensor]:
        """Embedding with a white box, and the graph in that box: its edges from dark to light by their weights."""
        part = self._box(frame)
        colors = viz.embedding_colors(self.features.embedding)[frame][:, *part]
        weights = F.edge_weights(self.features.embedding[frame : frame + 1, :, *part])
        rows, columns = colors.shape[1:]
        graph = torch.full((3, 6 * rows - 3, 6 * columns - 3), _PAPER, dtype=torch.uint8, device=colors.device)
        largest = max((float(side.max()) for side in weights if side.numel()), default=0.0)
        for shift in range(3):
            for across in range(3):  # nodes of 3 x 3 pixels, edges of 3 x 1
                graph[:, shift::6, across::6] = colors
            if columns > 1:
                graph[:, 1::6, 3 + shift :: 6] = viz.heatmap(weights.right / max(largest, 1e-12), low=0, high=1)[0]
            if rows > 1:
                graph[:, 3 + shift :: 6, 1::6] = viz.heatmap(weights.down / max(largest, 1e-12), low=0, high=1)[0]
        shown = nnf.interpolate(graph[None], size=self.size, mode="nearest")[0]
        times = torch.tensor([frame], device=colors.device)
        inside = torch.zeros(1, *self.grid, dtype=torch.bool, device=colors.device)
        inside[:, *part] = True
        outline = viz.mask_contour(self._cells(inside), thickness=2)
        white = (255, 255, 255)
        return viz.overlay(self._embedding(times), outline, color=white, alpha=1.0, contour=False)[0], shown

    def figure4(self, frame: int) -> Tensor:
        times = torch.tensor([frame], device=self.frames.device)
        seeds, label = self.result.seeds, self.result.forest.label[times]
        initial_background = F.initial_background(
            seeds.objectness, seeds.valid, num_background=self.config.num_background
        )
        points = self._seeds(
            self._embedding(times), times, seeds.valid & ~initial_background, initial_background, other=(230, 60, 50)
        )
        flow = self.features.flow[times].float()
        scale = viz.flow_scale(self.features.flow)
        regional = torch.stack(
            [viz.saliency_map(label, self.result.region_flow[times][..., axis]) for axis in (0, 1)], 1
        )
        saliency = viz.saliency_map(label, self.result.saliency[times]).float()
        top = [self._picture(times), points, self._regions(times)]
        below = [
            viz.flow_colors(self._smooth(flow) / scale, largest=1.0),
            viz.flow_colors(self._cells(regional.float()) / scale, largest=1.0),
            viz.heatmap(self._cells(saliency), low=0.0, high=1.0),
        ]
        return _page([[panel[0] for panel in top], [panel[0] for panel in below]])

    def figure5(self) -> Tensor:
        times = self._times(_COLUMNS)
        return _page([list(self._mask(times))])

    def figure7(self, truth: Tensor) -> Tensor:
        first = torch.zeros(1, dtype=torch.int64, device=truth.device)
        label = self.result.forest.label[:1]
        mask = grid_truth(truth[:1], self.grid)
        _, foreground, background = F.mask_seed_sets(
            self.features.embedding[:1],
            label,
            mask,
            self.config.num_seeds,
            coverage=self.config.mask_coverage,
        )
        large = nnf.interpolate(truth[:1, None].float(), size=self.size, mode="area")[:, 0] > 0.5
        regions = self._regions(first)
        dim = torch.where(large[:, None], regions, regions // 3)  # else the mask is lost among the colours
        panels = [viz.overlay(dim, large, color=FOREGROUND)]
        for chosen, color in ((foreground, FOREGROUND), (background, BACKGROUND)):
            inside = viz.saliency_map(label, chosen.float()) > 0.5
            panels.append(viz.overlay(self._picture(first), self._cells(inside), color=color))
        return _page([[panel[0] for panel in panels]])

    def _times(self, count: int) -> Tensor:
        places = torch.linspace(0, len(self.frames) - 1, min(count, len(self.frames)))
        return places.round().long().to(self.frames.device)

    def _picture(self, times: Tensor) -> Tensor:
        frames = viz.to_frames(self.frames[times]).float() / 255
        return viz.to_frames(_stretch(frames, self.size).clamp(0, 1))

    def _frame(self, times: Tensor) -> Tensor:
        picture = self._picture(times)
        if self.truth is None:
            return picture
        large = nnf.interpolate(self.truth[times, None].float(), size=self.size, mode="area")[:, 0] > 0.5
        return viz.overlay(picture, large, color=TRUTH, alpha=0.35)

    def _embedding(self, times: Tensor) -> Tensor:
        colors = viz.embedding_colors(self.features.embedding)[times].float() / 255
        return viz.to_frames(_stretch(colors, self.size).clamp(0, 1))

    def _mask(self, times: Tensor) -> Tensor:
        mask = _stretch(self.result.mask[times, None].float(), self.size)[:, 0] > 0.5
        return viz.overlay(self._picture(times), mask, color=FOREGROUND)

    def _regions(self, times: Tensor) -> Tensor:
        return viz.region_colors(self._cells(self.result.forest.label[times]), borders=True)

    def _seeds(
        self, image: Tensor, times: Tensor, first: Tensor, second: Tensor, *, other: viz.Color = FOREGROUND
    ) -> Tensor:
        """The seeds of two sets, the second in blue; in figure 1 those of neither in grey."""
        index, valid = self.result.seeds.index[times], self.result.seeds.valid[times]
        neither = valid & ~first[times] & ~second[times]
        for chosen, color in ((neither, NEITHER), (second[times], BACKGROUND), (first[times], other)):
            image = viz.draw_points(image, index, self.grid, valid=valid & chosen, color=color, radius=3)
        return image

    def _smooth(self, values: Tensor) -> Tensor:
        """``[n, h, w]`` or ``[n, C, h, w]`` interpolated to the panels."""
        if values.ndim == 4:
            return _stretch(values.float(), self.size)
        return _stretch(values[:, None].float(), self.size)[:, 0]

    def _cells(self, values: Tensor) -> Tensor:
        """``[n, ..., h, w]`` of any dtype, each pixel taking the cell that it lies in."""
        row, column = (
            torch.arange(length, device=values.device) * cells // length
            for length, cells in zip(self.size, self.grid, strict=True)
        )
        return values[..., row[:, None], column]


def _stretch(values: Tensor, size: tuple[int, int]) -> Tensor:
    return nnf.interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=True)


def _page(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Panels in rows with gaps between them."""
    lines = [torch.cat([nnf.pad(panel, (0, _GAP, 0, _GAP), value=_PAPER) for panel in row], 2) for row in rows]
    return nnf.pad(torch.cat(lines, 1), (_GAP, 0, _GAP, 0), value=_PAPER)
