"""Registration of ``gpuvos::lattice_filter``."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gpuvos.kernels._register import define_op, result_dtype
from gpuvos.kernels.lattice_filter import reference


def _fake(values: Tensor, _index: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return values.new_empty(values.shape, dtype=result_dtype(values, weight))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    values, *lattice, ctx.reverse = inputs
    ctx.dtype = values.dtype
    ctx.save_for_backward(*lattice)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    index, weight, order, row, first, neighbor = ctx.saved_tensors
    transposed = lattice_filter(grad, index, weight, order, row, first, neighbor, not ctx.reverse)
    return transposed.to(ctx.dtype), *[None] * 7


lattice_filter = define_op(
    reference.lattice_filter,
    kernel="gpuvos.kernels.lattice_filter.kernel",
    fake=_fake,
    save=_save,
    backward=_backward,
)
