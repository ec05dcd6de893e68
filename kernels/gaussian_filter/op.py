"""Registration of ``gpuvos::gaussian_filter``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels.backend import run
from gpuvos.kernels.gaussian_filter import reference


@torch.library.custom_op("gpuvos::gaussian_filter", mutates_args=())
def gaussian_filter(values: Tensor, sigma: float, reach: int) -> Tensor:
    """Grids ``[N, H, W]`` filtered by a Gaussian of unit peak that ends ``reach`` rows and columns away."""
    return reference.gaussian_filter(values, sigma, reach)


@gaussian_filter.register_kernel("cuda")
def _cuda(values: Tensor, sigma: float, reach: int) -> Tensor:
    result: Tensor = run("gaussian_filter", values, sigma, reach)
    return result


@gaussian_filter.register_fake
def _fake(values: Tensor, sigma: float, reach: int) -> Tensor:  # noqa: ARG001
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    return values.new_empty(values.shape, dtype=dtype)


def _save(ctx: Any, inputs: tuple[Tensor, float, int], output: Tensor) -> None:  # noqa: ARG001
    values, ctx.sigma, ctx.reach = inputs
    ctx.dtype = values.dtype


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    filtered: Tensor = gaussian_filter(grad, ctx.sigma, ctx.reach)  # the filter's matrix is symmetric
    return filtered.to(ctx.dtype), None, None


gaussian_filter.register_autograd(_backward, setup_context=_save)
