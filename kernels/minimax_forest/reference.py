"""Minimum spanning forest rooted at the seeds, by Boruvka's algorithm, in plain torch.

Edges are ordered by (weight, edge index), so no two are equal. In every round each component without a seed hooks
onto the component at the other end of its smallest outgoing edge; components with a seed never hook. The minimax
distance from a pixel to its seed is the largest of the smallest outgoing edges of the components that the pixel
belonged to while they held no seed, so no path is ever walked. Rounds work on a shrinking graph of components.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks

_NO_EDGE = torch.iinfo(torch.int64).max


def minimax_forest(
    right: Tensor, down: Tensor, index: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Regions, distances to the own seed and distances between seeds, all minimax (largest edge on the path).

    Args:
        right: ``[N, H, W-1]`` non-negative weights between ``(y, x)`` and ``(y, x+1)``.
        down: ``[N, H-1, W]`` non-negative weights between ``(y, x)`` and ``(y+1, x)``.
        index: ``[N, K]`` int64 raster index of the seeds.
        valid: ``[N, K]`` bool.

    Returns:
        ``label [N, H, W]`` int64, ``distance [N, H, W]`` and ``seed_distance [N, K, K]`` in the weights' dtype
        (float32 for half types); -1 and inf where a frame has no valid seed.
    """
    n, h, w = right.shape[0], right.shape[1], down.shape[2]
    k = index.shape[1]
    dtype = torch.float64 if right.dtype == torch.float64 else torch.float32
    label = index.new_empty((n, h, w))
    distance = right.new_empty((n, h, w), dtype=dtype)
    between = right.new_empty((n, k, k), dtype=dtype)
    for block in blocks(n, 64 * h * w):
        weight = _edge_table(right[block].to(dtype), down[block].to(dtype))  # [n, H, W, 2]
        label[block], distance[block] = _grow(weight, index[block], valid[block])
        between[block] = _seed_distance(weight, label[block], distance[block], index[block], valid[block])
    return label, distance, between


def _edge_table(right: Tensor, down: Tensor) -> Tensor:
    """Weights by (pixel, direction), NaN where the grid ends; its flat order is the order of ties."""
    pad = torch.nn.functional.pad
    across, along = pad(right, (0, 1), value=torch.nan), pad(down, (0, 0, 0, 1), value=torch.nan)
    return torch.stack((across, along), -1) + 0.0  # -0.0 becomes 0.0: its bits must sort first


def _order_keys(weight: Tensor) -> Tensor:
    """Keys ``rank of the weight << 32`` of a flat table: bits of a non-negative float sort like the float."""
    if weight.dtype == torch.float32:
        return weight.view(torch.int32).to(torch.int64) << 32
    rank: Tensor = torch.unique(weight, return_inverse=True)[1]
    return rank << 32


def _first_round(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest edge of every pixel by a stencil: its weight ``[V]`` and the pixel at its other end ``[V]``."""
    n, h, w, _ = weight.shape
    flat = weight.flatten()
    missing = flat.isnan()
    key = (_order_keys(flat) | torch.arange(flat.numel(), device=flat.device)).masked_fill(missing, _NO_EDGE)
    key = key.view(n, h, w, 2)
    best = key.amin(-1)
    torch.minimum(best[:, :, 1:], key[:, :, :-1, 0], out=best[:, :, 1:])
    torch.minimum(best[:, 1:], key[:, :-1, :, 1], out=best[:, 1:])
    best = best.flatten()
    alone = best == _NO_EDGE  # a grid of one pixel
    edge = (best & 0xFFFFFFFF).masked_fill(alone, 0)
    start = edge >> 1
    end = start + torch.where(edge % 2 == 0, 1, w)
    here = torch.arange(best.numel(), device=flat.device)
    return flat[edge].masked_fill(alone, 0), torch.where(alone, here, start + end - here)


def _contract(label: Tensor, parent: Tensor) -> tuple[Tensor, Tensor]:
    """Merges components along their hooks: the new component of each ``[V]`` and the new labels."""
    here = torch.arange(parent.numel(), device=parent.device)
    pair = (parent[parent] == here) & (here < parent)  # two that chose one edge: the lower is the root
    parent = torch.where(pair, here, parent)
    while True:
        above = parent[parent]
        if torch.equal(above, parent):
            break
        parent = above
    root = parent == here
    number = root.cumsum(0) - 1
    return number[parent], label[root]


def _grow(weight: Tensor, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    n, h, w, _ = weight.shape
    k = index.shape[1]
    frame = torch.arange(n, device=index.device)[:, None] * (h * w)
    number = torch.arange(k, device=index.device).expand(n, k)
    label = index.new_full((n * h * w,), k)
    at = (index + frame)[valid]
    label = label.scatter_reduce(0, at, number[valid], "amin")
    label = torch.where(label == k, -1, label)
    smallest, other = _first_round(weight)
    levels: list[tuple[Tensor, Tensor]] = []
    here = torch.arange(label.numel(), device=label.device)
    flat = weight.flatten()
    edge = (~flat.isnan()).nonzero().squeeze(1)
    one, two = edge >> 1, (edge >> 1) + torch.where(edge % 2 == 0, 1, w)
    cost = flat[edge]
    while True:
        free = label < 0
        parent = torch.where(free, other, here)
        merged, next_label = _contract(label, parent)
        levels.append((merged, smallest.masked_fill(~free, 0)))
        label, one, two = next_label, merged[one], merged[two]
        useful = (one != two) & ((label[one] < 0) | (label[two] < 0))
        one, two, cost = one[useful], two[useful], cost[useful]
        if cost.numel() == 0:
            break
        smallest, other = _smallest_edges(one, two, cost, label.numel())
        here = torch.arange(label.numel(), device=label.device)
    distance = torch.where(label < 0, torch.inf, 0.0).to(weight.dtype)
    for merged, reached in reversed(levels):
        distance = torch.maximum(distance[merged], reached)
        label = label[merged]
    return label.view(n, h, w), distance.view(n, h, w)


def _smallest_edges(one: Tensor, two: Tensor, cost: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Smallest edge of every component: its weight and the component at its other end (itself if it has none)."""
    key = _order_keys(cost) | torch.arange(cost.numel(), device=cost.device)
    best = key.new_full((count,), _NO_EDGE)
    best.scatter_reduce_(0, one, key, "amin").scatter_reduce_(0, two, key, "amin")
    alone = best == _NO_EDGE
    edge = (best & 0xFFFFFFFF).masked_fill(alone, 0)
    here = torch.arange(count, device=cost.device)
    return cost[edge].masked_fill(alone, 0), torch.where(alone, here, one[edge] + two[edge] - here)


def _seed_distance(weight: Tensor, label: Tensor, distance: Tensor, index: Tensor, valid: Tensor) -> Tensor:
    """Minimax closure of the cheapest crossings between regions, ``[n, K, K]``."""
    n, k = index.shape
    table = distance.new_full((n * k * k,), torch.inf)
    base = (torch.arange(n, device=label.device) * (k * k))[:, None, None]
    crossings = (
        (label[:, :, :-1], label[:, :, 1:], distance[:, :, :-1], distance[:, :, 1:], weight[:, :, :-1, 0]),
        (label[:, :-1], label[:, 1:], distance[:, :-1], distance[:, 1:], weight[:, :-1, :, 1]),
    )
    for one, two, reach_one, reach_two, cost in crossings:
        crossing = (one != two) & (one >= 0) & (two >= 0)
        height = torch.maximum(torch.maximum(reach_one, reach_two), cost)[crossing]
        table.scatter_reduce_(0, (base + one * k + two)[crossing], height, "amin")
        table.scatter_reduce_(0, (base + two * k + one)[crossing], height, "amin")
    table = table.view(n, k, k)
    same = (index[:, :, None] == index[:, None]) & valid[:, :, None] & valid[:, None]
    table = table.masked_fill_(same, 0)
    for step in range(k):
        through = torch.maximum(table[:, :, step, None], table[:, step, None, :])
        table = torch.minimum(table, through)
    return table
