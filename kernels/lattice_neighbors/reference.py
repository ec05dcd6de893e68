"""Neighbours of lattice points along every axis, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.packing import packing

_ODD = -7046029254386353131  # 2^64 divided by the golden ratio: spreads keys over a table


def lattice_neighbors(key: Tensor, extent: list[float], frames: int, capacity: int) -> Tensor:
    """Numbers of the points one step ahead and one step back along each axis of the lattice.

    A hash table that forgets (a later point takes the slot of an earlier one) answers most questions at once;
    whoever finds a stranger in the slot looks into the sorted list.

    Args:
        key: ``[E]`` int64, of ``permutohedral_lattice``.
        extent: as there.
        frames: N of there.
        capacity: how many points to answer for, M; points after that are no neighbours of anything.

    Returns:
        ``[2, d+1, M]`` int32, ahead and back; M where the lattice has no such point.
    """
    axes = packing(extent, frames).axes
    points = key[:capacity].contiguous()
    points = torch.nn.functional.pad(points, (0, capacity + 1 - len(points)), value=-1)  # the last: no point
    points[capacity] = -1
    number = torch.arange(capacity, dtype=torch.int32, device=key.device)
    bits = max(1, (4 * capacity).bit_length())
    table = number.new_full((1 << bits,), capacity)
    table.index_copy_(0, _slot(points[:capacity], bits), number)
    neighbor = number.new_full((2, len(axes), capacity + 1), capacity)
    for i, axis in enumerate(axes):
        wanted = points[:capacity] + axis
        found = table.index_select(0, _slot(wanted, bits))
        miss = points.index_select(0, found) != wanted
        stranger = (miss & (found < capacity)).nonzero()[:, 0]
        found.masked_fill_(miss, capacity)
        asked = wanted.index_select(0, stranger)
        where = torch.searchsorted(points[:capacity], asked, out_int32=True)
        valid = points.index_select(0, where) == asked
        found.index_copy_(0, stranger, where.masked_fill_(~valid, capacity))
        neighbor[0, i, :capacity] = found
        neighbor[1, i].index_copy_(0, found.long(), number)  # those of nobody meet in the place that is cut off
    return neighbor[..., :capacity].contiguous()


def _slot(key: Tensor, bits: int) -> Tensor:
    return (key * _ODD >> (64 - bits)) & ((1 << bits) - 1)
