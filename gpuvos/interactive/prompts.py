"""Points and boxes: out, for a promptable segmenter, and in, from somebody who clicks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gpuvos.config import Config
from gpuvos.errors import check_count, check_tensor, fail
from gpuvos.functional.foreground import initial_foreground
from gpuvos.functional.motion import initial_background
from gpuvos.interactive.relabel import seeds_at
from gpuvos.interactive.session import config_of
from gpuvos.pipeline.result import check_one_video
from gpuvos.types import Forest, Segmentation


class Prompts(NamedTuple):
    """Prompts of every frame as Segment Anything (Kirillov et al., 2023) takes them, in pixels of the image."""

    points: Tensor  # [T, N, 2] (x, y), the centre of the upper left pixel at (0, 0)
    labels: Tensor  # [T, N] int64: 1 foreground, 0 background, -1 no point
    boxes: Tensor  # [T, 4] (left, top, right, bottom), the outermost pixels of the mask; zeros where it is empty
    present: Tensor  # [T] bool, the mask is not empty


def prompts(result: Segmentation, *, num_foreground: int = 3, num_background: int = 3) -> Prompts:
    """Turns a segmentation into prompts: the seeds of the largest regions, and the box around the mask.

    Args:
        result: a result of ``segment`` for one video.
        num_foreground: points on the object: foreground seeds that the mask contains, by area of the region.
        num_background: points beside it, likewise; N is the sum of both.

    Returns:
        Prompts; nothing is read back from the device. SAM wants points and boxes scaled like the image.

    Raises:
        InputError: the result is of several videos, a number below 0 or more than there are seeds.

    Example:
        >>> from gpuvos import VideoSegmenter
        >>> result = VideoSegmenter()(torch.zeros(2, 3, 32, 48, dtype=torch.uint8))
        >>> prompts(result).points.shape, prompts(result).boxes.shape
        (torch.Size([2, 6, 2]), torch.Size([2, 4]))
    """
    check_one_video(result)
    k = result.foreground.shape[1]
    for name, count in (("num_foreground", num_foreground), ("num_background", num_background)):
        check_count(name, count, 0)
        if count > k:
            raise fail(name, str(count), f"at most {k}, the number of seeds")
    h, w = result.mask.shape[-2:]
    grid_h, grid_w = result.forest.label.shape[-2:]
    row, column = result.seeds.index.clamp(min=0) // grid_w, result.seeds.index.clamp(min=0) % grid_w
    # the same rounding inside of the image, where the grid is not a whole fraction of it
    at = torch.stack(((column + 0.5) * w / grid_w - 0.5, (row + 0.5) * h / grid_h - 0.5), -1)  # [T, K, 2]
    pixel = at.round().long()
    raster = pixel[..., 1].clamp(0, h - 1) * w + pixel[..., 0].clamp(0, w - 1)
    inside = result.mask.flatten(1).gather(1, raster)
    flat = result.forest.label.flatten(1)
    known = (flat >= 0).float()
    area = torch.zeros_like(result.saliency, dtype=known.dtype).scatter_add_(1, flat.clamp(min=0), known)
    points, labels = [], []
    for value, count in ((1, num_foreground), (0, num_background)):
        members = (result.foreground & inside) if value else (result.background & ~inside)
        members = members & result.seeds.valid
        found = area.masked_fill(~members, -1).topk(count)
        points.append(at.gather(1, found.indices[..., None].expand(-1, -1, 2)))
        labels.append(torch.where(found.values >= 0, value, -1))
    label = torch.cat(labels, 1)
    point = torch.cat(points, 1).masked_fill((label < 0)[..., None], 0).to(result.probability.dtype)
    return Prompts(point, label, _boxes(result.mask).to(point.dtype), result.mask.flatten(1).any(1))


def _boxes(mask: Tensor) -> Tensor:
    """Box around masks ``[T, h, w]``: ``[T, 4]`` int64."""
    h, w = mask.shape[-2:]
    sides = []
    for reduced, length in ((mask.any(1), w), (mask.any(2), h)):
        number = torch.arange(length, device=mask.device)
        sides.append((torch.where(reduced, number, length).amin(1), torch.where(reduced, number, -1).amax(1)))
    box = torch.stack((sides[0][0], sides[1][0], sides[0][1], sides[1][1]), 1)
    return box.masked_fill(~mask.flatten(1).any(1)[:, None], 0)


def mask_from_points(
    result: Segmentation, points: Tensor, labels: Tensor, *, frame: int = 0, config: Config | None = None
) -> Tensor:
    """The object under somebody's clicks: Eq. 11 with the clicked regions' seeds in place of the best track.

    A pixel belongs to it if it is closer (minimax) to a seed clicked as foreground than to every background
    seed: those clicked as background, and the initial background (the seeds of lowest objectness) but for those
    clicked. ``segment(..., first_mask=...)`` follows it through the video.

    Args:
        result: a result of ``segment`` for one video, made with ``Config(distance="minimax")``.
        points: ``[N, 2]`` (x, y) in pixels of the image.
        labels: ``[N]`` int64: 1 foreground, 0 background; others are ignored.
        frame: the frame clicked at.
        config: parameters it was segmented with; those that the result carries where absent.

    Returns:
        ``[h, w]`` bool at the size of ``result.mask``; empty without a foreground point.

    Raises:
        InputError: points outside of the image, shapes that do not fit.

    Example:
        >>> from gpuvos import VideoSegmenter
        >>> from gpuvos.data import render_clip
        >>> result = VideoSegmenter()(render_clip("single", num_frames=2, height=64, width=96).frames)
        >>> found = prompts(result, num_foreground=1)
        >>> bool(mask_from_points(result, found.points[0], found.labels[0]).any())
        True
    """
    config = config_of(result, config)
    n = check_tensor("points", points, "N 2", like=result.probability)["N"]
    check_tensor("labels", labels, "N", kind="int64", sizes={"N": n}, like=points)
    seed = seeds_at(result, points, frame=frame)  # [N]
    wanted = (labels == 1) & (seed >= 0)
    k = result.foreground.shape[1]
    clicked = torch.nn.functional.one_hot(seed.clamp(min=0), k).bool()  # [N, K]
    chosen = (clicked & wanted[:, None]).any(0)
    away = (clicked & ((labels == 0) & (seed >= 0))[:, None]).any(0)
    initial = initial_background(
        result.seeds.objectness[frame], result.seeds.valid[frame], num_background=config.num_background
    )
    background = (initial | away) & ~chosen
    forest = Forest(*(value[frame].expand(n, *value[frame].shape) for value in result.forest))
    grown = initial_foreground(forest, torch.where(wanted, seed, -1), background.expand(n, -1)).any(0)
    size = (result.mask.shape[-2], result.mask.shape[-1])
    return interpolate(grown[None, None].float(), size=size, mode="nearest-exact")[0, 0] > 0
