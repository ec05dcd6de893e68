"""Registration of ``gpuvos::link_tracks``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op
from gpuvos.kernels.link_tracks import reference


def _fake(embedding: Tensor, *_: object) -> Tensor:
    return embedding.new_empty(embedding.shape[:3], dtype=torch.int64)


link_tracks = define_op(reference.link_tracks, kernel="gpuvos.kernels.link_tracks.kernel", fake=_fake)
