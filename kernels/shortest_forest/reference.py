"""Multi-source shortest paths on the grid, relaxed to the fixed point, in plain torch.

The pixels of all frames lie in one row, line after line, so that a move is a shift: by 1 along a line, by W to the next
line. Where a grid ends, moves cost infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from gpuvos.kernels.blocks import blocks

_CACHE_BYTES = 4 << 20  # of values and costs, which are gone over many times


class _Moves(NamedTuple):
    """What it costs to go from pixel i to pixel i + shift, and what to go back; both ``[P - shift]``."""

    shift: int
    forth: Tensor
    back: Tensor


def shortest_forest(right: Tensor, down: Tensor, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
    for block in blocks(n, 16 * h * w, budget=_CACHE_BYTES):
        across = _weights(pad(right[block].to(dtype), (0, 1), value=torch.inf), 1)
        along = _weights(pad(down[block].to(dtype), (0, 0, 0, 1), value=torch.inf), w)
        grown = _grow([across, along], _seed_numbers(index[block], valid[block], h * w), index.shape[1])
        label[block], distance[block], largest[block] = (value.view(-1, h, w) for value in grown)
    return label, distance, largest


def _weights(table: Tensor, shift: int) -> _Moves:
    """Moves that cost the same both ways."""
    flat = table.flatten()[: table.numel() - shift]
    cost = flat.clamp(min=0).masked_fill_(flat.isnan(), torch.inf)
    return _Moves(shift, cost, cost)


def _seed_numbers(index: Tensor, valid: Tensor, pixels: int) -> Tensor:
    """Number of the seed at every pixel, the lowest where there are several, K where there is none: ``[N pixels]``."""
    n, k = index.shape
    number = torch.arange(k, device=index.device, dtype=torch.int32).expand(n, k)
    slot = torch.where(valid, index, pixels)
    label = number.new_full((n, pixels + 1), k).scatter_reduce_(1, slot, number, "amin")
    return label[:, :-1].flatten()


def _grow(weights: list[_Moves], label: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    distance = torch.where(label < k, 0.0, torch.inf).to(weights[0].forth.dtype)
    _relax(distance, weights, torch.add)
    # Labels follow the edges of shortest paths once all distances are final. In one race with the distances a path
    # could win a tie that rounding made, through a pixel that goes to another seed later.
    tight = [_tight(moves, distance) for moves in weights]
    # One shortest path to every pixel: as a rule there is no other, and nothing is left to relax.
    root, largest = _paths(tight, distance)
    reached = label.index_select(0, root)
    label = torch.minimum(label, reached)
    free = [_Moves(shift, *(torch.where(cost < torch.inf, 0, k).int() for cost in both)) for shift, *both in tight]
    _relax(label, free, torch.maximum)
    nowhere = label == k
    largest.masked_fill_((label != reached) | nowhere, torch.inf)  # a path to another seed than its own
    inside = []
    for shift, *both in tight:
        leaves = label[:-shift] != label[shift:]
        inside.append(_Moves(shift, *(cost.masked_fill(leaves, torch.inf) for cost in both)))
    _relax(largest, inside, torch.maximum)
    return label.long().masked_fill_(nowhere, -1), distance, largest


def _tight(moves: _Moves, distance: Tensor) -> _Moves:
    """The moves that shortest paths take; the others cost infinity."""
    first, second = distance[: -moves.shift], distance[moves.shift :]
    forth = (first + moves.forth == second) & (second < torch.inf)
    back = (second + moves.back == first) & (first < torch.inf)
    return _Moves(moves.shift, torch.where(forth, moves.forth, torch.inf), torch.where(back, moves.back, torch.inf))


def _paths(tight: list[_Moves], distance: Tensor) -> tuple[Tensor, Tensor]:
    """Where one shortest path to every pixel begins, and the largest edge on it, by pointer doubling."""
    here = torch.arange(len(distance), device=distance.device, dtype=torch.int32)
    before, largest = here.clone(), torch.zeros_like(distance)
    for shift, *both in tight:
        first, second = slice(None, -shift), slice(shift, None)
        for source, target, cost in zip((first, second), (second, first), both, strict=True):
            taken = (cost < torch.inf) & (distance[source] < distance[target])  # strictly: no circles
            before[target] = torch.where(taken, here[source], before[target])
            largest[target] = torch.where(taken, cost, largest[target])
    while True:
        above = before.index_select(0, before)
        if torch.equal(above, before):
            return before, largest
        largest = torch.maximum(largest, largest.index_select(0, before))
        before = above


def _relax(value: Tensor, moves: list[_Moves], join: Callable[..., Tensor]) -> None:
    """Lowers every pixel of ``value`` in place to the least ``join(value of a neighbour, cost of the move)``."""
    room = torch.empty_like(value)
    while True:
        before = value.clone()
        for shift, forth, back in moves * 2:  # a look whether anything changed costs a quarter of a sweep
            first, second, joined = value[:-shift], value[shift:], room[shift:]
            torch.minimum(second, join(first, forth, out=joined), out=second)
            torch.minimum(first, join(second, back, out=joined), out=first)
        if torch.equal(before, value):
            break
