"""Registration of ``gpuvos::lattice_filter``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels.backend import run
from gpuvos.kernels.lattice_filter import reference


@torch.library.custom_op("gpuvos::lattice_filter", mutates_args=())
def lattice_filter(
    values: Tensor,
    index: Tensor,
    weight: Tensor,
    order: Tensor,
    row: Tensor,
    first: Tensor,
    neighbor: Tensor,
    reverse: bool,
) -> Tensor:
    """Gaussian filter of ``values [N, C, P]`` over the lattice; differentiable with respect to the values."""
    return reference.lattice_filter(values, index, weight, order, row, first, neighbor, reverse)


@lattice_filter.register_kernel("cuda")
def _cuda(
    values: Tensor,
    index: Tensor,
    weight: Tensor,
    order: Tensor,
    row: Tensor,
    first: Tensor,
    neighbor: Tensor,
    reverse: bool,
) -> Tensor:
    dtype = torch.promote_types(values.dtype, weight.dtype)
    filtered: Tensor = run(
        "lattice_filter", values, index, weight, order, row, first, neighbor, reverse, dtype=dtype
    )
    return filtered


@lattice_filter.register_fake
def _fake(
    values: Tensor,
    index: Tensor,  # noqa: ARG001
    weight: Tensor,
    order: Tensor,  # noqa: ARG001
    row: Tensor,  # noqa: ARG001
    first: Tensor,  # noqa: ARG001
    neighbor: Tensor,  # noqa: ARG001
    reverse: bool,  # noqa: ARG001
) -> Tensor:
    dtype = torch.float64 if torch.float64 in (values.dtype, weight.dtype) else torch.float32
    return values.new_empty(values.shape, dtype=dtype)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    values, *lattice, ctx.reverse = inputs
    ctx.dtype = values.dtype
    ctx.save_for_backward(*lattice)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    lattice = ctx.saved_tensors
    transposed = lattice_filter(grad, *lattice, not ctx.reverse)
    return transposed.to(ctx.dtype), *(None for _ in lattice), None


lattice_filter.register_autograd(_backward, setup_context=_save)
