"""Permutohedral lattice around the features of every pixel, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks
from gpuvos.kernels.packing import Packing, packing

NO_POINT = torch.iinfo(torch.int64).max  # fills the key list after its last point


def permutohedral_lattice(
    features: Tensor, extent: list[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Lattice points around every pixel, with barycentric weights; the points of all frames in one sorted list.

    The unit of ``features`` is the standard deviation of the Gaussian that ``lattice_filter`` approximates. They are
    spread over d + 1 axes (``y``, orthogonal to (1, ..., 1)) and enclosed by the d + 1 points that come from
    ``floor(y)`` by adding one to the axes of the 0, 1, ..., d largest fractional parts; their weights are the gaps
    between the sorted fractional parts. See ``kernels/packing.py`` for keys.

    Args:
        features: ``[N, d, P]``; half types are computed in float32. Clamped to ``[0, extent]``.
        extent: d numbers, the largest value of every feature.

    Returns:
        ``index [N, d+1, P]`` int32, the number of each lattice point; ``weight [N, d+1, P]``, which sum to one;
        ``key [E]`` int64, keys of the points in ascending order, then the largest int64, with ``E = N (d+1) P``;
        ``order [E]`` int32, the entries of ``index`` (raveled) by point, and by entry where they share one;
        ``row [E]`` int32, the points of those entries; ``first [N+1]`` int64, the number of the first point of
        every frame, then the number of points.
    """
    n, d, p = features.shape
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    pack = packing(extent, n)
    corner = features.new_empty((n, d + 1, p), dtype=torch.int64)
    weight = features.new_empty((n, d + 1, p), dtype=dtype)
    for frame in range(n):
        for block in blocks(p, (4 * d + 6) * 8, budget=4 << 20):  # what stays in a core's cache
            values = [features[frame, k, block].to(dtype).clamp(0, extent[k]) for k in range(d)]
            _enclose(values, pack, frame, corner[frame, :, block], weight[frame, :, block])
    ordered, order = corner.view(-1).sort(stable=True)
    head = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=head[1:])
    row = head.cumsum(0, dtype=torch.int32) - 1
    index = torch.empty_like(row).scatter_(0, order, row).view(n, d + 1, p)
    key = torch.full_like(ordered, NO_POINT).scatter_(0, row.long(), ordered)
    ends = torch.arange(n + 1, device=key.device) << pack.frame
    return index, weight, key, order.int(), row, torch.searchsorted(key, ends)


def _enclose(values: list[Tensor], pack: Packing, frame: int, corner: Tensor, weight: Tensor) -> None:
    """Keys and weights ``[d+1, p]`` of the simplices around features ``d x [p]``."""
    d = len(values)
    spread = [value * scale for value, scale in zip(values, pack.scale, strict=True)]
    tail = torch.zeros_like(spread[0])  # sum of the later features
    key = torch.full_like(tail, (frame << pack.frame) + pack.offset, dtype=torch.int64)
    part: list[Tensor] = []  # fractional parts, last axis first
    step: list[Tensor] = []  # what the axis adds to a key
    for i in range(d, -1, -1):
        y = tail - i * spread[i - 1] if i else tail
        tail = tail + spread[i - 1] if i else tail
        whole = y.floor()
        key += whole.long() * pack.axes[i]
        part.append(y - whole)
        step.append(torch.full_like(key, pack.axes[i]))
    for last in range(d, 0, -1):  # bubble sort, largest first; of equal parts the later axis comes first
        for i in range(last):
            move = (step[i + 1] - step[i]) * (part[i] < part[i + 1])  # quicker than torch.where
            part[i : i + 2] = torch.maximum(part[i], part[i + 1]), torch.minimum(part[i], part[i + 1])
            step[i] += move
            step[i + 1] -= move
    corner[0], weight[0] = key, 1 - (part[0] - part[d])
    for i in range(d):
        key += step[i]
        corner[i + 1], weight[i + 1] = key, part[i] - part[i + 1]
