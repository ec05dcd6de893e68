"""Registration of ``gpuvos::farthest_points``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op
from gpuvos.kernels.farthest_points import reference


def _fake(embedding: Tensor, _priority: Tensor, _candidates: Tensor, num_points: int) -> Tensor:
    return embedding.new_empty((embedding.shape[0], num_points), dtype=torch.int64)


farthest_points = define_op(reference.farthest_points, kernel="gpuvos.kernels.farthest_points.kernel", fake=_fake)
