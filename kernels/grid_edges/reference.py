"""Squared embedding distances along the edges of the 4-neighbour grid, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import BLOCK_BYTES, blocks

_CACHE_BYTES = 2 << 20  # of differences, so that they never leave a processor's cache


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
    budget = _CACHE_BYTES if embedding.device.type == "cpu" else BLOCK_BYTES
    for frames in blocks(n, d * h * w * dtype.itemsize, budget=budget):
        for rows in blocks(h, len(embedding[frames]) * d * w * dtype.itemsize, budget=budget):
            e = embedding[frames, :, rows.start : rows.stop + 1].to(dtype)  # and the row below
            inside = e[:, :, : rows.stop - rows.start]
            right[frames, rows] = (inside[..., 1:] - inside[..., :-1]).square_().sum(1)
            down[frames, rows] = (e[..., 1:, :] - e[..., :-1, :]).square_().sum(1)
    return right, down
