"""A temperature for any embedding, from its regions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gpuvos.errors import check_tensor
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.edges import candidate_mask, edge_map, edge_weights
from gpuvos.functional.regions import minimax_forest, region_mean
from gpuvos.functional.seeds import gather_pixels, select_seeds
from gpuvos.functional.similarity import squared_distance


@torch.no_grad()
def estimate_temperature(embedding: Tensor, *, num_seeds: int = 100, window: int = 9) -> Tensor:
    """The temperature that puts ``R = 1/2`` between the distances within and between regions; it needs no labels.

    ``R`` of ``d2 / temperature`` is 1/2 at ``d2 = temperature log 3`` (Eq. 1). That is set to the geometric mean of
    two mean squared distances: of the pixels to the mean of their geodesic region, and between the means of the regions
    of a frame. An embedding of ``a e`` has ``a^2`` times the temperature of ``e``.

    Args:
        embedding: ``[T, D, H, W]`` (any leading dimensions).
        num_seeds: K, regions of a frame.
        window: n, of Eq. 5.

    Returns:
        One number, on the device; 1 for an embedding without such distances. ``float`` makes it a
        ``Config.temperature``.

    Raises:
        InputError: a wrong shape or dtype, or an option out of its range.

    Example:
        >>> e = torch.tensor([0.0, 1.0, 0.0, 5.0, 6.0, 5.0])[None, None, None]
        >>> round(float(estimate_temperature(e, num_seeds=2, window=3)), 3)
        2.145
    """
    check_tensor("embedding", embedding, "... D H W")
    e = merge_leading(embedding, 3)  # [N, D, H, W]
    e = e.to(torch.promote_types(e.dtype, torch.float32))
    candidates = candidate_mask(edge_map(e, squared_distance=True), window=window)
    seeds = select_seeds(e, torch.zeros_like(e[:, 0]), candidates, num_seeds=num_seeds)
    label = minimax_forest(edge_weights(e), seeds.index, seeds.valid).label
    mean = region_mean(e, label, num_seeds)  # [N, K, D]
    own = gather_pixels(mean.mT[:, :, None], label.flatten(1))  # [N, H W, D]
    within = (e.flatten(2).mT - own).square().sum(-1).mean()
    pairs = seeds.valid[:, None] & seeds.valid[:, :, None]
    pairs = pairs & ~torch.eye(num_seeds, dtype=torch.bool, device=e.device)
    between = squared_distance(mean, mean).masked_fill(~pairs, 0).sum() / pairs.sum().clamp(min=1)
    found = (within * between).sqrt() / math.log(3)
    return torch.where(found > 0, found, 1)
