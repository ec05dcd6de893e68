"""Mean label of the nearest points of every row, in plain torch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from gpuvos.kernels.backend import needs_plain
from gpuvos.kernels.blocks import BLOCK_BYTES, blocks

_CACHE_BYTES = 4 << 20  # of distances to all points, so that they stay in a processor's cache


def neighbor_mean(
    rows: Tensor, points: Tensor, valid: Tensor, label: Tensor, wanted: Tensor, most: int
) -> tuple[Tensor, Tensor]:
    """Mean label of the nearest points, and how far the last of them is.

    Points as far as the last count as well, so that the order of equal distances does not matter.

    Args:
        rows: ``[B, R, D]``; half types are computed in float32. The nearer to 0 they and the points lie, the more
            exact distances are.
        points: ``[B, A, D]``.
        valid: ``[B, A]`` bool, which points there are.
        label: ``[B, A]`` of the points.
        wanted: ``[B]`` int64 from 1 to ``most``: how many points are neighbours; all where there are fewer.
        most: the largest of ``wanted``, at most A.

    Returns:
        The mean ``[B, R]``, 0 where there is no point, and the radius ``[B, R]``: of the last neighbour p of row r the
        value of ``|p|^2 - 2 r.p``, which is the squared distance but for ``|r|^2``.
    """
    rows, points = _wide(rows, points)
    radius = rows.new_empty((*rows.shape[:2], 1))
    place = (wanted - 1)[:, None, None]
    folds = _folds(points.shape[1], most)

    def search(block: slice, distance: Tensor) -> None:
        nearest = smallest(distance, most, folds)
        last = nearest.gather(-1, place.expand(-1, nearest.shape[1], 1))
        radius[:, block] = last.clamp(max=torch.finfo(nearest.dtype).max)  # points at inf are not there

    mean = torch.zeros_like(radius[..., 0])
    if points.shape[1]:
        mean = _means(rows, points, valid, label, radius, most, search)
    return mean, radius[..., 0] if points.shape[1] else torch.full_like(mean, torch.finfo(mean.dtype).max)


def mean_within(rows: Tensor, points: Tensor, valid: Tensor, label: Tensor, radius: Tensor, most: int) -> Tensor:
    """Mean of another label of the same points; ``radius [B, R]`` and the rest as in ``neighbor_mean``."""
    rows, points = _wide(rows, points)
    if points.shape[1] == 0:
        return torch.zeros_like(radius)
    return _means(rows, points, valid, label, radius[..., None], most)


def neighbor_mean_backward(
    rows: Tensor, points: Tensor, valid: Tensor, radius: Tensor, most: int, grad: Tensor
) -> Tensor:
    """Gradient ``[B, A]`` of the label from that of the mean ``[B, R]``."""
    rows, points = _wide(rows, points)
    pulled = grad.new_zeros(points.shape[:2]).double()
    for block, distance in _distances(rows, points, valid, most):
        near = (distance <= radius[:, block, None]).double()
        share = grad[:, block].double() / near.sum(-1).clamp(min=1)
        pulled = pulled + (share[:, None] @ near)[:, 0, : points.shape[1]]
    return pulled.to(rows.dtype)


def _wide(rows: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if torch.float64 in (rows.dtype, points.dtype) else torch.float32
    return rows.to(dtype), points.to(dtype)


def _means(
    rows: Tensor,
    points: Tensor,
    valid: Tensor,
    label: Tensor,
    radius: Tensor,
    most: int,
    search: object = None,
) -> Tensor:
    """Means within the radius ``[B, R, 1]``, which ``search`` finds first."""
    spare = -points.shape[1] % _folds(points.shape[1], most)
    values = pad(label.double().masked_fill(~valid, 0), (0, spare))
    means = values.new_empty(rows.shape[:2])
    room = _Room(values)
    for block, distance in _distances(rows, points, valid, most, label):
        if callable(search):
            search(block, distance)
        near = distance.le_(radius[:, block])  # [B, rows, A], 1 or 0: a mask would be slower
        count = near.sum(-1).clamp(min=1)
        if room.taken_again:
            means[:, block] = room.of(near.shape).copy_(near).mul_(values[:, None]).sum(-1) / count
        else:
            means[:, block] = (near.double() * values[:, None]).sum(-1) / count
    return means.to(rows.dtype)


def _distances(
    rows: Tensor, points: Tensor, valid: Tensor, most: int, *others: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Rows a few at a time, and ``|p|^2 - 2 r.p`` of theirs: ``[B, rows, A]``, inf for what is not there.

    What comes next may overwrite them, unless a gradient or tangent goes through these tensors or through ``others``.
    """
    spare = -points.shape[1] % _folds(points.shape[1], most)
    points, valid = pad(points, (0, 0, 0, spare)), pad(valid, (0, spare))
    offset = points.square().sum(-1).masked_fill(~valid, torch.inf)
    budget = _CACHE_BYTES if rows.device.type == "cpu" else BLOCK_BYTES
    room = _Room(rows, points, *others)
    for block in blocks(rows.shape[1], 16 * offset.numel(), budget=budget):
        some = rows[:, block]
        out = room.of((*some.shape[:2], points.shape[1])) if room.taken_again else None
        # |r|^2 of the row itself does not change the order of its neighbours
        yield block, torch.baddbmm(offset[:, None], some, points.mT, alpha=-2, out=out)


class _Room:
    """Memory that block after block takes again, where no gradient or tangent needs what stood there.

    Given back, it may go to the system each time, and a new page costs more than the arithmetic on it.
    """

    def __init__(self, like: Tensor, *others: Tensor) -> None:
        tensors = (like, *others)
        recorded = torch.is_grad_enabled() and any(value.requires_grad for value in tensors)
        self.taken_again = not recorded and not needs_plain(*tensors)
        self.memory = like.new_empty(0)

    def of(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor of a shape with anything in it; the one before it is lost."""
        count = math.prod(shape)
        if self.memory.numel() < count:
            self.memory = self.memory.new_empty(count)
        return self.memory[:count].view(shape)


def _folds(count: int, most: int) -> int:
    return max(1, math.isqrt(count // max(1, most)))


def smallest(values: Tensor, count: int, folds: int) -> Tensor:
    """The smallest values of every row ``[B, R, A]`` in ascending order, ``[B, R, count]``.

    Folded into columns of ``folds`` values; the ``count`` columns whose least is smallest hold them all. Two short
    searches are several times quicker than one long one.
    """
    columns = values.reshape(*values.shape[:-1], folds, values.shape[-1] // folds)  # [B, R, folds, ...]
    best = columns.amin(-2).topk(count, largest=False, sorted=False).indices
    best = best[..., None, :].expand(*columns.shape[:-1], count)
    return columns.gather(-1, best).flatten(-2).topk(count, largest=False).values
