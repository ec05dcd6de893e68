"""Minimum spanning forest rooted at the seeds, by Boruvka's algorithm, in plain torch.

Edges are ordered by (weight, edge index), so no two are equal. In every round each component without a seed hooks
onto the component at the other end of its smallest outgoing edge; components with a seed never hook. The minimax
distance from a pixel to its seed is the largest of the smallest outgoing edges of the components that the pixel
belonged to while they held no seed, so no path is ever walked. Rounds work on a shrinking list of edges.

Look-ups are ``index_select``, and masks become lists of numbers before use: both are several times quicker than
indexing by tensors and masks on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from gpuvos.kernels.blocks import blocks

_CACHE_BYTES = 4 << 20  # of edges and components, so that the rounds stay in a processor's cache
_NO_EDGE = 0x7F800001 << 32  # from here on keys are of edges that do not exist: the bits of NaN


def minimax_forest(right: Tensor, down: Tensor, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
    seed_distance = right.new_empty((n, k, k), dtype=dtype)
    for block in blocks(n, 64 * h * w, budget=_CACHE_BYTES):
        weight = _edge_table(right[block].to(dtype), down[block].to(dtype))  # [n, H, W, 2]
        label[block], distance[block] = _grow(weight, index[block], valid[block])
        seed_distance[block] = _lowest_crossings(weight, label[block], distance[block], k)
    for block in blocks(n, 32 * k * k):  # many frames at a time: Prim's algorithm takes k steps for any number
        both = valid[block, :, None] & valid[block, None]
        same = (index[block, :, None] == index[block, None]) & both
        closed = _minimax_closure(seed_distance[block].masked_fill_(same, 0))
        seed_distance[block] = closed.masked_fill_(~both, torch.inf)
    return label, distance, seed_distance


def _edge_table(right: Tensor, down: Tensor) -> Tensor:
    """Weights by (pixel, direction), NaN where the grid ends; its flat order is the order of ties."""
    across, along = pad(right, (0, 1), value=torch.nan), pad(down, (0, 0, 0, 1), value=torch.nan)
    return torch.stack((across, along), -1).abs_()  # -0.0 becomes 0.0: its bits must sort first


def _order_keys(weight: Tensor) -> Tensor:
    """Keys ``(rank of the weight << 32) | edge`` of a table: bits of a non-negative float sort like the float."""
    flat = weight.flatten()
    if weight.dtype == torch.float32:
        rank = flat.view(torch.int32).long()
    else:
        rank = torch.unique(flat, return_inverse=True)[1].masked_fill_(flat.isnan(), _NO_EDGE >> 32)
    return (rank << 32).add_(torch.arange(flat.numel(), device=flat.device)).view(weight.shape)


def _grow(weight: Tensor, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    n, h, w, _ = weight.shape
    key = _order_keys(weight)
    label = _seed_numbers(index, valid, h * w)
    component = torch.arange(n * h * w, device=label.device)  # of every pixel
    smallest, key = _smallest_of_pixels(key), key.flatten()
    levels: list[tuple[Tensor, Tensor]] = []
    one = two = component  # pixels at the ends of the edges that are left; the first round takes them from the grid
    while True:
        parent, reached = _hook(label, smallest, component, weight)
        merged, root = _contract(parent)
        levels.append((merged, reached))
        label, component = label.index_select(0, root), merged.index_select(0, component)
        # edges inside of a component are of no more use, nor are those between two that hold seeds
        alias = torch.arange(len(label), device=label.device).where(label < 0, -1).index_select(0, component)
        if len(levels) == 1:
            left = _edges_between(alias.view(n, h, w))
            one, two = _ends(left, w)
        else:
            left = (alias.index_select(0, one) != alias.index_select(0, two)).nonzero().squeeze(1)
            one, two = one.index_select(0, left), two.index_select(0, left)
        if len(left) == 0:
            break
        key = key.index_select(0, left)
        smallest = key.new_full((len(label),), _NO_EDGE)
        for end in (one, two):
            smallest.scatter_reduce_(0, component.index_select(0, end), key, "amin")
    distance = torch.where(label < 0, torch.inf, 0.0).to(weight.dtype)
    for merged, reached in reversed(levels):
        distance = torch.maximum(distance.index_select(0, merged), reached)
    return label.index_select(0, component).view(n, h, w), distance.view(n, h, w)


def _hook(label: Tensor, smallest: Tensor, component: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The component that each hooks onto over its smallest edge (itself with a seed), and the weight of that edge."""
    here = torch.arange(len(label), device=label.device)
    edge = smallest & 0xFFFFFFFF
    one, two = _ends(edge, weight.shape[2])
    two.clamp_(max=len(component) - 1)  # there may be no edge
    other = component.index_select(0, one) + component.index_select(0, two) - here
    hooks = (label < 0) & (smallest < _NO_EDGE)
    return other.where(hooks, here), torch.where(hooks, weight.flatten().index_select(0, edge), 0)


def _seed_numbers(index: Tensor, valid: Tensor, pixels: int) -> Tensor:
    """Number of the seed at every pixel, the lowest where there are several, -1 where there is none."""
    n, k = index.shape
    place = torch.where(valid, index, 0) + torch.arange(n, device=index.device)[:, None] * pixels
    number = torch.arange(k, device=index.device).where(valid, k)
    label = index.new_full((n * pixels,), k).scatter_reduce_(0, place.flatten(), number.flatten(), "amin")
    return label.masked_fill_(label == k, -1)


def _smallest_of_pixels(key: Tensor) -> Tensor:
    """Smallest key of the edges of every pixel, by a stencil: ``[n, H, W, 2]`` -> ``[n H W]``."""
    right, down = key.unbind(-1)
    best = torch.minimum(right, down)
    torch.minimum(best[:, :, 1:], right[:, :, :-1], out=best[:, :, 1:])
    torch.minimum(best[:, 1:], down[:, :-1], out=best[:, 1:])
    return best.flatten()


def _ends(edge: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The two pixels of an edge."""
    pixel = edge >> 1
    return pixel, pixel + 1 + (edge & 1) * (width - 1)


def _edges_between(component: Tensor) -> Tensor:
    """Edges between unlike pixels of ``[n, H, W]``, in order."""
    unlike = torch.zeros((*component.shape, 2), dtype=torch.bool, device=component.device)
    torch.ne(component[:, :, :-1], component[:, :, 1:], out=unlike[:, :, :-1, 0])
    torch.ne(component[:, :-1], component[:, 1:], out=unlike[:, :-1, :, 1])
    return unlike.flatten().nonzero().squeeze(1)


def _contract(parent: Tensor) -> tuple[Tensor, Tensor]:
    """Merges components along their hooks: the new component of each ``[V]``, and which are the roots."""
    here = torch.arange(len(parent), device=parent.device)
    above = parent.index_select(0, parent)
    # two that chose one edge: the lower is the root
    parent = torch.where(above == here, torch.minimum(here, parent), parent)
    while True:
        above = parent.index_select(0, parent)
        if torch.equal(above, parent):
            break
        parent = above
    root = parent == here
    number = root.cumsum(0) - 1
    return number.index_select(0, parent), root.nonzero().squeeze(1)


def _lowest_crossings(weight: Tensor, label: Tensor, distance: Tensor, k: int) -> Tensor:
    """Lowest ``max(d(p), w_pq, d(q))`` over neighbours p, q of two regions, ``[n, K, K]``."""
    n = len(label)
    table = distance.new_full((n, k * k), torch.inf)
    if k:
        label = label.clamp(min=0)  # no seed: all distances are inf
        sides = (
            (
                label[:, :, :-1],
                label[:, :, 1:],
                distance[:, :, :-1],
                distance[:, :, 1:],
                weight[:, :, :-1, 0],
            ),
            (label[:, :-1], label[:, 1:], distance[:, :-1], distance[:, 1:], weight[:, :-1, :, 1]),
        )
        for one, two, reach_one, reach_two, cost in sides:
            height = torch.maximum(torch.maximum(reach_one, reach_two), cost)
            table.scatter_reduce_(1, (one * k + two).flatten(1), height.flatten(1), "amin")
    table = table.view(n, k, k)
    return torch.minimum(table, table.mT)


def _minimax_closure(table: Tensor) -> Tensor:
    """Minimax distances ``[n, K, K]`` from the heights of single crossings, by Prim's algorithm on all tables at once.

    In the order in which seeds join, any two are as far from each other as the largest step after the first of them.
    """
    n, k = table.shape[:2]
    bits = table.view(torch.int64 if table.dtype == torch.float64 else torch.int32)  # they sort as the numbers do
    taken = torch.iinfo(bits.dtype).max
    rows, first = bits.flatten(0, 1), torch.arange(n, device=bits.device)[:, None] * k
    joined = bits.new_zeros((n, k))  # all bits of those that have
    reach = bits.new_full((n, k), taken - 1)  # height of the crossing to those that have joined
    step, order = reach.new_empty((n, 1)), first.new_empty((k, n, 1))
    away = reach.new_full((k + 1, n, k), taken)  # from the seed that joins to those that have joined
    for seed, before, now in zip(order, away, away[1:], strict=False):
        torch.min(reach, 1, keepdim=True, out=(step, seed))
        torch.maximum(before, step, out=now).scatter_(1, seed, 0)
        joined.scatter_(1, seed, taken)
        torch.minimum(reach, rows.index_select(0, (first + seed).flatten()), out=reach)
        torch.maximum(reach, joined, out=reach)
    away = away[1:].transpose(0, 1)  # [n, step, K]
    closed = torch.empty_like(bits).scatter_(1, order.movedim(0, 1).expand(-1, -1, k), away)
    return torch.minimum(closed, closed.mT).view(table.dtype)
