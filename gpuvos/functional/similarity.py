"""Eq. 1: distance and similarity of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.config import COLDEST
from gpuvos.errors import check_positive, check_tensor
from gpuvos.kernels.backend import needs_plain


def squared_distance(first: Tensor, second: Tensor) -> Tensor:
    """Squared Euclidean distances ``d2`` between two sets of embeddings.

    Every hard decision of the method is taken on ``d2``: the similarity of Eq. 1 is a decreasing function of it, and
    overflows where ``d2`` does not.

    Args:
        first: ``[..., M, D]`` floating point; half types are computed in float32.
        second: ``[..., N, D]`` with the same leading dimensions.

    Returns:
        ``[..., M, N]``.

    Example:
        >>> squared_distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[25.,  0.]])
    """
    sizes = check_tensor("first", first, "... M D")
    check_tensor("second", second, "... N D", sizes={"D": sizes["D"]}, leading=first.shape[:-2], like=first)
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    if needs_plain(first, second):  # torch knows no forward mode of cdist
        return (first.to(dtype)[..., :, None, :] - second.to(dtype)[..., None, :, :]).square().sum(-1)
    exact = "donot_use_mm_for_euclid_dist"  # the product form loses the digits of small distances
    return torch.cdist(first.to(dtype), second.to(dtype), compute_mode=exact).square()


def check_temperature(temperature: float | Tensor) -> None:
    """Raises InputError unless a temperature given as a number is positive; a tensor is taken as it is."""
    if not isinstance(temperature, Tensor):
        check_positive("temperature", temperature, low=COLDEST)


def similarity(first: Tensor, second: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """Similarity ``R = 2 / (1 + exp(d2 / temperature))`` of embeddings, Eq. 1; 1 when equal, towards 0 when far.

    Args:
        first: ``[..., M, D]``.
        second: ``[..., N, D]``.
        temperature: the number by which squared distances are divided.

    Returns:
        ``[..., M, N]`` in [0, 1].

    Example:
        >>> similarity(torch.zeros(1, 2), torch.zeros(1, 2))
        tensor([[1.]])
    """
    check_temperature(temperature)
    return 2 * torch.sigmoid(-squared_distance(first, second) / temperature)
