"""Soft foreground probability, Eq. 13-15."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpuvos.errors import check_tensor, fail
from gpuvos.functional import plain
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.precision import full_precision
from gpuvos.functional.similarity import check_temperature
from gpuvos.kernels.backend import needs_plain
from gpuvos.kernels.foreground_probability import foreground_probability as probability_op

LEAST = 1e-6  # of either label where several probabilities are joined


@full_precision
def foreground_probability(
    embedding: Tensor,
    seed_embedding: Tensor,
    foreground: Tensor,
    background: Tensor,
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """Probability ``P = R_FG / (R_FG + R_BG)`` that a pixel is foreground, Eq. 13-15.

    ``R_FG`` and ``R_BG`` are the similarities to the nearest foreground and background seed. Computed as
    ``sigmoid(softplus(d2_BG / temperature) - softplus(d2_FG / temperature))``, which is the same and neither
    overflows nor loses digits. The seeds may be those of another frame. Differentiable with respect to
    ``embedding``, ``seed_embedding`` and ``temperature``.

    Args:
        embedding: ``[T, D, H, W]`` (any leading dimensions).
        seed_embedding: ``[T, K, D]``.
        foreground: ``[T, K]`` bool, seeds of the object.
        background: ``[T, K]`` bool, seeds of the rest.
        temperature: the number by which squared distances are divided. The value of a tensor of one element is
            never read back.

    Returns:
        ``[T, H, W]`` in [0, 1]; 0 where there is no foreground seed, 1 where only background seeds are missing.

    Example:
        >>> e = torch.tensor([[[[0.0, 0.5, 1.0]]]])
        >>> fg, bg = torch.tensor([[True, False]]), torch.tensor([[False, True]])
        >>> foreground_probability(e, torch.tensor([[[0.0], [1.0]]]), fg, bg)
        tensor([[[0.6502, 0.5000, 0.3498]]])
    """
    sizes = check_tensor("embedding", embedding, "... D H W")
    lead, grid, channels = embedding.shape[:-3], embedding.shape[-2:], {"D": sizes["D"]}
    count = check_tensor("seed_embedding", seed_embedding, "... K D", sizes=channels, leading=lead, like=embedding)
    k = {"K": count["K"]}
    check_tensor("foreground", foreground, "... K", kind="bool", sizes=k, leading=lead, like=embedding)
    check_tensor("background", background, "... K", kind="bool", sizes=k, leading=lead, like=embedding)
    inputs = (
        merge_leading(embedding.flatten(-2), 2),
        merge_leading(seed_embedding, 2),
        merge_leading(foreground, 1),
        merge_leading(background, 1),
        _as_tensor(temperature, embedding),
    )
    probability = plain.foreground_probability(*inputs) if needs_plain(*inputs) else probability_op(*inputs)[0]
    return probability.reshape(*lead, *grid)


def join_probabilities(probabilities: Sequence[Tensor]) -> Tensor:
    """One probability from several, by the mean of ``log(P / (1 - P))``; a single one is left as it is.

    Args:
        probabilities: tensors of one shape. Each is kept ``LEAST`` away from 0 and from 1, so that none decides alone.

    Example:
        >>> join_probabilities([torch.tensor(0.9), torch.tensor(0.1), torch.tensor(0.6)])
        tensor(0.5337)
    """
    if len(probabilities) == 1:
        return probabilities[0]
    against = torch.stack(tuple(probabilities)).logit(LEAST).sum(0) / -len(probabilities)
    return against.exp().add(1).reciprocal()  # as ``logistic``, without the range that cannot come here


def _as_tensor(temperature: float | Tensor, like: Tensor) -> Tensor:
    check_temperature(temperature)
    if not isinstance(temperature, Tensor):
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        return like.new_full((), temperature, dtype=dtype)  # on the device, without a copy that waits
    check_tensor("temperature", temperature, "...", like=like)
    if temperature.numel() != 1:
        raise fail("temperature", f"shape {tuple(temperature.shape)}", "one number")
    return temperature.reshape(())
