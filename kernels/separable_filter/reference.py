"""Symmetric separable convolution of grids, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from gpuvos.kernels.blocks import blocks


def separable_filter(values: Tensor, taps: list[float]) -> Tensor:
    """Convolves down the columns and then along the rows, with zeros outside of the grid.

    Args:
        values: ``[N, H, W]``; half types are computed in float32.
        taps: the kernel from its centre outwards; it is symmetric.

    Returns:
        ``[N, H, W]``, float64 where ``values`` is, else float32.
    """
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    n, h, w = values.shape
    out = values.new_empty((n, h, w), dtype=dtype)
    for block in blocks(n, 4 * h * w * dtype.itemsize, budget=8 << 20):
        down = _convolve(values[block].to(dtype), taps, 1)
        out[block] = _convolve(down, taps, 2)
    return out


def _convolve(values: Tensor, taps: list[float], axis: int) -> Tensor:
    size, reach = values.shape[axis], len(taps) - 1
    padded = pad(values, (reach, reach) if axis == 2 else (0, 0, reach, reach))
    out = values * taps[0]
    for distance, tap in enumerate(taps[1:], 1):
        out.add_(padded.narrow(axis, reach - distance, size), alpha=tap)
        out.add_(padded.narrow(axis, reach + distance, size), alpha=tap)
    return out
