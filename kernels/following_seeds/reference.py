"""The most similar seed of the next frame, one step of Eq. 9, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks


def following_seeds(embedding: Tensor, following: Tensor, valid: Tensor) -> Tensor:
    """Number of the nearest of the following seeds; ties go to the lowest number.

    Args:
        embedding: ``[N, K, D]`` of the seeds of frames; half types are computed in float32.
        following: ``[N, M, D]`` of the seeds of the frames after them.
        valid: ``[N, M]`` bool, which of the latter exist.

    Returns:
        ``[N, K]`` int64; 0 where none exists.
    """
    n, k, m = embedding.shape[0], embedding.shape[1], valid.shape[1]
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    nearest = valid.new_empty((n, k), dtype=torch.int64)
    exact = "donot_use_mm_for_euclid_dist"  # the product form loses the digits of small distances
    for block in blocks(n, 16 * k * m):
        distance = torch.cdist(embedding[block].to(dtype), following[block].to(dtype), compute_mode=exact)
        nearest[block] = distance.square().masked_fill_(~valid[block, None], torch.inf).argmin(-1)
    return nearest
