"""Region similarity J: how much of the object's area is right."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.metrics.pair import check_pair, measure_frames


def region_similarity(mask: Tensor, truth: Tensor, *, void: Tensor | None = None) -> Tensor:
    """Region similarity J of DAVIS, the intersection over union (Jaccard index) of two masks, frame by frame.

    ``J = |mask and truth| / |mask or truth|``, and 1 where both are empty. Nothing is read back to the host.

    Args:
        mask: ``[..., H, W]`` bool or integer; every non-zero value is the object.
        truth: ``[..., H, W]`` bool or integer of the same shape on the same device.
        void: ``[..., H, W]`` bool or integer of the same shape; non-zero pixels count for neither side.

    Returns:
        [...] float in [0, 1]: [T] for masks ``[T, H, W]``, a scalar tensor for one mask ``[H, W]``.

    Raises:
        InputError: if a mask is floating point, or shapes or devices differ.

    Example:
        >>> import torch
        >>> mask = torch.tensor([[1, 1, 0, 0]])
        >>> truth = torch.tensor([[0, 1, 1, 1]])
        >>> region_similarity(mask, truth)
        tensor(0.2500)
    """
    check_pair(mask, truth)
    if void is None:
        return measure_frames(_jaccard, mask, truth)
    check_pair(mask, void, second="void")
    return measure_frames(_jaccard, mask, truth, void)


def _jaccard(mask: Tensor, truth: Tensor, void: Tensor | None = None) -> Tensor:
    """J of bool masks ``[N, H, W]`` -> [N]."""
    intersection, union = mask & truth, mask | truth  # [N, H, W]
    if void is not None:
        intersection, union = intersection & ~void, union & ~void
    shared, covered = intersection.sum(dim=(-2, -1)), union.sum(dim=(-2, -1))  # [N]
    return torch.where(covered > 0, shared / covered.clamp_min(1), 1.0)
