"""Registration of ``gpuvos::minimax_forest``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.backend import run
from gpuvos.kernels.minimax_forest import reference


@torch.library.custom_op("gpuvos::minimax_forest", mutates_args=())
def minimax_forest(
    right: Tensor, down: Tensor, index: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``[N, H, W-1]``, ``[N, H-1, W]``, 2 x ``[N, K]`` -> label, distance ``[N, H, W]``, between ``[N, K, K]``."""
    return reference.minimax_forest(right, down, index, valid)


@minimax_forest.register_kernel("cuda")
def _cuda(right: Tensor, down: Tensor, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    label, distance, between = run("minimax_forest", right, down, index, valid)
    return label, distance, between


@minimax_forest.register_fake
def _fake(right: Tensor, down: Tensor, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001
    n, h, w = right.shape[0], right.shape[1], down.shape[2]
    k = index.shape[1]
    dtype = torch.float64 if right.dtype == torch.float64 else torch.float32
    distance = right.new_empty((n, h, w), dtype=dtype)
    return index.new_empty((n, h, w)), distance, right.new_empty((n, k, k), dtype=dtype)
