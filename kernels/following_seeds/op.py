"""Registration of ``gpuvos::following_seeds``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op
from gpuvos.kernels.following_seeds import reference


def _fake(embedding: Tensor, *_: Tensor) -> Tensor:
    return embedding.new_empty(embedding.shape[:2], dtype=torch.int64)


following_seeds = define_op(reference.following_seeds, kernel="gpuvos.kernels.following_seeds.kernel", fake=_fake)
