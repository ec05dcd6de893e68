"""Initial foreground, Eq. 11, and the seeds of the object and of the rest, Eq. 12."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.errors import check_count, check_index, check_share, check_tensor
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.regions import largest_edges, region_mean, sum_regions
from gpuvos.kernels.initial_foreground import initial_foreground as foreground_op
from gpuvos.types import EdgeWeights, Forest


def initial_foreground(forest: Forest, foreground_seed: Tensor, background: Tensor) -> Tensor:
    """Pixels strictly closer (minimax) to the foreground seed than to every background seed, Eq. 11.

    With ``near = D(label, fg)`` and ``far = min over b of D(label, b)`` a pixel is foreground exactly if
    ``near < far`` and ``distance < far``: one table look-up a pixel.

    Args:
        forest: Forest of ``minimax_forest``, label ``[T, H, W]`` (any leading dimensions).
        foreground_seed: ``[T]`` int64; -1 gives an empty mask.
        background: ``[T, K]`` bool; the foreground seed itself is left out of it.

    Returns:
        ``[T, H, W]`` bool.

    Example:
        >>> d = torch.tensor([[[0.0, 5.0], [5.0, 0.0]]])
        >>> f = Forest(torch.tensor([[[0, 0, 1]]]), torch.tensor([[[0.0, 1.0, 0.0]]]), d)
        >>> initial_foreground(f, torch.tensor([0]), torch.tensor([[False, True]]))
        tensor([[[ True,  True, False]]])
    """
    k = check_tensor("forest.seed_distance", forest.seed_distance, "... K K", filled=True)["K"]
    lead = forest.seed_distance.shape[:-2]
    like = forest.seed_distance
    grid = check_tensor("forest.label", forest.label, "... H W", kind="int64", leading=lead, like=like, filled=True)
    check_tensor("forest.distance", forest.distance, "... H W", sizes=grid, leading=lead, like=like)
    check_tensor("foreground_seed", foreground_seed, "...", kind="int64", leading=lead, like=forest.label)
    check_tensor("background", background, "... K", kind="bool", sizes={"K": k}, leading=lead, like=forest.label)
    for name, value in (("forest.label", forest.label), ("foreground_seed", foreground_seed)):
        check_index(name, value, -1, k)
    label, distance = (merge_leading(value.flatten(-2), 1) for value in (forest.label, forest.distance))
    seed_distance, seed, others = (
        merge_leading(value, keep) for value, keep in ((forest.seed_distance, 2), (foreground_seed, 0), (background, 1))
    )
    foreground: Tensor = foreground_op(label, distance, seed_distance, seed, others)
    return foreground.view(forest.label.shape)


def initial_foreground_shortest(
    weights: EdgeWeights,
    index: Tensor,
    foreground_seed: Tensor,
    background: Tensor,
    *,
    num_background: int = 40,
) -> Tensor:
    """Eq. 11 with the distance read literally: the largest edge along the additive shortest path.

    Args:
        weights: ``right [T, H, W-1]``, ``down [T, H-1, W]`` (any leading dimensions).
        index: ``[T, K]`` int64 raster index of the seeds.
        foreground_seed: ``[T]`` int64; -1 gives an empty mask.
        background: ``[T, K]`` bool with at most ``num_background`` True a frame; the rest is not looked at.
        num_background: the largest number of initial background seeds in a frame, N_BG.

    Returns:
        ``[T, H, W]`` bool.

    Example:
        >>> w = EdgeWeights(torch.tensor([[[1.0, 5.0, 2.0]]]), torch.zeros(1, 0, 4))
        >>> background = torch.tensor([[False, True]])
        >>> initial_foreground_shortest(w, torch.tensor([[0, 3]]), torch.tensor([0]), background)
        tensor([[[ True,  True, False, False]]])
    """
    k = check_tensor("background", background, "... K", kind="bool", filled=True)["K"]
    lead = background.shape[:-1]
    check_tensor("index", index, "... K", kind="int64", sizes={"K": k}, leading=lead, like=background)
    check_tensor("foreground_seed", foreground_seed, "...", kind="int64", leading=lead, like=background)
    check_count("num_background", num_background)
    check_index("foreground_seed", foreground_seed, -1, k)
    seed = foreground_seed.clamp(min=0)[..., None]
    others = background.scatter(-1, seed, False)
    first = (~others).int().sort(dim=-1, stable=True).indices[..., : min(num_background, k)]  # True ones first
    chosen = torch.cat((seed, first), -1)
    exists = torch.cat(((foreground_seed >= 0)[..., None], others.gather(-1, first)), -1)
    largest = largest_edges(weights, index.gather(-1, chosen).clamp(min=0), exists)  # [..., 1 + N_BG, H, W]
    return largest[..., 0, :, :] < largest[..., 1:, :, :].amin(-3)


def seed_sets(
    initial_foreground: Tensor,
    label: Tensor,
    objectness: Tensor,
    saliency: Tensor,
    valid: Tensor,
    foreground_seed: Tensor,
    initial_background: Tensor,
    *,
    coverage: float = 0.5,
    background_objectness: float = 0.1,
    background_saliency: float = 0.005,
) -> tuple[Tensor, Tensor]:
    """Seeds of the object and of the rest, Eq. 12.

    Foreground: the foreground seed, and seeds whose region the initial foreground covers by more than ``coverage``.
    Background: other seeds with ``O < background_objectness`` or ``M < background_saliency``; where there is none,
    the initial background seeds that are not foreground.

    Args:
        initial_foreground: ``[T, H, W]`` bool from ``initial_foreground`` (any leading dimensions).
        label: ``[T, H, W]`` int64 regions.
        objectness: ``[T, K]`` of the seeds.
        saliency: ``[T, K]`` of the seeds.
        valid: ``[T, K]`` bool.
        foreground_seed: ``[T]`` int64, -1 for none.
        initial_background: ``[T, K]`` bool, the initial background.
        coverage: the share of a region that makes its seed foreground, tau.
        background_objectness: threshold on O.
        background_saliency: threshold on M.

    Returns:
        foreground and background, ``[T, K]`` bool, disjoint.

    Example:
        >>> initial_foreground, label = torch.tensor([[[True, False, False]]]), torch.tensor([[[0, 1, 2]]])
        >>> valid, initial_background = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[False, False, True]])
        >>> objectness, saliency = torch.tensor([[0.9, 0.9, 0.1]]), torch.tensor([[1.0, 0.5, 0.5]])
        >>> seed_sets(initial_foreground, label, objectness, saliency, valid, torch.tensor([0]), initial_background)
        (tensor([[ True, False, False]]), tensor([[False, False,  True]]))
    """
    k = check_tensor("valid", valid, "... K", kind="bool", filled=True)["K"]
    lead, count = valid.shape[:-1], {"K": k}
    check_tensor(
        "initial_foreground", initial_foreground, "... H W", kind="bool", leading=lead, like=valid, filled=True
    )
    check_tensor("objectness", objectness, "... K", sizes=count, leading=lead, like=valid)
    check_tensor("saliency", saliency, "... K", sizes=count, leading=lead, like=valid)
    check_tensor("foreground_seed", foreground_seed, "...", kind="int64", leading=lead, like=valid)
    check_tensor("initial_background", initial_background, "... K", kind="bool", sizes=count, leading=lead, like=valid)
    thresholds = (coverage, background_objectness, background_saliency)
    for name, value in zip(("coverage", "background_objectness", "background_saliency"), thresholds, strict=True):
        check_share(name, value)
    share = region_mean(initial_foreground[..., None, :, :].float(), label, k).squeeze(-1)  # [..., K]
    number = torch.arange(k, device=valid.device)
    foreground = ((share > coverage) | (number == foreground_seed[..., None])) & valid
    rest = valid & ~foreground
    background = ((objectness < background_objectness) | (saliency < background_saliency)) & rest
    empty = ~background.any(-1, keepdim=True)
    return foreground, background | (empty & initial_background & rest)


def mask_seed_sets(
    embedding: Tensor, label: Tensor, mask: Tensor, num_regions: int, *, coverage: float = 0.5
) -> tuple[Tensor, Tensor, Tensor]:
    """Seed sets from a given mask, semi-supervised mode (A.1).

    A region that the mask covers by more than ``coverage`` is foreground, with the mean embedding over region and
    mask; one that the mask does not touch is background, with its mean embedding. Where no region is covered enough,
    the one covered most is foreground.

    Args:
        embedding: ``[T, D, H, W]`` (any leading dimensions).
        label: ``[T, H, W]`` int64.
        mask: ``[T, H, W]`` bool.
        num_regions: the number of regions, K.
        coverage: the share of a region that makes it foreground, alpha.

    Returns:
        Embeddings ``[T, K, D]``, foreground ``[T, K]`` bool, background ``[T, K]`` bool.

    Example:
        >>> e, label = torch.tensor([[[[1.0, 2.0, 9.0]]]]), torch.tensor([[[0, 0, 1]]])
        >>> seeds, foreground, background = mask_seed_sets(e, label, torch.tensor([[[True, True, False]]]), 2)
        >>> seeds.flatten(), foreground, background
        (tensor([1.5000, 9.0000]), tensor([[ True, False]]), tensor([[False,  True]]))
    """
    sizes = check_tensor("embedding", embedding, "... D H W", filled=True)
    grid = {"H": sizes["H"], "W": sizes["W"]}
    lead, d = embedding.shape[:-3], sizes["D"]
    check_tensor("label", label, "... H W", kind="int64", sizes=grid, leading=lead, like=embedding)
    check_tensor("mask", mask, "... H W", kind="bool", sizes=grid, leading=lead, like=embedding)
    check_count("num_regions", num_regions)
    check_share("coverage", coverage)
    flat = merge_leading(embedding.flatten(-2), 2)
    regions, inside = merge_leading(label.flatten(-2), 1), merge_leading(mask.flatten(-2), 1)
    total, area = sum_regions(flat, regions, num_regions, width=sizes["W"])
    covered, overlap = sum_regions(flat, regions.masked_fill(~inside, -1), num_regions, width=sizes["W"])
    share = overlap / area.clamp(min=1)  # [N, K]
    most = (share == share.amax(-1, keepdim=True)) & (share > 0)
    foreground = share > coverage
    foreground = torch.where(foreground.any(-1, keepdim=True), foreground, most)
    background = (overlap == 0) & (area > 0)
    mean_inside, mean = covered / overlap.clamp(min=1)[..., None], total / area.clamp(min=1)[..., None]
    seeds = torch.where(foreground[..., None], mean_inside, mean)
    return (
        seeds.reshape(*lead, num_regions, d),
        foreground.reshape(*lead, num_regions),
        background.reshape(*lead, num_regions),
    )
