"""How good an embedding and an objectness map are, on stills that were held out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gpuvos.training.augment import Targets, concatenate, resize, to_grid
from gpuvos.training.images import StillSource
from gpuvos.training.loss import sample_pixels


class HeldOut(NamedTuple):
    """Measured on held-out stills; means over the images in which each is defined, NaN where it is in none."""

    pair_accuracy: float  # how often a pixel is nearer to one of its own instance than to one of another
    seed_iou: float  # of the objects, labelling every pixel like the nearest of 100 random pixels: what Eq. 13 needs
    object_iou: float  # of objectness above 0.5
    object_auc: float  # how often an object's pixel has higher objectness than another


def held_out_batches(stills: StillSource, size: int, limit: int, batch_size: int) -> list[tuple[Tensor, Targets]]:
    """Up to ``limit`` stills, evenly spread, squeezed to ``size`` x ``size``, with targets at stride 4."""
    count = min(limit, len(stills))
    numbers = [number * len(stills) // count for number in range(count)]
    batches = []
    for first in range(0, count, batch_size):
        some = [resize(stills[number], size, size) for number in numbers[first : first + batch_size]]
        batch = concatenate(some)
        batches.append((batch.image, to_grid(batch, -(-size // 4), -(-size // 4))))
    return batches


@torch.no_grad()
def evaluate(network: nn.Module, batches: list[tuple[Tensor, Targets]], device: torch.device) -> HeldOut:
    """Runs the network, in evaluation mode, over the batches; random choices are the same every time."""
    generator = torch.Generator().manual_seed(0)
    values: list[list[Tensor]] = [[], [], [], []]
    with _evaluation_mode(network):
        for images, targets in batches:
            output = network(images.to(device))
            embedding, objectness = output.embedding.float().cpu(), output.object_logit.float().cpu()
            values[0].append(pair_accuracy(embedding, targets.instance, generator))
            values[1].append(seed_iou(embedding, targets.objectness, generator))
            values[2].append(object_iou(objectness, targets.objectness))
            values[3].append(object_auc(objectness, targets.objectness))
    return HeldOut(*(float(torch.cat(part).nanmean()) for part in values))


def pair_accuracy(embedding: Tensor, instance: Tensor, generator: torch.Generator) -> Tensor:
    """``[N]``: of random (pixel, same instance, other instance) the share whose nearer one is the same; NaN without."""
    index = sample_pixels(instance, 256, generator=generator)
    valid, place = index >= 0, index.clamp(min=0)
    point = embedding.flatten(2).gather(2, place[:, None].expand(-1, embedding.shape[1], -1)).transpose(1, 2)
    label = instance.flatten(1).gather(1, place)
    both = valid[:, :, None] & valid[:, None]
    same = (label[:, :, None] == label[:, None]) & both & ~torch.eye(index.shape[1], dtype=torch.bool)
    other = (label[:, :, None] != label[:, None]) & both
    distance = torch.cdist(point, point, compute_mode="donot_use_mm_for_euclid_dist")
    chance = torch.rand(same.shape, generator=generator)
    near, far = (distance.gather(2, (chance * kind).argmax(2, keepdim=True))[:, :, 0] for kind in (same, other))
    fit = same.any(2) & other.any(2)
    return ((near < far) & fit).sum(1) / fit.sum(1)


def seed_iou(embedding: Tensor, objectness: Tensor, generator: torch.Generator, num_seeds: int = 100) -> Tensor:
    """``[N]``: every pixel takes the true label of the nearest of some random pixels; overlap with the objects."""
    ious = []
    for points, share in zip(embedding.flatten(2).transpose(1, 2), objectness.flatten(1), strict=True):
        known = torch.nonzero(share >= 0)[:, 0]
        truth = share[known] > 0.5
        if not truth.any() or truth.all():
            ious.append(torch.tensor(torch.nan))
            continue
        seeds = torch.randperm(len(known), generator=generator)[:num_seeds]
        nearest = torch.cdist(points[known], points[known[seeds]]).argmin(1)
        labelled = truth[seeds][nearest]
        ious.append((labelled & truth).sum() / (labelled | truth).sum())
    return torch.stack(ious)


def object_iou(object_logit: Tensor, objectness: Tensor) -> Tensor:
    """``[N]``: overlap of objectness above 0.5 with the objects, where known; NaN without an object."""
    known, truth = (objectness >= 0).flatten(1), (objectness > 0.5).flatten(1)
    found = (object_logit > 0).flatten(1) & known
    iou = (found & truth).sum(1) / (found | truth).sum(1)
    return iou.masked_fill(~truth.any(1), torch.nan)


def object_auc(object_logit: Tensor, objectness: Tensor) -> Tensor:
    """``[N]``: area under the curve of objectness, by ranks; NaN where only one kind is known."""
    logit, share = object_logit.flatten(1), objectness.flatten(1)
    known, truth = share >= 0, share > 0.5
    order = logit.masked_fill(~known, -torch.inf).argsort(1)
    hits = truth.gather(1, order) & known.gather(1, order)
    misses = ~truth.gather(1, order) & known.gather(1, order)
    wins = (misses.cumsum(1) * hits).sum(1)
    return wins / (hits.sum(1) * misses.sum(1))


@contextmanager
def _evaluation_mode(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
