"""Squared embedding distances along the edges of the 4-neighbour grid, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks


def grid_edges(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances between horizontal and vertical neighbours.

    Args:
        embedding: ``[N, D, H, W]`` of any floating type; half types are accumulated in float32.

    Returns:
        ``right [N, H, W-1]`` and ``down [N, H-1, W]``, float32 (float64 for a float64 embedding).
    """
    n, d, h, w = embedding.shape
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    right = embedding.new_empty((n, h, w - 1), dtype=dtype)
    down = embedding.new_empty((n, h - 1, w), dtype=dtype)
    for block in blocks(n, d * h * w * dtype.itemsize):
        e = embedding[block].to(dtype)  # [n, D, H, W]
        right[block] = (e[..., 1:] - e[..., :-1]).square_().sum(1)
        down[block] = (e[..., 1:, :] - e[..., :-1, :]).square_().sum(1)
    return right, down
