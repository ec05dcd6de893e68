"""Diverse seeds, Eq. 6."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.errors import check_count, check_index, check_tensor
from gpuvos.functional.batch import merge_leading
from gpuvos.kernels.farthest_points import farthest_points
from gpuvos.types import Seeds


def select_seeds(embedding: Tensor, objectness: Tensor, candidates: Tensor, *, num_seeds: int = 100) -> Seeds:
    """Chooses K diverse seeds of every frame by greedy farthest-point sampling, Eq. 6.

    The first seed is the candidate of highest objectness, every next one the candidate whose largest similarity to
    those already chosen is smallest. Ties go to the lowest raster index. Where candidates run out, seeds are invalid.

    Args:
        embedding: ``[T, D, H, W]`` (any leading dimensions).
        objectness: ``[T, H, W]``.
        candidates: ``[T, H, W]`` bool.
        num_seeds: the number of seeds to select in each frame, K.

    Returns:
        Seeds with index ``[T, K]``, valid ``[T, K]``, embedding ``[T, K, D]``, objectness ``[T, K]``.

    Example:
        >>> e = torch.tensor([[[[0.0, 1.0, 5.0]]]])
        >>> o = torch.tensor([[[0.2, 0.9, 0.1]]])
        >>> select_seeds(e, o, torch.ones(1, 1, 3, dtype=torch.bool), num_seeds=4).index
        tensor([[ 1,  2,  0, -1]])
    """
    sizes = check_tensor("embedding", embedding, "... D H W", filled=True)
    grid = {"H": sizes["H"], "W": sizes["W"]}
    lead = embedding.shape[:-3]
    check_tensor("objectness", objectness, "... H W", sizes=grid, leading=lead, like=embedding)
    check_tensor("candidates", candidates, "... H W", kind="bool", sizes=grid, leading=lead, like=embedding)
    check_count("num_seeds", num_seeds)
    index = farthest_points(
        merge_leading(embedding.detach().flatten(-2), 2),
        merge_leading(objectness.detach().flatten(-2), 1),
        merge_leading(candidates.flatten(-2), 1),
        num_seeds,
    ).reshape(*lead, num_seeds)
    invalid, slot = index < 0, index.clamp(min=0)
    return Seeds(
        index,
        ~invalid,
        _gather(embedding, slot).masked_fill(invalid[..., None], 0),
        _gather(objectness[..., None, :, :], slot).squeeze(-1).masked_fill(invalid, 0),
    )


def gather_pixels(values: Tensor, index: Tensor) -> Tensor:
    """Values of a map at raster indices.

    Args:
        values: ``[T, C, H, W]`` (any leading dimensions).
        index: ``[T, K]`` int64; -1 reads pixel 0.

    Returns:
        ``[T, K, C]``.

    Example:
        >>> gather_pixels(torch.tensor([[[[5.0, 6.0, 7.0]]]]), torch.tensor([[2, 0]])).flatten()
        tensor([7., 5.])
    """
    sizes = check_tensor("values", values, "... C H W", filled=True)
    check_tensor("index", index, "... K", kind="int64", leading=values.shape[:-3], like=values)
    check_index("index", index, -1, sizes["H"] * sizes["W"])
    return _gather(values, index.clamp(min=0))


def _gather(values: Tensor, slot: Tensor) -> Tensor:
    flat = values.flatten(-2)  # [..., C, P]
    place = slot[..., None, :].expand(*flat.shape[:-1], slot.shape[-1])
    return torch.gather(flat, -1, place).transpose(-1, -2)
