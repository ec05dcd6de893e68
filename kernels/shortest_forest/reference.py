"""Multi-source shortest paths on the grid, relaxed to the fixed point, in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks

_ALL = slice(None)
_LEFT, _RIGHT = (_ALL, _ALL, slice(None, -1)), (_ALL, _ALL, slice(1, None))
_UPPER, _LOWER = (_ALL, slice(None, -1)), (_ALL, slice(1, None))
_MOVES = ((_LEFT, _RIGHT), (_RIGHT, _LEFT), (_UPPER, _LOWER), (_LOWER, _UPPER))  # from, to


def shortest_forest(
    right: Tensor, down: Tensor, index: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Regions by additive shortest paths, their length, and the largest edge on them.

    Ties go to the lowest seed number, then to the path with the smaller largest edge, so every region is connected.

    Args:
        right: ``[N, H, W-1]`` weights; a NaN is a wall, below zero is zero (paths would go around for ever).
        down: ``[N, H-1, W]``.
        index: ``[N, K]`` int64 raster index of the seeds.
        valid: ``[N, K]`` bool.

    Returns:
        ``label`` int64, ``distance`` and ``largest``, all ``[N, H, W]``; -1 and inf where no seed reaches.
    """
    n, h, w = right.shape[0], right.shape[1], down.shape[2]
    dtype = torch.float64 if right.dtype == torch.float64 else torch.float32
    label = index.new_empty((n, h, w))
    distance = right.new_empty((n, h, w), dtype=dtype)
    largest = torch.empty_like(distance)
    for block in blocks(n, 16 * h * w, budget=4 << 20):  # stays in the cache over the many sweeps
        label[block], distance[block], largest[block] = _grow(
            right[block].to(dtype).clamp(min=0),
            down[block].to(dtype).clamp(min=0),
            index[block],
            valid[block],
        )
    return label, distance, largest


def _grow(right: Tensor, down: Tensor, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, h, w = right.shape[0], right.shape[1], down.shape[2]
    k = index.shape[1]
    number = torch.arange(k, device=index.device).expand(n, k)
    slot = torch.where(valid, index, h * w)
    label = index.new_full((n, h * w + 1), k).scatter_reduce(1, slot, number, "amin")[:, :-1].reshape(n, h, w)
    distance = torch.where(label < k, 0.0, torch.inf).to(right.dtype)
    largest = distance.clone()
    costs = (right, right, down, down)
    _relax(distance, costs, torch.add)
    # Labels follow the edges of shortest paths once all distances are final. In one race with the distances a path
    # could win a tie that rounding made, through a pixel that goes to another seed later.
    tight = [
        (distance[source] + cost == distance[target]) & (distance[target] < torch.inf)
        for (source, target), cost in zip(_MOVES, costs, strict=True)
    ]
    _relax(label, [torch.where(on, 0, k) for on in tight], torch.maximum)
    inside = [
        torch.where(on & (label[source] == label[target]), cost, torch.inf)
        for (source, target), on, cost in zip(_MOVES, tight, costs, strict=True)
    ]
    _relax(largest, inside, torch.maximum)
    return label.masked_fill(label == k, -1), distance, largest


def _relax(value: Tensor, costs: Sequence[Tensor], join: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Lowers every pixel of ``value`` in place to the least ``join(value of a neighbour, cost of the move)``."""
    while True:
        before = value.clone()
        for (source, target), cost in zip(_MOVES, costs, strict=True):
            value[target] = torch.fmin(value[target], join(value[source], cost))  # a NaN never spreads
        if torch.equal(before, value):
            break
