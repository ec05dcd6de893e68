"""Distance of every pixel to the nearest seed of two sets, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from gpuvos.kernels.blocks import BLOCK_BYTES, blocks
from gpuvos.kernels.region_sum import region_sum

_CACHE_BYTES = 2 << 20  # scores that stay in a core's own cache from the product to the second search


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
        of the nearest seed of each ``[N, P]`` int64 (-1 for an empty set, any for a pixel with a NaN).
    """
    n, d, p = embedding.shape
    k = seed_embedding.shape[1]
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    distance = [embedding.new_full((n, p), torch.inf, dtype=dtype) for _ in range(2)]
    nearest = [embedding.new_full((n, p), -1, dtype=torch.int64) for _ in range(2)]
    budget = _CACHE_BYTES if embedding.device.type == "cpu" else BLOCK_BYTES
    step = max(1, budget // max(1, k * dtype.itemsize))  # pixels at a time
    for block in blocks(n if k else 0, k * (min(p, step) + k) * dtype.itemsize, budget=budget):
        members = (foreground[block], background[block])
        either = (members[0] | members[1])[..., None]  # [n, K, 1]
        seeds = seed_embedding[block].to(dtype).masked_fill(~either, 0)  # the others must not move the centre
        centre = seeds.sum(1, keepdim=True) / either.sum(1, keepdim=True).clamp(min=1)
        shifted = seeds - centre  # small numbers keep the product exact enough
        lengths = [_lengths(seeds, shifted, mask) for mask in members]
        table = seeds.movedim(2, 0).flatten(1)  # [D, n K]
        first = torch.arange(seeds.shape[0], device=table.device)[:, None] * k  # of a frame in the table
        for start in range(0, p, step):
            here = (block, slice(start, start + step))
            e = embedding[block, :, here[1]].to(dtype)  # [n, D, B]
            product = torch.bmm(2 * shifted, e - centre.mT)  # [n, K, B]
            for side in range(2):
                best = _argmax(product - lengths[side])  # [n, B]
                at = table.index_select(1, (best + first).flatten()).view(d, *best.shape)
                there = members[side].any(1, keepdim=True)
                least = (e.movedim(1, 0) - at).square_().sum(0)
                distance[side][here] = least.masked_fill_(~there, torch.inf)
                nearest[side][here] = best.masked_fill_(~there, -1)
    return distance[0], distance[1], nearest[0], nearest[1]


def nearest_seeds_backward(
    embedding: Tensor,
    seed_embedding: Tensor,
    nearest_fg: Tensor,
    nearest_bg: Tensor,
    grad_fg: Tensor,
    grad_bg: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to ``embedding`` and ``seed_embedding``, from those of the two distances.

    Args:
        embedding: ``[N, D, P]``.
        seed_embedding: ``[N, K, D]``.
        nearest_fg: ``[N, P]`` integer, the nearest foreground seed, -1 for none.
        nearest_bg: ``[N, P]`` integer.
        grad_fg: ``[N, P]`` gradient of the squared distance to the foreground; left out where there is no seed.
        grad_bg: ``[N, P]``.

    Returns:
        ``[N, D, P]`` and ``[N, K, D]`` in the types of the inputs.
    """
    k = seed_embedding.shape[1]
    grad_embedding = embedding.new_zeros(embedding.shape, dtype=grad_fg.dtype)
    grad_seeds = seed_embedding.new_zeros(seed_embedding.shape, dtype=grad_fg.dtype)
    for grad, nearest in ((grad_fg, nearest_fg), (grad_bg, nearest_bg)):
        weight = 2 * grad.masked_fill(nearest < 0, 0)[:, None]  # [N, 1, P]
        flow = weight * differences(embedding, seed_embedding, nearest)  # [N, D, P]
        grad_embedding = grad_embedding + flow
        grad_seeds = grad_seeds - region_sum(flow, nearest.long(), k)[0]
    return grad_embedding.to(embedding.dtype), grad_seeds.to(seed_embedding.dtype)


def differences(embedding: Tensor, seed_embedding: Tensor, nearest: Tensor) -> Tensor:
    """``[N, D, P]`` from the named seed (from 0 for none) to the pixel, at least in float32."""
    k, d = seed_embedding.shape[1:]
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    padded = pad(seed_embedding.to(dtype).mT, (0, 1))  # [N, D, K + 1]
    slot = nearest.long().masked_fill(nearest < 0, k)[:, None].expand(-1, d, -1)
    return embedding.to(dtype) - padded.gather(2, slot)


def _lengths(seeds: Tensor, shifted: Tensor, members: Tensor) -> Tensor:
    """``|s|^2 [n, K, 1]``; inf for seeds outside of the set and for all but the lowest of equal ones."""
    same = (torch.cdist(seeds, seeds, p=0) == 0) & members[:, None]  # their scores may differ by rounding
    out = same.tril(-1).any(2) | ~members
    return shifted.square().sum(2).masked_fill(out, torch.inf)[..., None]


def _argmax(score: Tensor) -> Tensor:
    """Row of the largest of each column, the first of equal ones: ``[n, K, B]`` -> ``[n, B]`` int64.

    By max pooling with the columns as channels: argmax and max over rows are 20 times slower on a CPU.
    """
    n, k, b = score.shape
    channels_last = score.view(n, k, 1, b).permute(0, 3, 1, 2)  # [n, B, K, 1]
    return max_pool2d(channels_last, (k, 1), return_indices=True)[1].view(n, b)
