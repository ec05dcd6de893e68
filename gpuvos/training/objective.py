"""The sum that training minimises, at the scale and in the mode that it is minimised in."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from gpuvos.training.augment import Targets, to_grid
from gpuvos.training.config import PRETRAINED, TrainingConfig
from gpuvos.training.images import StillSource
from gpuvos.training.loss import (
    background_logit,
    distillation_loss,
    embedding_loss,
    objectness_loss,
    pixel_pairs,
    sample_pixels,
)
from gpuvos.training.sampler import BatchSampler


def losses(
    output: Any,
    targets: Targets,
    before: Any,
    config: TrainingConfig,
    temperature: float,
    generator: torch.Generator | None,
) -> dict[str, Tensor]:
    """The terms ``pair``, ``class``, ``object`` without their weights, and ``loss``, their weighted sum."""
    pair = embedding_loss(
        output.embedding,
        targets.instance,
        num_samples=config.num_samples,
        temperature=temperature,
        rest_weight=config.rest_weight,
        keep=config.keep,
        keep_weight=config.keep_weight,
        reference=None if before is None else before.embedding,
        generator=generator,
    )
    logits, target = output.class_logits, targets.objectness
    if before is None:
        classes = objectness_loss(background_logit(logits.float()), target, balance=config.balance)
    else:
        classes = distillation_loss(logits, before.class_logits)
        if config.hold_unknown:
            target = torch.where(target < 0, before.object_logit.float().sigmoid(), target)
    objects = objectness_loss(output.object_logit, target, balance=config.balance)
    total = config.pair_weight * pair + config.class_weight * classes + config.object_weight * objects
    return {"loss": total, "pair": pair, "class": classes, "object": objects}


def set_mode(network: nn.Module, freeze_statistics: bool) -> None:
    """Training mode; with ``freeze_statistics`` the batch normalisation of encoder and decoder stays in evaluation."""
    network.train()
    if freeze_statistics:
        for name in PRETRAINED:
            for module in getattr(network, name, nn.Identity()).modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()


@torch.no_grad()
def measure_temperature(
    network: nn.Module, stills: StillSource, config: TrainingConfig, device: torch.device, *, batches: int = 4
) -> float:
    """The temperature that puts R = 1/2 between the distances within and between instances, as they are now.

    R of d2 / temperature is 1/2 at d2 = temperature log 3; that is set to the geometric mean of both mean distances.
    """
    sampler = BatchSampler(
        stills,
        batch_size=config.batch_size,
        size=config.size,
        paste_share=config.paste_share,
        rest=config.rest_weight == 0,
        seed=config.seed + 1,
    )
    sums = torch.zeros(2, 2, dtype=torch.float64)  # [within or between, distance or weight]
    probe = copy.deepcopy(network)  # in the mode of training, whose statistics may differ; so its buffers change
    set_mode(probe, config.freeze_statistics)
    for step in range(batches):
        generator = sampler.generator(step)
        batch = sampler.draw(generator)
        with torch.random.fork_rng():
            torch.manual_seed(generator.initial_seed())
            embedding = probe(batch.image.to(device)).embedding.cpu()
        instance = to_grid(batch, *embedding.shape[2:]).instance
        pairs = pixel_pairs(embedding, instance, sample_pixels(instance, config.num_samples, generator=generator))
        for row, weight in enumerate((pairs.within_objects, pairs.weight * ~pairs.same)):
            sums[row] += torch.stack(((weight * pairs.distance).sum(), weight.sum())).double()
    if not (sums > 0).all():
        return 1.0
    return float((sums[:, 0] / sums[:, 1]).log().mean().exp() / math.log(3))
