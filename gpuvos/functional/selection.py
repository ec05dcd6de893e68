"""Initial foreground, Eq. 11, and the seeds of the object and of the rest, Eq. 12."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from gpuvos.errors import check_positive, check_tensor
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.forest import largest_edges
from gpuvos.functional.regions import region_mean
from gpuvos.kernels.blocks import blocks
from gpuvos.kernels.region_sum import region_sum
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
    k = check_tensor("forest.seed_distance", forest.seed_distance, "... K K")["K"]
    lead = forest.seed_distance.shape[:-2]
    check_tensor("forest.label", forest.label, "... H W", kind="int64", leading=lead)
    check_tensor("foreground_seed", foreground_seed, "...", kind="int64", leading=lead, like=forest.label)
    check_tensor(
        "background", background, "... K", kind="bool", sizes={"K": k}, leading=lead, like=forest.label
    )
    seed = foreground_seed.clamp(min=0)[..., None]
    others = background.scatter(-1, seed, False)
    near = forest.seed_distance.gather(-1, seed[..., None, :].expand(*background.shape, 1)).squeeze(
        -1
    )  # [..., K]
    far = forest.seed_distance.masked_fill(~others[..., None, :], torch.inf).amin(-1)  # [..., K]
    threshold = torch.where((near < far) & (foreground_seed >= 0)[..., None], far, -1.0)
    slot = forest.label.clamp(min=0).flatten(-2)
    limit = threshold.gather(-1, slot).view_as(forest.distance)
    return (forest.distance < limit) & (forest.label >= 0)


def initial_foreground_shortest(
    weights: EdgeWeights,
    index: Tensor,
    foreground_seed: Tensor,
    background: Tensor,
    *,
    num_background: int = 30,
) -> Tensor:
    """Eq. 11 with the distance read literally: the largest edge along the additive shortest path.

    Args:
        weights: ``right [T, H, W-1]``, ``down [T, H-1, W]`` (any leading dimensions).
        index: ``[T, K]`` int64 raster index of the seeds.
        foreground_seed: ``[T]`` int64; -1 gives an empty mask.
        background: ``[T, K]`` bool with at most ``num_background`` True a frame; the rest is not looked at.
        num_background: N_BG.

    Returns:
        ``[T, H, W]`` bool.

    Example:
        >>> w = EdgeWeights(torch.tensor([[[1.0, 5.0, 2.0]]]), torch.zeros(1, 0, 4))
        >>> background = torch.tensor([[False, True]])
        >>> initial_foreground_shortest(w, torch.tensor([[0, 3]]), torch.tensor([0]), background)
        tensor([[[ True,  True, False, False]]])
    """
    k = check_tensor("background", background, "... K", kind="bool")["K"]
    lead = background.shape[:-1]
    check_tensor("index", index, "... K", kind="int64", sizes={"K": k}, leading=lead, like=background)
    check_tensor("foreground_seed", foreground_seed, "...", kind="int64", leading=lead, like=background)
    check_positive("num_background", num_background)
    seed = foreground_seed.clamp(min=0)[..., None]
    others = background.scatter(-1, seed, False)
    first = (
        (~others).int().sort(dim=-1, stable=True).indices[..., : min(num_background, k)]
    )  # True ones first
    chosen = torch.cat((seed, first), -1)
    there = torch.cat(((foreground_seed >= 0)[..., None], others.gather(-1, first)), -1)
    largest = largest_edges(weights, index.gather(-1, chosen).clamp(min=0), there)  # [..., 1 + N_BG, H, W]
    return largest[..., 0, :, :] < largest[..., 1:, :, :].amin(-3)


def seed_sets(
    initial: Tensor,
    label: Tensor,
    objectness: Tensor,
    saliency: Tensor,
    valid: Tensor,
    foreground_seed: Tensor,
    start: Tensor,
    *,
    coverage: float = 0.5,
    background_objectness: float = 0.3,
    background_saliency: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """Seeds of the object and of the rest, Eq. 12.

    Foreground: the foreground seed, and seeds whose region the initial foreground covers by more than ``coverage``.
    Background: other seeds with ``O < background_objectness`` or ``M < background_saliency``; where there is none,
    the initial background seeds that are not foreground.

    Args:
        initial: ``[T, H, W]`` bool from ``initial_foreground`` (any leading dimensions).
        label: ``[T, H, W]`` int64 regions.
        objectness: ``[T, K]`` of the seeds.
        saliency: ``[T, K]`` of the seeds.
        valid: ``[T, K]`` bool.
        foreground_seed: ``[T]`` int64, -1 for none.
        start: ``[T, K]`` bool, the initial background.
        coverage: tau.
        background_objectness: threshold on O.
        background_saliency: threshold on M.

    Returns:
        foreground and background, ``[T, K]`` bool, disjoint.

    Example:
        >>> initial, label = torch.tensor([[[True, False, False]]]), torch.tensor([[[0, 1, 2]]])
        >>> valid, start = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[False, False, True]])
        >>> objectness, saliency = torch.tensor([[0.9, 0.9, 0.1]]), torch.tensor([[1.0, 0.5, 0.5]])
        >>> seed_sets(initial, label, objectness, saliency, valid, torch.tensor([0]), start)
        (tensor([[ True, False, False]]), tensor([[False, False,  True]]))
    """
    k = check_tensor("valid", valid, "... K", kind="bool")["K"]
    lead, count = valid.shape[:-1], {"K": k}
    check_tensor("initial", initial, "... H W", kind="bool", leading=lead, like=valid)
    check_tensor("objectness", objectness, "... K", sizes=count, leading=lead, like=valid)
    check_tensor("saliency", saliency, "... K", sizes=count, leading=lead, like=valid)
    check_tensor("foreground_seed", foreground_seed, "...", kind="int64", leading=lead, like=valid)
    check_tensor("start", start, "... K", kind="bool", sizes=count, leading=lead, like=valid)
    share = region_mean(initial[..., None, :, :].float(), label, k).squeeze(-1)  # [..., K]
    number = torch.arange(k, device=valid.device)
    foreground = ((share > coverage) | (number == foreground_seed[..., None])) & valid
    rest = valid & ~foreground
    background = ((objectness < background_objectness) | (saliency < background_saliency)) & rest
    empty = ~background.any(-1, keepdim=True)
    return foreground, background | (empty & start & rest)


def smooth_seed_labels(
    embedding: Tensor, label: Tensor, valid: Tensor, *, neighbors: int = 30, largest_share: float = 1.0
) -> Tensor:
    """Mean label of the nearest seeds of the whole sequence, every seed counting among its own neighbours.

    Seeds as far as the last neighbour count as well, so the result does not depend on the order of equal distances.

    Args:
        embedding: ``[T, K, D]`` of the seeds (or ``[B, T, K, D]``).
        label: ``[T, K]`` floating point, for example 1 for foreground and 0 for the rest.
        valid: ``[T, K]`` bool; invalid seeds are nobody's neighbours.
        neighbors: how many; fewer where the sequence has fewer seeds.
        largest_share: take at most this share of the sequence's seeds, but at least three: neighbours in a short
            clip are far apart.

    Returns:
        ``[T, K]``; 0 where invalid.

    Example:
        >>> e = torch.tensor([[[0.0], [1.0], [5.0], [6.0]]])
        >>> label = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
        >>> smooth_seed_labels(e, label, torch.ones(1, 4, dtype=torch.bool), neighbors=2)
        tensor([[0.5000, 0.5000, 0.0000, 0.0000]])
    """
    sizes = check_tensor("embedding", embedding, "... T K D")
    lead, count = embedding.shape[:-3], {"T": sizes["T"], "K": sizes["K"]}
    check_tensor("label", label, "... T K", sizes=count, leading=lead, like=embedding)
    check_tensor("valid", valid, "... T K", kind="bool", sizes=count, leading=lead, like=embedding)
    check_positive("neighbors", neighbors)
    check_positive("largest_share", largest_share)
    total = sizes["T"] * sizes["K"]
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    points = merge_leading(embedding.detach().to(dtype).flatten(-3, -2), 2)
    # small numbers keep the product exact enough; frame 0 alone, so that padded frames change no bit
    points = points - points[:, : sizes["K"]].mean(1, keepdim=True)
    values, there = merge_leading(label.flatten(-2), 1).double(), merge_leading(valid.flatten(-2), 1)
    offset = points.square().sum(-1).masked_fill(~there, torch.inf)  # [B, M]
    most = (there.sum(1) * largest_share).long().clamp(min=3).clamp(max=min(neighbors, total))  # [B]
    means = []
    for rows in blocks(total, 16 * total * points.shape[0]):
        # |p|^2 of the row itself does not change the order of its neighbours
        distance = torch.baddbmm(offset[:, None], points[:, rows], points.mT, alpha=-2)
        nearest = distance.topk(min(neighbors, total), largest=False).values  # ascending
        last = nearest.gather(-1, (most - 1)[:, None, None].expand(-1, nearest.shape[1], 1))
        near = (distance <= last) & (distance < torch.inf)  # [B, rows, M]
        means.append(torch.where(near, values[:, None], 0).sum(-1) / near.sum(-1).clamp(min=1))
    return torch.cat(means, 1).masked_fill(~there, 0).reshape(label.shape).to(label.dtype)


def vote_labels(
    embedding: Tensor,
    score: Tensor,
    valid: Tensor,
    *,
    neighbors: int = 30,
    largest_share: float = 1.0,
    confident_share: float = 0.45,
    vote_threshold: float = 0.4,
) -> Tensor:
    """Foreground seeds of the robust rule: seeds that look alike, anywhere in the sequence, decide together.

    The scores are smoothed over the nearest seeds. A seed is confident if its smoothed score exceeds
    ``confident_share`` of the largest of its frame (or of half the largest of the video, if that is more, so that a
    frame without the object has none). It is foreground if more than ``vote_threshold`` of its neighbours are.

    Args:
        embedding: ``[T, K, D]`` of the seeds (or ``[B, T, K, D]``).
        score: ``[T, K]`` non-negative evidence for foreground.
        valid: ``[T, K]`` bool.
        neighbors: as in ``smooth_seed_labels``.
        largest_share: as in ``smooth_seed_labels``.
        confident_share: share of the largest score.
        vote_threshold: share of the neighbours.

    Returns:
        ``[T, K]`` bool; False everywhere where every score is 0.

    Example:
        >>> e = torch.tensor([[[0.0], [1.0], [5.0], [6.0]]])
        >>> score = torch.tensor([[0.9, 0.5, 0.1, 0.0]])
        >>> vote_labels(e, score, torch.ones(1, 4, dtype=torch.bool), neighbors=2)
        tensor([[ True,  True, False, False]])
    """
    smooth = partial(
        smooth_seed_labels, embedding, valid=valid, neighbors=neighbors, largest_share=largest_share
    )
    sizes = check_tensor("valid", valid, "... T K", kind="bool")
    check_tensor("score", score, "... T K", sizes=sizes, leading=valid.shape[:-2], like=valid)
    smoothed = smooth(score.masked_fill(~valid, 0))
    frame = smoothed.amax(-1, keepdim=True)
    video = frame.amax(-2, keepdim=True)
    confident = (smoothed > confident_share * torch.maximum(frame, 0.5 * video)) & valid
    share = smooth(confident.to(score.dtype))
    return (share > vote_threshold) & valid


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
        num_regions: K.
        coverage: alpha.

    Returns:
        Embeddings ``[T, K, D]``, foreground ``[T, K]`` bool, background ``[T, K]`` bool.

    Example:
        >>> e, label = torch.tensor([[[[1.0, 2.0, 9.0]]]]), torch.tensor([[[0, 0, 1]]])
        >>> seeds, foreground, background = mask_seed_sets(e, label, torch.tensor([[[True, True, False]]]), 2)
        >>> seeds.flatten(), foreground, background
        (tensor([1.5000, 9.0000]), tensor([[ True, False]]), tensor([[False,  True]]))
    """
    sizes = check_tensor("embedding", embedding, "... D H W")
    grid = {"H": sizes["H"], "W": sizes["W"]}
    lead, d = embedding.shape[:-3], sizes["D"]
    check_tensor("label", label, "... H W", kind="int64", sizes=grid, leading=lead, like=embedding)
    check_tensor("mask", mask, "... H W", kind="bool", sizes=grid, leading=lead, like=embedding)
    check_positive("num_regions", num_regions)
    flat = merge_leading(embedding.flatten(-2), 2)
    regions, inside = merge_leading(label.flatten(-2), 1), merge_leading(mask.flatten(-2), 1)
    total, area = region_sum(flat, regions, num_regions)
    covered, overlap = region_sum(flat, regions.masked_fill(~inside, -1), num_regions)
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
