"""Gaussian filter of grids, in plain torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from gpuvos.kernels.blocks import blocks


def gaussian_filter(values: Tensor, sigma: float, reach: int) -> Tensor:
    """Sums ``exp(-|x_p - x_q|^2 / 2 sigma^2) v_q`` over the pixels q at most ``reach`` rows and columns away from p.

    A convolution down the columns and then one along the rows, with zeros outside of the grid.

    Args:
        values: ``[N, H, W]``; half types are computed in float32.
        sigma: standard deviation in pixels.
        reach: where the kernel ends, in pixels.

    Returns:
        ``[N, H, W]``, float64 where ``values`` is, else float32.
    """
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    n, h, w = values.shape
    taps = [math.exp(-0.5 * (distance / sigma) ** 2) for distance in range(reach + 1)]
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
