"""Soft foreground probability from the nearest seeds of two sets, Eq. 13-15, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks
from gpuvos.kernels.logistic import logistic
from gpuvos.kernels.nearest_seeds.reference import differences, nearest_seeds, nearest_seeds_backward


def foreground_probability(
    embedding: Tensor, seed_embedding: Tensor, foreground: Tensor, background: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``sigmoid(softplus(d2_BG / t) - softplus(d2_FG / t))`` of the squared distances to the nearest seeds.

    Args:
        embedding: ``[N, D, P]``; half types are computed in float32.
        seed_embedding: ``[N, K, D]``.
        foreground: ``[N, K]`` bool.
        background: ``[N, K]`` bool.
        temperature: one positive number t, shape ``[]`` or ``[1]``.

    Returns:
        The probability ``[N, P]``: 0 where there is no foreground seed, 1 where only background seeds are missing. Then
        the number of the nearest foreground and background seed, ``[N, P]`` int32 as ``nearest_seeds`` names them.
    """
    n, _, p = embedding.shape
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    probability = embedding.new_empty((n, p), dtype=dtype)
    nearest_fg, nearest_bg = (embedding.new_empty((n, p), dtype=torch.int32) for _ in range(2))
    for block in blocks(n, 64 * p):
        near, far, nearest_fg[block], nearest_bg[block] = nearest_seeds(
            embedding[block], seed_embedding[block], foreground[block], background[block]
        )
        probability[block] = logistic(_gap(near, far, temperature.to(dtype)))
    probability.masked_fill_(nearest_bg < 0, 1).masked_fill_(nearest_fg < 0, 0)
    return probability, nearest_fg, nearest_bg


def foreground_probability_backward(
    embedding: Tensor,
    seed_embedding: Tensor,
    nearest_fg: Tensor,
    nearest_bg: Tensor,
    temperature: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to ``embedding``, ``seed_embedding`` and ``temperature``.

    Args:
        embedding: ``[N, D, P]``.
        seed_embedding: ``[N, K, D]``.
        nearest_fg: ``[N, P]`` integer, the nearest foreground seed, -1 for none.
        nearest_bg: ``[N, P]`` integer.
        temperature: as in ``foreground_probability``.
        grad: ``[N, P]`` gradient of the probability.

    Returns:
        ``[N, D, P]``, ``[N, K, D]`` and the shape of ``temperature``, in the types of the inputs.
    """
    near, far = (
        differences(embedding, seed_embedding, nearest).square().sum(1) for nearest in (nearest_fg, nearest_bg)
    )
    t = temperature.to(near.dtype)
    gap = _gap(near, far, t)
    flow = grad * gap.sigmoid() * (-gap).sigmoid()  # of the gap; 1 - sigmoid would lose small numbers
    flow = flow.masked_fill((nearest_fg < 0) | (nearest_bg < 0), 0) / t
    pull, push = -flow * (near / t).sigmoid(), flow * (far / t).sigmoid()  # of the two distances
    to_embedding, to_seeds = nearest_seeds_backward(embedding, seed_embedding, nearest_fg, nearest_bg, pull, push)
    to_temperature = -(pull * near + push * far).sum() / t
    return to_embedding, to_seeds, to_temperature.reshape(temperature.shape).to(temperature.dtype)


def _gap(near: Tensor, far: Tensor, temperature: Tensor) -> Tensor:
    """``softplus(far / t) - softplus(near / t)``, the large parts subtracted first: distances are not negative."""
    tails = (-far / temperature).exp().log1p() - (-near / temperature).exp().log1p()
    return (far - near) / temperature + tails
