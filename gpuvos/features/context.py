"""What front ends share: frames a few at a time, and channels of position and motion beside an embedding."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gpuvos.functional.batch import is_open
from gpuvos.functional.camera import camera_weight, residual_flow
from gpuvos.functional.precision import full_precision
from gpuvos.types import Features, Progress

_CPU_CHUNK, _DEVICE_CHUNK = 1, 16
_Seen = TypeVar("_Seen", Tensor, tuple[Tensor, Tensor])


def frames_at_once(chunk: int | None, device: torch.device) -> int:
    """Frames that a network sees together: ``chunk``, or what suits the device.

    Args:
        chunk: as asked for; None: 1 on the CPU, where no frame then changes a bit of another, and 16 elsewhere.
        device: of the frames.

    Example:
        >>> frames_at_once(None, torch.device("cpu"))
        1
    """
    return chunk or (_CPU_CHUNK if device.type == "cpu" else _DEVICE_CHUNK)


def over_frames(
    look: Callable[[Tensor], _Seen], frames: Tensor, chunk: int | None, progress: Progress | None = None
) -> _Seen:
    """Joins what ``look`` gives for a few frames at a time.

    Args:
        look: from frames ``[n, 3, h, w]`` to a tensor ``[n, ...]``, or to two of them.
        frames: ``[T, 3, h, w]``.
        chunk: frames at a time; None: 1 on the CPU, where no frame then changes a bit of another, and 16 elsewhere.
        progress: called as ``progress("network", done, total)`` after every chunk.
    """
    if is_open(frames.shape[0]):
        return look(frames)
    chunk = frames_at_once(chunk, frames.device)
    parts = []
    for start in range(0, len(frames), chunk):
        parts.append(look(frames[start : start + chunk]))
        if progress is not None:
            progress("network", min(start + chunk, len(frames)), len(frames))
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


@full_precision
def with_context(
    embedding: Tensor, objectness: Tensor, flow: Tensor, *, position_weight: float, motion_weight: float
) -> Features:
    """Features whose embedding says where a pixel is and how it moves as well.

    Args:
        embedding: ``[T, D, H, W]``.
        objectness: ``[T, H, W]`` in [0, 1]; objects count little towards the motion of the camera.
        flow: ``[T, 2, H, W]`` in pixels of the image.
        position_weight: weight of the two channels of position, whose values lie in [-1, 1] before it.
        motion_weight: weight of the two channels of motion, whose values lie in the same range.

    Returns:
        Features with an embedding ``[T, D + 4, H, W]`` in its dtype: as given (D), position (2), flow left over
        after the motion of the camera (2).
    """
    motion = squash(residual_flow(flow, weight=camera_weight(objectness).to(flow.dtype)))
    blocks = (embedding, position_weight * position(embedding), motion_weight * motion.to(embedding.dtype))
    return Features(torch.cat(blocks, 1), objectness, flow)


def position(like: Tensor) -> Tensor:
    """Coordinates of the grid, [-1, 1] along the longer side, ``[T, 2, H, W]`` for anything ``[T, C, H, W]``."""
    t, _, h, w = like.shape
    longer = max(h, w, 2) - 1
    y = (torch.arange(h, dtype=like.dtype, device=like.device) * 2 - (h - 1)) / longer
    x = (torch.arange(w, dtype=like.dtype, device=like.device) * 2 - (w - 1)) / longer
    return torch.stack((x.expand(h, w), y[:, None].expand(h, w))).expand(t, 2, h, w)


def squash(flow: Tensor) -> Tensor:
    """Shortens motion vectors ``[T, 2, H, W]`` to less than 1, relative to the typical length in the frame."""
    length: Tensor = flow.norm(dim=1, keepdim=True)
    typical: Tensor = length.flatten(1).mean(1)[:, None, None, None].clamp(min=0.25)
    return flow / (length + 2 * typical)


def grid_stride(h: int, w: int, largest: int = 4) -> int:
    """Pixels of the image per pixel of the grid.

    ``largest``, and less for frames whose shorter side would have fewer than 48 pixels on the grid, where small objects
    fall between the candidates.
    """
    return min(largest, max(1, min(h, w) // 48))


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``[N, C, H, W]`` to ``size``: averaged over areas where it shrinks, bilinear where it grows."""
    if tuple(x.shape[-2:]) == size:
        return x
    if x.shape[-2] >= size[0] and x.shape[-1] >= size[1]:
        return interpolate(x, size=size, mode="area")
    return interpolate(x, size=size, mode="bilinear", align_corners=False)
