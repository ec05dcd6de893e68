"""What the embedding network is trained to minimise: Eq. 2, what keeps Eq. 2 from collapsing, and the two heads."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, logsigmoid, softplus

from gpuvos.errors import (
    check_choice,
    check_count,
    check_index,
    check_positive,
    check_share,
    check_tensor,
    fail,
)

Keep = Literal["none", "spread", "distances"]
KEEP: tuple[Keep, ...] = get_args(Keep)
_CLOSEST = 1e-4  # squared distance below which different instances pull no harder: bounds log(1 - R) and its slope
_MOST_LABELS = 256  # instance numbers are those of an 8-bit mask


class PixelPairs(NamedTuple):
    """All pairs of the sampled pixels of every image."""

    distance: Tensor  # [N, S, S] squared distance over temperature
    same: Tensor  # [N, S, S] bool, y of Eq. 2
    weight: Tensor  # [N, S, S] w of Eq. 2, sums to 1 in every image; 0 for an image without pairs
    within: Tensor  # [N, S, S] weights of the pairs of one label, sum 1 in images that have any; label 0 included
    within_objects: Tensor  # the same without label 0


def pair_loss(distance: Tensor, same: Tensor) -> Tensor:
    """Loss of single pairs, the bracket of Eq. 2: ``-[y log R + (1 - y) log(1 - R)]`` with ``R = 2 / (1 + exp(d2))``.

    Args:
        distance: squared distances d2 of any shape, float, zero or more.
        same: bool of that shape, whether both pixels are of one instance.

    Returns:
        The losses; finite with finite slopes for every d2 (``log(1 - R)`` stands still below d2 = 1e-4).

    Example:
        >>> pair_loss(torch.tensor([0.0, 1.0, 200.0]), torch.tensor([True, False, True])).round(decimals=3)
        tensor([  0.0000,   0.7720, 199.3070])
    """
    check_tensor("distance", distance, "...")
    check_tensor("same", same, "...", kind="bool", like=distance)
    apart = distance.clamp(min=_CLOSEST)
    log_different = torch.log(-torch.expm1(-apart)) - torch.log1p(torch.exp(-apart))  # log tanh(d2 / 2)
    return torch.where(same, softplus(distance) - math.log(2), -log_different)


def sample_pixels(instance: Tensor, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Draws pixels of every image without replacement, every instance as likely as any other.

    Args:
        instance: ``[N, H, W]`` int64: -1 unknown, 0 the rest of the image, 1 to 255 instances or segments.
        num_samples: pixels of an image.
        generator: source of chance, on the device of ``instance``.

    Returns:
        ``[N, S]`` int64 raster indices, S = min(num_samples, H W); -1 where an image has fewer labelled pixels.

    Raises:
        InputError: instance of another shape, dtype or (on the CPU) range, or num_samples below one.

    Example:
        >>> sample_pixels(torch.tensor([[[-1, 2], [-1, -1]]]), 3)
        tensor([[ 1, -1, -1]])
    """
    check_tensor("instance", instance, "N H W", kind="int64")
    check_index("instance", instance, -1, _MOST_LABELS)
    check_count("num_samples", num_samples)
    label = instance.flatten(1)
    count = _label_counts(label)
    # The smallest of exponential variables divided by rates are a weighted draw without replacement.
    arrival = torch.empty(label.shape, device=label.device).exponential_(generator=generator)
    arrival = (arrival * count).masked_fill(label < 0, math.inf)
    first, index = arrival.topk(min(num_samples, label.shape[1]), largest=False)
    return index.masked_fill(first.isinf(), -1)


def pixel_pairs(
    embedding: Tensor,
    instance: Tensor,
    index: Tensor,
    *,
    temperature: Tensor | float = 1.0,
    rest_weight: float = 1.0,
) -> PixelPairs:
    """All pairs of the pixels ``index`` with the weights of Eq. 2, inverse to the sizes of both instances.

    Args:
        embedding: ``[N, D, H, W]`` float.
        instance: ``[N, H, W]`` int64, as in ``sample_pixels``.
        index: ``[N, S]`` int64 raster indices, -1 for none.
        temperature: squared distances are divided by it.
        rest_weight: factor for pairs within label 0. 1 makes the background one more instance; 0 says only that it
            is none of the objects, which is true of any background however varied.

    Returns:
        PixelPairs in float32 (float64 for float64); a pixel makes no pair with itself.
    """
    size = check_tensor("embedding", embedding, "N D H W", filled=True)
    check_tensor("instance", instance, "N H W", kind="int64", sizes=size, like=embedding)
    check_tensor("index", index, "N S", kind="int64", sizes=size, like=embedding)
    check_index("instance", instance, -1, _MOST_LABELS)
    check_index("index", index, -1, size["H"] * size["W"])
    if not isinstance(temperature, Tensor):
        check_positive("temperature", temperature)
    valid, place = index >= 0, index.clamp(min=0)
    point = embedding.flatten(2).gather(2, place[:, None].expand(-1, size["D"], -1)).transpose(1, 2)
    point = point.to(torch.promote_types(point.dtype, torch.float32))
    point = point - point.mean(1, keepdim=True).detach()  # short vectors lose less in the expansion below
    square = point.square().sum(2)
    distance = square[:, :, None] + square[:, None] - 2 * point @ point.transpose(1, 2)
    label = instance.flatten(1).gather(1, place).masked_fill(~valid, -1)
    same = label[:, :, None] == label[:, None]
    share = torch.where(valid, 1 / _label_counts(label).to(point.dtype), 0.0)
    itself = torch.eye(index.shape[1], dtype=torch.bool, device=index.device)
    weight = (share[:, :, None] * share[:, None]).masked_fill(itself, 0.0)
    rest = same & (label == 0)[:, :, None]
    parts = (
        torch.where(rest, rest_weight * weight, weight),
        torch.where(same, weight, 0.0),
        torch.where(same & ~rest, weight, 0.0),
    )
    return PixelPairs(distance.clamp(min=0) / temperature, same, *map(_to_sum_one, parts))


def embedding_loss(
    embedding: Tensor,
    instance: Tensor,
    *,
    num_samples: int = 256,
    temperature: Tensor | float = 1.0,
    rest_weight: float = 1.0,
    keep: Keep = "none",
    keep_weight: float = 1.0,
    floor: float = 0.5,
    reference: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Eq. 2 over sampled pixels, and a term that keeps variance inside of objects.

    Args:
        embedding: ``[N, D, H, W]`` float.
        instance: ``[N, H, W]`` int64: -1 unknown (never sampled), 0 the rest, 1 to 255 instances or segments.
        num_samples: pixels S of an image; all S x S pairs count.
        temperature: squared distances are divided by it before anything else.
        rest_weight: factor for pairs within label 0, see ``pixel_pairs``.
        keep: "none"; "spread" (``spread_loss``); "distances" (``distance_loss``, needs ``reference``).
        keep_weight: factor of that term.
        floor: of "spread": the least mean squared distance within objects, as a share of that of ``reference``; where
            there is no reference, over temperature.
        reference: ``[N, D', H, W]`` embedding to hold on to, normally that of the network before training.
        generator: source of chance, on the device of ``instance``.

    Returns:
        A scalar, the mean over images that have a pair of labelled pixels; 0 where none has.

    Raises:
        InputError: tensors that do not fit, or an unknown ``keep``.

    Example:
        >>> instance = torch.tensor([[[1, 1], [2, -1]]])
        >>> float(embedding_loss(torch.zeros(1, 3, 2, 2), instance)) > 2  # different instances in one place
        True
    """
    check_choice("keep", keep, KEEP)
    index = sample_pixels(instance, num_samples, generator=generator)
    pairs_of = partial(pixel_pairs, instance=instance, index=index, temperature=temperature, rest_weight=rest_weight)
    pairs = pairs_of(embedding)
    present = (pairs.weight.sum((1, 2)) > 0).to(pairs.distance.dtype)
    loss = (pairs.weight * pair_loss(pairs.distance, pairs.same)).sum((1, 2))
    if keep != "none":
        if reference is None and keep == "distances":
            raise fail("reference", "None", "an embedding to take the distances from", 'or keep="spread"')
        before = None if reference is None else pairs_of(reference)
        if keep == "spread":
            loss = loss + keep_weight * spread_loss(pairs, floor, before)
        elif before is not None:
            loss = loss + keep_weight * distance_loss(pairs, before)
    return (loss * present).sum() / present.sum().clamp(min=1)


def spread_loss(pairs: PixelPairs, floor: float, reference: PixelPairs | None = None) -> Tensor:
    """Hinge that keeps instances from shrinking to points, on which no second seed would ever be put.

    Returns:
        ``[N]``: how far the mean squared distance within instances is below ``floor`` (times that of ``reference``),
        relative to that floor; 0 above it and for images without such pairs.
    """
    weight = pairs.within_objects
    spread = (weight * pairs.distance).sum((1, 2))
    before = torch.ones_like(spread) if reference is None else (weight * reference.distance).sum((1, 2)).detach()
    least = floor * before
    lost = (1 - spread / least.where(least > 0, 1.0)).clamp(min=0)
    return torch.where((least > 0) & (weight.sum((1, 2)) > 0), lost, 0.0)


def distance_loss(pairs: PixelPairs, reference: PixelPairs) -> Tensor:
    """Holds the distances within instances and within the rest to those of a reference embedding.

    Returns:
        ``[N]``: mean of ``(log(1 + d2) - log(1 + d2 of the reference))^2`` over the pairs of one label, the rest
        included.
    """
    change = torch.log1p(pairs.distance) - torch.log1p(reference.distance.detach())
    return (pairs.within * change.square()).sum((1, 2))


def distillation_loss(class_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the classes from the teacher's, mean over pixels.

    Args:
        class_logits: ``[N, C, H, W]`` float.
        teacher_logits: the same shape; no gradient goes into it.

    Raises:
        InputError: tensors that do not fit.

    Example:
        >>> logits = torch.zeros(1, 2, 1, 1)
        >>> float(distillation_loss(logits, logits))
        0.0
    """
    size = check_tensor("class_logits", class_logits, "N C H W", filled=True)
    check_tensor("teacher_logits", teacher_logits, "N C H W", sizes=size, like=class_logits)
    ours, theirs = (log_softmax(logits.float(), 1) for logits in (class_logits, teacher_logits.detach()))
    return kl_div(ours, theirs, reduction="none", log_target=True).sum(1).mean()


def objectness_loss(object_logit: Tensor, target: Tensor, *, balance: float = 1.0) -> Tensor:
    """Binary cross-entropy of objectness.

    Args:
        object_logit: ``[N, H, W]`` float.
        target: ``[N, H, W]`` float in [0, 1], share of the pixel that is object; negative where unknown.
        balance: what the object and the rest of an image weigh: ``p^(1 - balance)`` and ``(1 - p)^(1 - balance)``,
            scaled to sum 1, for an object that is the share p of what is known. 1: the same, however small the object,
            at the price of an objectness that is too high; 0: every pixel the same, so that small objects hardly count.

    Returns:
        A scalar, the mean over images in which anything is known.

    Raises:
        InputError: tensors that do not fit.

    Example:
        >>> objectness_loss(torch.zeros(1, 1, 3), torch.tensor([[[1.0, 0.0, -1.0]]]))  # log 2
        tensor(0.6931)
    """
    check_share("balance", balance)
    size = check_tensor("object_logit", object_logit, "N H W")
    check_tensor("target", target, "N H W", sizes=size, like=object_logit)
    logit = object_logit.float()
    known = (target >= 0).to(logit.dtype)
    share = target.to(logit.dtype) * known
    total, objects = known.sum((1, 2)), share.sum((1, 2))
    part = objects / total.clamp(min=1)
    weights = torch.stack((part, 1 - part)) ** (1 - balance)
    weights = weights / weights.sum(0)
    loss = -weights[0] * _mean(share, logsigmoid(logit)) - weights[1] * _mean(known - share, logsigmoid(-logit))
    present = (total > 0).to(logit.dtype)
    return (loss * present).sum() / present.sum().clamp(min=1)


def background_logit(class_logits: Tensor) -> Tensor:
    """Logit of Eq. 3, O = 1 - P_background, from class logits ``[N, C, H, W]`` whose class 0 is the background."""
    return class_logits[:, 1:].logsumexp(1) - class_logits[:, 0]


def _mean(weight: Tensor, value: Tensor) -> Tensor:
    total = weight.sum((1, 2))
    return (weight * value).sum((1, 2)) / total.where(total > 0, 1.0)


def _to_sum_one(weight: Tensor) -> Tensor:
    total = weight.sum((1, 2), keepdim=True)
    return weight / total.where(total > 0, 1.0)


def _label_counts(label: Tensor) -> Tensor:
    """For every pixel ``[N, S]`` the number of pixels of its image with its label; unknown counts as one label."""
    table = torch.zeros(len(label), _MOST_LABELS + 1, device=label.device)
    place = label + 1
    table.scatter_add_(1, place, torch.ones(label.shape, device=label.device))
    return table.gather(1, place)
