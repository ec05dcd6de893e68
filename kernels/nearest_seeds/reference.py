"""Distance of every pixel to the nearest seed of two sets, in plain torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from gpuvos.kernels.blocks import BLOCK_BYTES, blocks
from gpuvos.kernels.region_sum import region_sum

_CACHE_BYTES = 800 << 10  # what stays in a core's own cache, of scores from the product to the search
_LANES = 64  # pixels at a time are a multiple of this, which vector units and the matrix product want


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
    n, _, p = embedding.shape
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    distance = [embedding.new_full((n, p), torch.inf, dtype=dtype) for _ in range(2)]
    nearest = [embedding.new_full((n, p), -1, dtype=torch.int64) for _ in range(2)]
    for frame in range(n):
        e, seeds = embedding[frame], seed_embedding[frame].to(dtype)  # [D, P], [K, D]
        sets = [_distinct(seeds, members[frame]) for members in (foreground, background)]
        _search(e, seeds, sets, [number[frame] for number in nearest])
        table = seeds.T.contiguous()  # [D, K]
        for pixels in _steps(e, 2 * len(table)):
            here = e[:, pixels]
            for numbers, best, least in zip(sets, nearest, distance, strict=True):
                if len(numbers):
                    difference = table.index_select(1, best[frame, pixels])  # [D, B]
                    torch.sum(torch.sub(here, difference, out=difference).square_(), 0, out=least[frame, pixels])
    return distance[0], distance[1], nearest[0], nearest[1]


def _search(embedding: Tensor, seeds: Tensor, sets: Sequence[Tensor], nearest: Sequence[Tensor]) -> None:
    """Writes the number ``[P]`` of the nearest seed of each of the sets, which are lists of numbers, unless empty."""
    sizes = [len(numbers) for numbers in sets]
    chosen = seeds.index_select(0, torch.cat(list(sets)))  # [M, D]; the others must not move the centre
    centre = chosen.mean(0)[:, None]
    shifted = chosen - centre.T  # small numbers keep the product exact enough
    length, double = -shifted.square().sum(1, keepdim=True), 2 * shifted
    for pixels in _steps(embedding, len(chosen)):
        scores = torch.addmm(length, double, embedding[:, pixels].to(seeds.dtype) - centre)  # [M, B]
        for numbers, score, number in zip(sets, torch.split(scores, sizes), nearest, strict=True):
            if len(numbers):
                torch.index_select(numbers, 0, _argmax(score), out=number[pixels])


def _steps(embedding: Tensor, rows: int) -> Iterator[slice]:
    """Pixels a few at a time, so that ``rows`` numbers for each stay in the cache; none where there are no rows."""
    size = torch.float64.itemsize if embedding.dtype == torch.float64 else torch.float32.itemsize
    budget = _CACHE_BYTES if embedding.device.type == "cpu" else BLOCK_BYTES
    step = max(1, budget // (max(1, rows) * size * _LANES)) * _LANES
    return blocks(embedding.shape[1] if rows else 0, 1, budget=step)


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


def _distinct(seeds: Tensor, members: Tensor) -> Tensor:
    """Numbers of the members ``[K]`` of a set, the lowest of equal ones: their scores may differ by rounding."""
    number = members.nonzero().squeeze(1)
    rows = seeds.index_select(0, number) + 0.0  # no -0.0: equal rows have equal bits
    code = rows.view(torch.int64 if rows.dtype == torch.float64 else torch.int32).sum(1)
    later, first = (code[:, None] == code).tril(-1).nonzero().T
    equal = (rows.index_select(0, later) == rows.index_select(0, first)).all(1)
    return number.index_select(0, torch.ones_like(number).index_fill_(0, later[equal], 0).nonzero().squeeze(1))


def _argmax(score: Tensor) -> Tensor:
    """Row of the largest of each column, the first of equal ones: ``[K, B]`` -> ``[B]`` int64.

    By max pooling with the columns as channels: argmax and max over rows are 20 times slower on a CPU.
    """
    k, b = score.shape
    channels_last = score.view(1, k, 1, b).permute(0, 3, 1, 2)  # [1, B, K, 1]
    return max_pool2d(channels_last, (k, 1), return_indices=True)[1].view(b)
