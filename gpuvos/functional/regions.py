"""Means over the regions of the seeds."""

from __future__ import annotations

from torch import Tensor

from gpuvos.errors import check_count, check_tensor
from gpuvos.functional.batch import merge_leading
from gpuvos.kernels.region_sum import region_sum


def region_mean(values: Tensor, label: Tensor, num_regions: int) -> Tensor:
    """Mean of ``values`` over the pixels of each region; 0 for an empty region.

    Args:
        values: ``[T, C, H, W]`` (any leading dimensions).
        label: ``[T, H, W]`` int64; pixels outside of ``[0, num_regions)`` are left out.
        num_regions: K.

    Returns:
        ``[T, K, C]``.

    Example:
        >>> import torch
        >>> region_mean(torch.tensor([[[[1.0, 3.0, 8.0]]]]), torch.tensor([[[0, 0, 1]]]), 2).flatten()
        tensor([2., 8.])
    """
    sizes = check_tensor("values", values, "... C H W", filled=True)
    grid = {"H": sizes["H"], "W": sizes["W"]}
    check_tensor("label", label, "... H W", kind="int64", sizes=grid, leading=values.shape[:-3], like=values)
    check_count("num_regions", num_regions)
    flat, regions = merge_leading(values.flatten(-2), 2), merge_leading(label.flatten(-2), 1)
    total, count = region_sum(flat, regions, num_regions)
    mean: Tensor = total / count.clamp(min=1)[..., None]
    return mean.reshape(*values.shape[:-3], num_regions, sizes["C"])
