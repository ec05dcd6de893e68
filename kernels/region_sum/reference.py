"""Sums and counts over labelled regions, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks


def region_sum(
    values: Tensor,
    label: Tensor,
    num_regions: int,
    width: int = 0,
    second: Tensor | None = None,
    third: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sums ``values`` over the pixels of every label; labels outside of ``[0, num_regions)`` are left out.

    Args:
        values: ``[N, C, P]``; half types are accumulated in float32.
        label: ``[N, P]`` int64.
        num_regions: K.
        width: of the image whose pixels these are, 0 for none. The order of sums may depend on it, nothing else.
        second: more values ``[N, C', P]``, whose sums come behind those of ``values``.
        third: more values ``[N, C'', P]``, whose sums come last.

    Returns:
        The sums ``[N, K, C + C' + C'']`` and the number of pixels ``[N, K]`` int64.
    """
    del width  # sums are in raster order
    given = [part for part in (values, second, third) if part is not None]
    n, _, p = values.shape
    dtype = torch.float64 if torch.float64 in {part.dtype for part in given} else torch.float32
    channels = [part.shape[1] for part in given]
    total = values.new_zeros((n, sum(channels), num_regions + 1), dtype=dtype)
    count = label.new_zeros((n, num_regions + 1))
    for block in blocks(n, 24 * p):
        outside = (label[block] < 0) | (label[block] >= num_regions)
        slot = label[block].masked_fill(outside, num_regions)  # [N, P]
        for part, sums in zip(given, torch.split(total[block], channels, 1), strict=True):
            sums.scatter_add_(2, slot[:, None].expand(-1, part.shape[1], -1), part[block].to(dtype))
        count[block].scatter_add_(1, slot, torch.ones_like(slot))
    total, count = total[:, :, :-1].transpose(1, 2), count[:, :-1]
    # clone, not contiguous: that would keep the padding in the strides where a dimension is 1
    dense = torch.contiguous_format
    return total.clone(memory_format=dense), count.clone(memory_format=dense)
