"""Registration of ``gpuvos::initial_foreground``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op
from gpuvos.kernels.initial_foreground import reference


def _fake(label: Tensor, *_: Tensor) -> Tensor:
    return label.new_empty(label.shape, dtype=torch.bool)


initial_foreground = define_op(
    reference.initial_foreground, kernel="gpuvos.kernels.initial_foreground.kernel", fake=_fake
)
