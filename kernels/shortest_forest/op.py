"""Registration of ``gpuvos::shortest_forest``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.backend import run
from gpuvos.kernels.shortest_forest import reference


@torch.library.custom_op("gpuvos::shortest_forest", mutates_args=())
def shortest_forest(
    right: Tensor, down: Tensor, index: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``[N, H, W-1]``, ``[N, H-1, W]``, 2 x ``[N, K]`` -> label, distance, largest edge, all ``[N, H, W]``."""
    return reference.shortest_forest(right, down, index, valid)


@shortest_forest.register_kernel("cuda")
def _cuda(right: Tensor, down: Tensor, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = run("shortest_forest", right, down, index, valid)
    return result


@shortest_forest.register_fake
def _fake(right: Tensor, down: Tensor, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001
    n, h, w = right.shape[0], right.shape[1], down.shape[2]
    dtype = torch.float64 if right.dtype == torch.float64 else torch.float32
    distance = right.new_empty((n, h, w), dtype=dtype)
    return index.new_empty((n, h, w)), distance, torch.empty_like(distance)
