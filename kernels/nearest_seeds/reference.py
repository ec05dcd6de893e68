"""Distance of every pixel to the nearest seed of two sets, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks


def nearest_seeds(
    embedding: Tensor, seed_embedding: Tensor, foreground: Tensor, background: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Squared distances to the nearest foreground and background seed, and which seeds those are.

    The nearest seed is found on ``|s|^2 - 2 e.s`` (one matrix product), the distance to it is then taken from the
    difference itself, so that it has no cancellation error. Of seeds that are equal the lowest is named; between
    different seeds at one distance rounding decides.

    Args:
        embedding: ``[N, D, P]``; half types are computed in float32.
        seed_embedding: ``[N, K, D]``.
        foreground: ``[N, K]`` bool, the first set.
        background: ``[N, K]`` bool, the second set.

    Returns:
        ``[N, P]`` squared distance to the foreground and to the background (inf for an empty set), then the number
        of the nearest seed of each ``[N, P]`` int64 (-1 for an empty set).
    """
    n, d, p = embedding.shape
    k = seed_embedding.shape[1]
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    distance = [embedding.new_full((n, p), torch.inf, dtype=dtype) for _ in range(2)]
    nearest = [embedding.new_full((n, p), -1, dtype=torch.int64) for _ in range(2)]
    for block in blocks(n if k else 0, (2 * k + 3 * d) * p * dtype.itemsize + k * k * d):
        e = embedding[block].to(dtype)  # [n, D, P]
        seeds = seed_embedding[block].to(dtype)  # [n, K, D]
        member = (foreground[block] | background[block])[..., None]  # [n, K, 1]
        seeds = seeds.masked_fill(~member, 0)  # the others must not move the centre
        centre = seeds.sum(1, keepdim=True) / member.sum(1, keepdim=True).clamp(min=1)
        shifted = seeds - centre  # small numbers keep the product exact enough
        score = torch.baddbmm(
            shifted.square().sum(2)[..., None], shifted, e - centre.mT, alpha=-2
        )  # [n, K, P]
        same = (seeds[:, :, None] == seeds[:, None]).all(3)  # [n, K, K]; their scores may differ
        for side, members in enumerate((foreground[block], background[block])):
            allowed = score.masked_fill(~members[..., None], torch.inf)
            first = (same & members[:, None]).to(torch.uint8).argmax(2)  # [n, K], the lowest equal member
            best = first.gather(1, allowed.min(1).indices)  # [n, P]
            there = members.any(1, keepdim=True)
            at = seeds.mT.gather(2, best[:, None].expand(-1, d, -1))  # [n, D, P]
            distance[side][block] = (e - at).square_().sum(1).masked_fill_(~there, torch.inf)
            nearest[side][block] = best.masked_fill_(~there, -1)
    return distance[0], distance[1], nearest[0], nearest[1]
