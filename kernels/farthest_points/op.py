"""Registration of ``gpuvos::farthest_points``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.backend import run
from gpuvos.kernels.farthest_points import reference


@torch.library.custom_op("gpuvos::farthest_points", mutates_args=())
def farthest_points(embedding: Tensor, priority: Tensor, candidates: Tensor, num_points: int) -> Tensor:
    """Diverse points: ``[N, D, P]``, ``[N, P]``, ``[N, P]`` bool -> indices ``[N, K]``, -1 where none is left."""
    return reference.farthest_points(embedding, priority, candidates, num_points)


@farthest_points.register_kernel("cuda")
def _cuda(embedding: Tensor, priority: Tensor, candidates: Tensor, num_points: int) -> Tensor:
    dtype = torch.promote_types(embedding.dtype, priority.dtype)  # neither may be rounded
    chosen: Tensor = run("farthest_points", embedding, priority, candidates, num_points, dtype=dtype)
    return chosen


@farthest_points.register_fake
def _fake(embedding: Tensor, priority: Tensor, candidates: Tensor, num_points: int) -> Tensor:  # noqa: ARG001
    return embedding.new_empty((embedding.shape[0], num_points), dtype=torch.int64)
