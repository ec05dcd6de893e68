"""Multi-source shortest paths on the grid, relaxed to the fixed point, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks


def shortest_forest(
    right: Tensor, down: Tensor, index: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Regions by additive shortest paths, their length, and the largest edge on them.

    Ties go to the lowest seed number, then to the path with the smaller largest edge, so every region is connected.

    Args:
        right: ``[N, H, W-1]`` non-negative weights.
        down: ``[N, H-1, W]`` non-negative weights.
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
        label[block], distance[block], largest[block] = _relax(
            right[block].to(dtype), down[block].to(dtype), index[block], valid[block]
        )
    return label, distance, largest


def _relax(right: Tensor, down: Tensor, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, h, w = right.shape[0], right.shape[1], down.shape[2]
    k = index.shape[1]
    number = torch.arange(k, device=index.device).expand(n, k)
    slot = torch.where(valid, index, h * w)
    label = index.new_full((n, h * w + 1), k).scatter_reduce(1, slot, number, "amin")[:, :-1].reshape(n, h, w)
    state = (
        torch.where(label < k, 0.0, torch.inf).to(right.dtype),
        label,
        torch.where(label < k, 0.0, torch.inf).to(right.dtype),
    )
    left_part, right_part = (
        (slice(None), slice(None), slice(None, -1)),
        (slice(None), slice(None), slice(1, None)),
    )
    upper_part, lower_part = (slice(None), slice(None, -1)), (slice(None), slice(1, None))
    moves = ((left_part, right_part, right), (right_part, left_part, right),
             (upper_part, lower_part, down), (lower_part, upper_part, down))  # fmt: skip
    while True:
        before = tuple(value.clone() for value in state)
        for source, target, cost in moves:
            _offer(state, source, target, cost)
        if all(torch.equal(old, new) for old, new in zip(before, state, strict=True)):
            break
    distance, label, largest = state
    return label.masked_fill(label == k, -1), distance, largest


def _offer(
    state: tuple[Tensor, Tensor, Tensor], source: tuple[slice, ...], target: tuple[slice, ...], cost: Tensor
) -> None:
    """Lets every pixel of ``target`` take the path through its neighbour in ``source`` if that one is less."""
    distance, label, largest = state
    length, number = distance[source] + cost, label[source]
    height = torch.maximum(largest[source], cost)
    old_length, old_number, old_height = distance[target], label[target], largest[target]
    less = (number < old_number) | ((number == old_number) & (height < old_height))
    less = (length < old_length) | ((length == old_length) & less)
    less &= length < torch.inf
    distance[target] = torch.where(less, length, old_length)
    label[target] = torch.where(less, number, old_number)
    largest[target] = torch.where(less, height, old_height)
