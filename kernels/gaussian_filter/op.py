"""Registration of ``gpuvos::gaussian_filter``."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gpuvos.kernels._register import define_op, result_dtype
from gpuvos.kernels.gaussian_filter import reference


def _fake(values: Tensor, *_: Any) -> Tensor:
    return values.new_empty(values.shape, dtype=result_dtype(values))


def _save(ctx: Any, inputs: tuple[Tensor, float, int], output: Tensor) -> None:  # noqa: ARG001
    values, ctx.sigma, ctx.reach = inputs
    ctx.dtype = values.dtype


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    filtered = gaussian_filter(grad, ctx.sigma, ctx.reach)  # the filter's matrix is symmetric
    return filtered.to(ctx.dtype), None, None


gaussian_filter = define_op(
    reference.gaussian_filter,
    kernel="gpuvos.kernels.gaussian_filter.kernel",
    fake=_fake,
    save=_save,
    backward=_backward,
)
