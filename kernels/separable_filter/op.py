"""Registration of ``gpuvos::separable_filter``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels.separable_filter import reference


@torch.library.custom_op("gpuvos::separable_filter", mutates_args=())
def separable_filter(values: Tensor, taps: list[float]) -> Tensor:
    """Grids ``[N, H, W]`` convolved along both axes with a symmetric kernel, given from its centre outwards."""
    return reference.separable_filter(values, taps)


@separable_filter.register_fake
def _fake(values: Tensor, taps: list[float]) -> Tensor:  # noqa: ARG001
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    return values.new_empty(values.shape, dtype=dtype)


def _save(ctx: Any, inputs: tuple[Tensor, list[float]], output: Tensor) -> None:  # noqa: ARG001
    values, ctx.taps = inputs
    ctx.dtype = values.dtype


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return separable_filter(grad, ctx.taps).to(ctx.dtype), None  # the matrix is symmetric


separable_filter.register_autograd(_backward, setup_context=_save)
