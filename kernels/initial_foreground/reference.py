"""Pixels closer to one seed than to each of a set of others, Eq. 11, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks


def initial_foreground(
    label: Tensor, distance: Tensor, seed_distance: Tensor, foreground_seed: Tensor, background: Tensor
) -> Tensor:
    """Pixels strictly closer (minimax) to the foreground seed than to every background seed but itself.

    The distance of pixel p from seed t is ``max(distance[p], D(label[p], t))``. So all pixels of a region have one
    limit: with ``near = D(label, foreground)`` and ``far = min over b of D(label, b)`` a pixel is foreground exactly
    if ``near < far`` and ``distance < far``.

    Args:
        label: ``[N, P]`` int64 seed of the pixel's region; outside of ``[0, K)`` it has none and is not foreground.
        distance: ``[N, P]`` from the own seed, of any floating type.
        seed_distance: ``[N, K, K]`` between seeds, D.
        foreground_seed: ``[N]`` int64; outside of ``[0, K)`` there is none, and no pixel is foreground.
        background: ``[N, K]`` bool.

    Returns:
        ``[N, P]`` bool.
    """
    n, k = background.shape
    foreground = label.new_zeros(label.shape, dtype=torch.bool)
    for block in blocks(n if k else 0, 8 * k * k + 32 * label.shape[1]):
        limit = _limits(seed_distance[block], foreground_seed[block], background[block])
        outside = (label[block] < 0) | (label[block] >= k)
        slot = label[block].masked_fill(outside, k)
        foreground[block] = distance[block] < limit.gather(1, slot)
    return foreground


def _limits(seed_distance: Tensor, foreground_seed: Tensor, background: Tensor) -> Tensor:
    """What the distance of a region's foreground pixels is less than, ``[N, K + 1]``: -1 for none, and at the end."""
    k = background.shape[1]
    known = (foreground_seed >= 0) & (foreground_seed < k)
    seed = foreground_seed.clamp(0, k - 1)[:, None]  # [N, 1]
    others = background.scatter(1, seed, False)
    near = seed_distance.gather(2, seed[:, None].expand(-1, k, 1)).squeeze(2)  # [N, K]
    far = seed_distance.masked_fill(~others[:, None], torch.inf).amin(2)
    return torch.nn.functional.pad(torch.where((near < far) & known[:, None], far, -1.0), (0, 1), value=-1.0)
