"""Gaussian filter over a permutohedral lattice, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor


def lattice_filter(
    values: Tensor,
    index: Tensor,
    weight: Tensor,
    order: Tensor,  # noqa: ARG001, the kernel sums by point, so that it needs no atomics
    row: Tensor,  # noqa: ARG001
    first: Tensor,  # noqa: ARG001
    neighbor: Tensor,
    reverse: bool,
) -> Tensor:
    """Splat, blur with (1/2, 1, 1/2) along every axis of the lattice, slice.

    The result approximates, up to a constant factor, the sum over all pixels q of ``exp(-|f_p - f_q|^2 / 2) v_q``
    (p itself included). The axes come in order, or last first (``reverse``), which transposes the filter.

    Args:
        values: ``[N, C, P]``; half types are computed in float32.
        index: ``[N, d+1, P]`` int32 as ``permutohedral_lattice`` gives it, at most M (M: no point).
        weight: ``[N, d+1, P]``.
        order: ``[E]`` int32, the entries of ``index`` by point.
        row: ``[E]`` int32, the points of those.
        first: ``[N+1]`` int64, the number of points last.
        neighbor: ``[2, d+1, M]`` int32.
        reverse: whether to filter by the transpose.

    Returns:
        ``[N, C, P]``, float64 where an input is, else float32.
    """
    n, channels, _ = values.shape
    axes, capacity = neighbor.shape[1:]
    dtype = torch.float64 if torch.float64 in (values.dtype, weight.dtype) else torch.float32
    out = values.new_zeros(values.shape, dtype=dtype)
    for channel in range(channels):
        point = values.new_zeros(capacity + 1, dtype=dtype)  # the last: no point
        for frame in range(n):
            for i in range(axes):
                share = weight[frame, i] * values[frame, channel].to(dtype)
                point.scatter_add_(0, index[frame, i].long(), share)
        point[capacity] = 0
        for i in reversed(range(axes)) if reverse else range(axes):
            beside = point.index_select(0, neighbor[0, i])
            beside += point.index_select(0, neighbor[1, i])
            point[:capacity].add_(beside, alpha=0.5)
        for frame in range(n):
            for i in range(axes):
                out[frame, channel].addcmul_(weight[frame, i].to(dtype), point.index_select(0, index[frame, i]))
    return out
