"""The logistic function, the same bits wherever a value lies."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def logistic(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``, differentiable; 0 below about -88 (float32).

    ``torch.sigmoid`` on a CPU differs in the last bit between vector instructions and the elements that are left over,
    so a video alone would differ from the same video in a batch.

    Example:
        >>> logistic(torch.tensor([0.0, 200.0]))
        tensor([0.5000, 1.0000])
    """
    lowest = -math.log(torch.finfo(x.dtype).max) + 1  # 0 times infinity has no gradient
    return x.clamp(min=lowest).neg().exp().add(1).reciprocal().masked_fill(x < lowest, 0)
