"""Registration of ``gpuvos::permutohedral_lattice``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op, result_dtype
from gpuvos.kernels.permutohedral_lattice import reference


def _fake(features: Tensor, _extent: list[float]) -> tuple[Tensor, ...]:
    n, d, p = features.shape
    index = features.new_empty((n, d + 1, p), dtype=torch.int32)
    key = features.new_empty((n * (d + 1) * p,), dtype=torch.int64)
    row = torch.empty_like(key, dtype=torch.int32)
    weight = features.new_empty(index.shape, dtype=result_dtype(features))
    return index, weight, key, torch.empty_like(row), row, key.new_empty((n + 1,))


permutohedral_lattice = define_op(
    reference.permutohedral_lattice, kernel="gpuvos.kernels.permutohedral_lattice.kernel", fake=_fake
)
