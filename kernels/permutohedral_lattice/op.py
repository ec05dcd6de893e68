"""Registration of ``gpuvos::permutohedral_lattice``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.backend import run
from gpuvos.kernels.permutohedral_lattice import reference


@torch.library.custom_op("gpuvos::permutohedral_lattice", mutates_args=())
def permutohedral_lattice(
    features: Tensor, extent: list[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``[N, d, P]`` in ``[0, extent]`` -> index, weight ``[N, d+1, P]``; key, order, row ``[E]``; first ``[N+1]``."""
    return reference.permutohedral_lattice(features, extent)


@permutohedral_lattice.register_kernel("cuda")
def _cuda(features: Tensor, extent: list[float]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    index, weight, key, order, row, first = run("permutohedral_lattice", features, extent)
    return index, weight, key, order, row, first


@permutohedral_lattice.register_fake
def _fake(
    features: Tensor,
    extent: list[float],  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    n, d, p = features.shape
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    index = features.new_empty((n, d + 1, p), dtype=torch.int32)
    key = features.new_empty((n * (d + 1) * p,), dtype=torch.int64)
    row = torch.empty_like(key, dtype=torch.int32)
    first = key.new_empty((n + 1,))
    return index, features.new_empty(index.shape, dtype=dtype), key, torch.empty_like(row), row, first
