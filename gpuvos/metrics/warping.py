"""Matching two outlines in order: dynamic time warping of a table of costs, all pairs of outlines at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Path(NamedTuple):
    """Matched points from the last pair back to the first; what comes after the first has an infinite cost."""

    row: Tensor  # [P, L] point of the first outline
    column: Tensor  # [P, L] point of the second
    cost: Tensor  # [P, L]


def matching_cost(cost: Tensor, n: Tensor, m: Tensor) -> Tensor:
    """Mean cost of the pairs of points that closed outlines are matched by.

    Warped once, the outlines begin anew behind the cheapest pair (the last of equals) and are warped again. Of all
    pairs of a point of the first outline only the cheapest stays, then of those of a point of the second.

    Args:
        cost: ``[P, N, M]`` float, of every point of the first outline with every one of the second; not negative.
        n: [P] int64, number of points of the first outline, at most N.
        m: [P] int64, of the second, at most M.

    Returns:
        [P].
    """
    path = warp(cost, n, m)
    origin = (path.row == 0) & (path.column == 0)
    cheapest = path.cost.masked_fill(origin, math.inf).argmin(1, keepdim=True)
    row = (_index(cost, 1) + path.row.gather(1, cheapest) + 1) % n[:, None]  # [P, N]
    column = (_index(cost, 2) + path.column.gather(1, cheapest) + 1) % m[:, None]  # [P, M]
    rolled = torch.stack([c[i][:, j] for c, i, j in zip(cost, row, column, strict=True)])
    path = warp(rolled, n, m)
    row, column = row.gather(1, path.row), column.gather(1, path.column)
    kept = _cheapest_of_each(row, path.cost, _index(row, 1).expand_as(row))
    kept &= _cheapest_of_each(column, path.cost.masked_fill(~kept, math.inf), row)
    return path.cost.masked_fill(~kept, 0.0).sum(1) / kept.sum(1)


def warp(cost: Tensor, n: Tensor, m: Tensor) -> Path:
    """Dynamic time warping: the path of least total cost from (0, 0) to (n - 1, m - 1).

    ``D(i, j) = C(i, j) + min(D(i - 1, j - 1), D(i - 1, j), D(i, j - 1))``; of equals the one named first. Args and
    shapes as of ``matching_cost``; L is N + M - 1.
    """
    diagonal, right = _sources(cost)
    number = torch.arange(len(cost), device=cost.device)
    row, column = n - 1, m - 1
    rows, columns = [], []
    for _ in range(len(diagonal)):
        rows.append(row)
        columns.append(column)
        both, only = (where[row + column, number, row] for where in (diagonal, right))
        row = row - (both | ~only).long()
        column = column - (both | only).long()
        # Beyond (0, 0) the path stays at the point (0, -1), which is no pair.
        row, column = row.clamp_min(0), column.clamp_min(-1)
    path_row, path_column = torch.stack(rows, 1), torch.stack(columns, 1)
    along = cost.flatten(1).gather(1, path_row * cost.shape[2] + path_column.clamp_min(0))
    over = path_column < 0
    return Path(path_row, path_column.clamp_min(0), along.masked_fill(over, math.inf))


def _sources(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Where the best path to every cell of costs ``[P, N, M]`` comes from: [N + M - 1, P, N] bool, by i + j and i.

    The first is True where it comes from (i - 1, j - 1), the second where (i, j - 1) is better than (i - 1, j). Cells
    of one i + j depend only on the two sums before, so they are computed together.
    """
    pairs, rows, columns = cost.shape
    cost = cost.contiguous()
    diagonal, right = torch.zeros(2, rows + columns - 1, pairs, rows, dtype=torch.bool, device=cost.device)
    # Totals of three sums, at i + 1. What lies beside their cells is infinite, or old and never read.
    before, last, here = (cost.new_full((pairs, rows + 1), math.inf) for _ in range(3))
    last[:, 1] = cost[:, 0, 0]
    right[0] = True
    for total in range(1, rows + columns - 1):
        low, high = max(0, total - columns + 1), min(rows, total + 1)
        # C(i, total - i) lies at i (M - 1) + total.
        offset = cost.storage_offset() + low * (columns - 1) + total
        step = cost.as_strided((pairs, high - low), (rows * columns, columns - 1), offset)
        from_both, from_row, from_column = before[:, low:high], last[:, low:high], last[:, low + 1 : high + 1]
        one = torch.minimum(from_row, from_column)
        torch.le(from_both, one, out=diagonal[total, :, low:high])
        torch.lt(from_column, from_row, out=right[total, :, low:high])
        torch.add(torch.minimum(from_both, one), step, out=here[:, low + 1 : high + 1])
        before, last, here = last, here, before
    return diagonal, right


def _cheapest_of_each(point: Tensor, cost: Tensor, order: Tensor) -> Tensor:
    """The pair of least cost of every point ``[P, L]``, the first of equals, from costs and orders ``[P, L]``."""
    pairs = point.shape[0]
    least = cost.new_full((pairs, cost.shape[1]), math.inf).scatter_reduce(1, point, cost, "amin")
    equal = (cost == least.gather(1, point)) & cost.isfinite()
    last = torch.iinfo(torch.int64).max
    first = torch.full_like(order, last).scatter_reduce(1, point, order.masked_fill(~equal, last), "amin")
    return equal & (order == first.gather(1, point))


def _index(values: Tensor, dimension: int) -> Tensor:
    """[1, values.shape[dimension]] int64: 0, 1, ..."""
    return torch.arange(values.shape[dimension], device=values.device)[None]
