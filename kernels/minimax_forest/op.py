"""Registration of ``gpuvos::minimax_forest``."""

from __future__ import annotations

from torch import Tensor

from gpuvos.kernels._register import define_op, result_dtype
from gpuvos.kernels.minimax_forest import reference


def _fake(right: Tensor, down: Tensor, index: Tensor, _valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, h, w, k = *right.shape[:2], down.shape[2], index.shape[1]
    distance = right.new_empty((n, h, w), dtype=result_dtype(right))
    return index.new_empty((n, h, w)), distance, distance.new_empty((n, k, k))


minimax_forest = define_op(reference.minimax_forest, kernel="gpuvos.kernels.minimax_forest.kernel", fake=_fake)
