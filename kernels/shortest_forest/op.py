"""Registration of ``gpuvos::shortest_forest``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op, result_dtype
from gpuvos.kernels.shortest_forest import reference


def _fake(right: Tensor, down: Tensor, index: Tensor, _valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, h, w = *right.shape[:2], down.shape[2]
    distance = right.new_empty((n, h, w), dtype=result_dtype(right))
    return index.new_empty((n, h, w)), distance, torch.empty_like(distance)


shortest_forest = define_op(reference.shortest_forest, kernel="gpuvos.kernels.shortest_forest.kernel", fake=_fake)
