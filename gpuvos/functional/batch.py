"""One leading dimension for the ops, whatever the caller has."""

from __future__ import annotations

from torch import Tensor

from gpuvos.kernels.shapes import LONGEST, is_open

__all__ = ["LONGEST", "is_open", "merge_leading"]


def merge_leading(value: Tensor, keep: int) -> Tensor:
    """Folds all but the last ``keep`` dimensions into one: ``[..., *kept]`` -> ``[N, *kept]``, also when empty."""
    return value.flatten(0, value.ndim - keep - 1) if value.ndim > keep else value[None]
