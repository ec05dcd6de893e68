"""One leading dimension for the ops, whatever the caller has."""

from __future__ import annotations

import math

from torch import Tensor


def merge_leading(value: Tensor, keep: int) -> Tensor:
    """Folds all but the last ``keep`` dimensions into one: ``[..., *kept]`` -> ``[N, *kept]``, also when empty."""
    return value.reshape(math.prod(value.shape[: value.ndim - keep]), *value.shape[value.ndim - keep :])
