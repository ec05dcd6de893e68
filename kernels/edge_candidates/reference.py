"""Candidate points from the squared distances along edges, and the steps to them, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from gpuvos.kernels.blocks import blocks
from gpuvos.kernels.shapes import is_open


def edge_candidates(right: Tensor, down: Tensor, window: int, reduce: str, temperature: float) -> Tensor:
    """The pixels whose edge value is the least of a window around them, Eq. 4-5.

    The edge value is the largest squared distance to a neighbour (``max``), which is in the order of Eq. 4 and does
    not saturate, or the mean of ``1 - R`` over the neighbours (``mean``).

    Args:
        right: ``[N, H, W-1]`` squared distances between horizontal neighbours, of any floating type.
        down: ``[N, H-1, W]`` between vertical ones.
        window: odd side of the window, which is cut at the border.
        reduce: ``max`` or ``mean``.
        temperature: what squared distances are divided by in ``1 - R``.

    Returns:
        ``[N, H, W]`` bool.
    """
    dtype = torch.float64 if right.dtype == torch.float64 else torch.float32
    n, h, w = *right.shape[:2], down.shape[2]
    candidates = right.new_empty((n, h, w), dtype=torch.bool)
    for block in blocks(n, 8 * h * w * dtype.itemsize):
        across, along = right[block].to(dtype), down[block].to(dtype)
        if reduce == "mean":
            across, along = dissimilarity(across, temperature), dissimilarity(along, temperature)
        candidates[block] = is_window_minimum(reduce_edges(across, along, reduce), window)
    return candidates


def dissimilarity(squared_distance: Tensor, temperature: float | Tensor) -> Tensor:
    """``1 - R`` of Eq. 1."""
    return torch.tanh(squared_distance / (2 * temperature))


def reduce_edges(right: Tensor, down: Tensor, reduce: str) -> Tensor:
    """Largest (``max``) or mean value ``[..., H, W]`` of the edges of every pixel, none negative; 0 without an edge."""
    sides = (pad(right, (0, 1)), pad(right, (1, 0)), pad(down, (0, 0, 0, 1)), pad(down, (0, 0, 1, 0)))
    if reduce == "max":
        return torch.maximum(torch.maximum(sides[0], sides[1]), torch.maximum(sides[2], sides[3]))
    h, w = sides[0].shape[-2:]
    across = (torch.arange(w, device=right.device) > 0).int()
    along = (torch.arange(h, device=right.device) > 0).int()
    count = across + across.flip(0) + (along + along.flip(0))[:, None]
    return (sides[0] + sides[1] + sides[2] + sides[3]) / count.clamp(min=1)


def is_window_minimum(values: Tensor, window: int) -> Tensor:
    """Where ``values [..., H, W]`` are the minimum of the window around them; a window with a NaN has none."""
    smallest = values
    for axis in (-1, -2):
        size = values.shape[axis]
        reach = window // 2 if is_open(size) else min(window // 2, size - 1)
        if reach > 0:
            smallest = _sliding_minimum(smallest, reach, axis)
    return values == smallest


def _sliding_minimum(values: Tensor, reach: int, axis: int) -> Tensor:
    """Minimum of ``2 reach + 1`` values along an axis, from windows of half the width."""
    values = pad(values, (reach, reach) if axis == -1 else (0, 0, reach, reach), value=torch.inf)
    width = 1
    while width < 2 * reach + 1:
        step = min(width, 2 * reach + 1 - width)
        length = values.shape[axis] - step
        values = torch.minimum(values.narrow(axis, 0, length), values.narrow(axis, step, length))
        width += step
    return values
