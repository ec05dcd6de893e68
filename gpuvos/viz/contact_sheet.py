"""Every step of the method on one page: a row a frame, a column a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as nnf
from torch import Tensor

from gpuvos.config import Config
from gpuvos.errors import check_count, check_tensor, fail
from gpuvos.types import Features, Segmentation
from gpuvos.viz import maps

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

FOREGROUND: maps.Color = (255, 40, 160)
BACKGROUND: maps.Color = (70, 140, 255)
NEITHER: maps.Color = (170, 170, 170)
CANDIDATE: maps.Color = (255, 214, 64)
TRUTH: maps.Color = (110, 255, 90)
_PAPER = 20  # grey level of the page
_INK = 225
_GAP = 6


@torch.no_grad()
def contact_sheet(
    frames: Tensor,
    features: Features,
    result: Segmentation,
    *,
    times: Sequence[int] | None = None,
    truth: Tensor | None = None,
    panel_width: int = 320,
    per_row: int = 13,
    config: Config | None = None,
) -> Tensor:
    """Shows what every step of the method made of a clip: one row a chosen frame, one column a step.

    The columns: frame; embedding (principal components); objectness, Eq. 3; edge map, Eq. 4; candidates,
    Eq. 5; seeds, Eq. 6, in the colours of their regions; regions; flow; region flow on the same scale;
    saliency, Eq. 7-8; seed sets (foreground magenta, background blue, neither grey, the seed of the best
    track ringed in white); probability, Eq. 15; result in magenta, the outline of the truth in green.

    Args:
        frames: ``[T, 3, H, W]`` uint8 or float in [0, 1].
        features: the features of the same T frames.
        result: the result of the same T frames, on the grid of the features.
        times: frames to show, 0 to T - 1; the first, the middle and the last where None.
        truth: ``[T, H, W]`` bool.
        panel_width: width of one picture in pixels, 16 or more; all pictures have the proportions of the frames.
        per_row: columns side by side; the others follow below.
        config: parameters the result was made with, for the edge map and the candidates.

    Returns:
        [3, height, width] uint8.

    Raises:
        InputError: if shapes do not fit together, a time is outside of the clip, or panels are too small.
    """
    check_count("per_row", per_row)
    count = len(frames)
    rows = sorted({0, count // 2, count - 1}) if times is None else list(times)
    columns = step_pictures(frames, features, result, rows, truth=truth, panel_width=panel_width, config=config)
    size = next(iter(columns.values())).shape[-2:]
    names, titles = [f"t = {time}" for time in rows], list(columns)
    pages = [
        _page({title: columns[title] for title in titles[first : first + per_row]}, names, size)
        for first in range(0, len(titles), per_row)
    ]
    width = pages[0].shape[2]
    return torch.cat([nnf.pad(page, (0, width - page.shape[2]), value=_PAPER) for page in pages], 1)


@torch.no_grad()
def step_pictures(
    frames: Tensor,
    features: Features,
    result: Segmentation,
    times: Sequence[int],
    *,
    truth: Tensor | None = None,
    panel_width: int = 320,
    config: Config | None = None,
    flow_scale: Tensor | None = None,
) -> dict[str, Tensor]:
    """The pictures of ``contact_sheet`` by the titles of its columns, ``[n, 3, height, panel_width]`` uint8 each.

    Args:
        frames: see ``contact_sheet``, as are all others.
        features: of the same frames.
        result: of the same frames.
        times: the n frames to show.
        truth: ``[T, H, W]`` bool.
        panel_width: width of a picture in pixels, 16 or more.
        config: parameters the result was made with.
        flow_scale: the length of the flow that is shown in full colour; that of these frames where None. Pictures of
            parts of a clip compare where all have the clip's.

    Raises:
        InputError: see ``contact_sheet``.
    """
    _check(frames, features, result, truth, panel_width)
    count = len(frames)
    if not times or not all(isinstance(time, int) and 0 <= time < count for time in times):
        raise fail("times", repr(times), f"frame numbers from 0 to {count - 1}, at least one")
    size = (max(1, round(panel_width * frames.shape[-2] / frames.shape[-1])), panel_width)
    chosen = torch.tensor(list(times), device=frames.device)
    picked = None if truth is None else truth.index_select(0, chosen)
    scale = maps.flow_scale(features.flow) if flow_scale is None else flow_scale
    return _columns(frames, features, result, chosen, picked, size, config or Config(), scale)


def _check(frames: Tensor, features: Features, result: Segmentation, truth: Tensor | None, panel_width: int) -> None:
    sizes = {"T": check_tensor("frames", frames, "T 3 H W", kind="frames")["T"]}
    if not (sizes["T"] and frames.shape[-2] and frames.shape[-1]):
        raise fail("frames", f"shape {tuple(frames.shape)}", "at least one frame of at least one pixel")
    grid = check_tensor("features.embedding", features.embedding, "T D h w", sizes=sizes, like=frames)
    check_tensor("features.objectness", features.objectness, "T h w", sizes=grid, like=frames)
    check_tensor("features.flow", features.flow, "T 2 h w", sizes=grid, like=frames)
    check_tensor("result.forest.label", result.forest.label, "T h w", kind="int64", sizes=grid, like=frames)
    check_tensor("result.mask", result.mask, "T H W", kind="bool", sizes=sizes, like=frames)
    if truth is not None:
        check_tensor("truth", truth, "T H W", kind="bool", sizes=sizes, like=frames)
    if not isinstance(panel_width, int) or panel_width < 16:
        raise fail("panel_width", repr(panel_width), "an integer of 16 or more")


def _columns(
    frames: Tensor,
    features: Features,
    result: Segmentation,
    chosen: Tensor,
    truth: Tensor | None,
    size: tuple[int, int],
    config: Config,
    scale: Tensor,
) -> dict[str, Tensor]:
    """The pictures [n, 3, *size] uint8 of every column by their titles, in the order of the method."""
    embedding, objectness, flow = (value.index_select(0, chosen) for value in features)
    frame = _stretch(maps.to_frames(frames.index_select(0, chosen)).float() / 255, size)
    dim = 0.08 + 0.42 * frame  # points stand out from it
    edges, candidates = _candidates(embedding, config)
    label = result.forest.label.index_select(0, chosen)
    region_flow = result.region_flow.index_select(0, chosen)
    saliency = maps.saliency_map(label, result.saliency.index_select(0, chosen))
    painted = torch.stack([maps.saliency_map(label, region_flow[..., axis]) for axis in (0, 1)], dim=1)
    mask = _stretch(result.mask.index_select(0, chosen)[:, None].float(), size)[:, 0] > 0.5
    overlay = maps.overlay(frame, mask, color=FOREGROUND)
    if truth is not None:
        outline = maps.mask_contour(_stretch(truth[:, None].float(), size)[:, 0] > 0.5, thickness=2)
        overlay = maps.overlay(overlay, outline, color=TRUTH, alpha=1.0, contour=False)
    dots = maps.overlay(dim, _marks(candidates, size), color=CANDIDATE, alpha=1.0, contour=False)
    colors = maps.embedding_colors(embedding)
    probability = result.probability.index_select(0, chosen)
    return {
        "frame": maps.to_frames(frame),
        "embedding": maps.to_frames(_stretch(colors.float() / 255, size)),
        "objectness": _heat(objectness, size),
        "edge map": _heat(edges / edges.amax().clamp(min=1e-12), size),
        "candidates": dots,
        "seeds": _seed_points(dim, result, chosen),
        "regions": maps.region_colors(_repeat(label, size), borders=True),
        "flow": maps.flow_colors(_stretch(flow.float(), size) / scale, largest=1.0),
        "region flow": maps.flow_colors(_repeat(painted.float(), size) / scale, largest=1.0),
        "saliency": maps.heatmap(_repeat(saliency.float(), size), low=0.0, high=1.0),
        "seed sets": _seed_sets(dim, result, chosen),
        "probability": _heat(probability, size),
        "result" if truth is None else "result, truth": overlay,
    }


def _candidates(embedding: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Edge map to look at, and candidates as the segmenter computes them."""
    from gpuvos.functional.edges import edge_map, embedding_graph

    _, candidates = embedding_graph(
        embedding, reduce=config.edge_reduce, temperature=config.temperature, window=config.window
    )
    # Distances rather than similarities are shown: those of a wide embedding all saturate at 1.
    edges = edge_map(embedding, reduce=config.edge_reduce, squared_distance=True).sqrt()
    return edges.float(), candidates


def _marks(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A grid's mask [n, h, w] at ``size``, its cells no less than three pixels wide, to be seen."""
    marks = _repeat(mask, size)
    if size[1] < 3 * mask.shape[-1]:
        marks = nnf.max_pool2d(marks[:, None].float(), 3, 1, 1)[:, 0] > 0
    return marks


def _seed_points(image: Tensor, result: Segmentation, chosen: Tensor) -> Tensor:
    """The seeds in the colours of their regions."""
    index, valid = result.seeds.index.index_select(0, chosen), result.seeds.valid.index_select(0, chosen)
    group = torch.arange(index.shape[1], device=image.device).expand_as(index)
    return maps.draw_points(image, index, _grid(result), valid=valid, group=group, radius=_radius(image))


def _seed_sets(image: Tensor, result: Segmentation, chosen: Tensor) -> Tensor:
    """The seeds by the set they are in."""
    seeds = result.seeds
    parts = (seeds.index, seeds.valid, result.foreground, result.background)
    index, valid, foreground, background = (value.index_select(0, chosen) for value in parts)
    grid, radius = _grid(result), _radius(image)
    if result.foreground_seed is not None:
        best = result.foreground_seed.index_select(0, chosen)
        tracked = nnf.pad(index, (1, 0), value=-1).gather(1, best[:, None] + 1)
        image = maps.draw_points(image, tracked, grid, radius=radius + 3)
    neither = valid & ~foreground & ~background
    image = maps.draw_points(image, index, grid, valid=neither, color=NEITHER, radius=max(1, radius - 1))
    image = maps.draw_points(image, index, grid, valid=valid & background, color=BACKGROUND, radius=radius)
    return maps.draw_points(image, index, grid, valid=valid & foreground, color=FOREGROUND, radius=radius)


def _grid(result: Segmentation) -> tuple[int, int]:
    return (result.forest.label.shape[-2], result.forest.label.shape[-1])


def _radius(image: Tensor) -> int:
    return max(1, round(image.shape[-1] / 110))


def _stretch(values: Tensor, size: tuple[int, int]) -> Tensor:
    """[n, C, h, w] interpolated to ``size``."""
    return nnf.interpolate(values, size, mode="bilinear", align_corners=False, antialias=True)


def _repeat(values: Tensor, size: tuple[int, int]) -> Tensor:
    """[n, ..., h, w] of any dtype, every pixel of ``size`` taking the cell that it lies in."""
    row, column = (
        torch.arange(length, device=values.device) * cells // length
        for length, cells in zip(size, values.shape[-2:], strict=True)
    )
    return values[..., row[:, None], column]


def _heat(values: Tensor, size: tuple[int, int]) -> Tensor:
    """[n, h, w] in [0, 1] as a heat map."""
    return maps.heatmap(_stretch(values[:, None].float(), size)[:, 0], low=0.0, high=1.0)


def _page(columns: dict[str, Tensor], names: list[str], size: Sequence[int]) -> Tensor:
    """Panels, titles above them and names beside them on a dark page [3, height, width]."""
    height, width = size
    device = next(iter(columns.values())).device
    font = _font(list(columns), width)
    top = _text("Ag", font).shape[0] + 2 * _GAP
    left = max(_text(name, font).shape[1] for name in names) + 2 * _GAP
    page = torch.full(
        (3, top + len(names) * (height + _GAP), left + len(columns) * (width + _GAP)),
        _PAPER,
        dtype=torch.uint8,
        device=device,
    )
    for column, (title, panels) in enumerate(columns.items()):
        x = left + column * (width + _GAP)
        _write(page, _text(title, font), _GAP, x, width)
        for row, panel in enumerate(panels):
            y = top + row * (height + _GAP)
            page[:, y : y + height, x : x + width] = panel
    for row, name in enumerate(names):
        coverage = _text(name, font)
        y = top + row * (height + _GAP) + max(0, (height - coverage.shape[0]) // 2)
        _write(page, coverage, y, 0, left)
    return page


def _write(page: Tensor, coverage: Tensor, y: int, x: int, width: int) -> None:
    """Writes text into the page, centred on a field that begins at (y, x)."""
    x += max(0, (width - coverage.shape[1]) // 2)
    field = page[:, y : y + coverage.shape[0], x : x + coverage.shape[1]]
    coverage = coverage[: field.shape[1], : field.shape[2]].to(page.device)
    field.copy_((_PAPER + (_INK - _PAPER) * coverage).round().to(torch.uint8))


def _font(titles: list[str], width: int) -> FreeTypeFont | ImageFont:
    """Pillow's own font, as large as suits the panels and lets every title fit."""
    from PIL import ImageFont

    size = max(10, round(width / 18))
    longest = max(ImageFont.load_default(size).getlength(title) for title in titles)
    return ImageFont.load_default(max(6, min(size, int(size * width / longest))))


def _text(text: str, font: FreeTypeFont | ImageFont) -> Tensor:
    """Coverage ``[h, w]`` in [0, 1] of a line of text; lines of one font have one height."""
    from PIL import Image, ImageDraw

    left, _, right, _ = font.getbbox(text)
    _, top, _, bottom = font.getbbox("Agpd(,)|=0")
    image = Image.new("L", (int(right - left) + 1, int(bottom - top) + 1))
    ImageDraw.Draw(image).text((-left, -top), text, fill=255, font=font)
    coverage = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return coverage.view(image.height, image.width).float() / 255
