"""The losses of training under arguments of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuvos.training import loss


def sample_pixels(instance: Any, num_samples: Any = 4) -> Tensor:
    return loss.sample_pixels(instance, num_samples, generator=torch.Generator().manual_seed(0))


def embedding_loss(**arguments: Any) -> Tensor:
    return loss.embedding_loss(**arguments, generator=torch.Generator().manual_seed(0))


def pair_losses(embedding: Tensor, instance: Tensor, index: Tensor, temperature: Any = 1.0) -> list[Tensor]:
    pairs = loss.pixel_pairs(embedding, instance, index, temperature=temperature)
    return [
        loss.pair_loss(pairs.distance, pairs.same),
        loss.spread_loss(pairs, 0.5),
        loss.distance_loss(pairs, pairs),
    ]


EMBEDDED = {"embedding": "float N D H W", "instance": "index<256 N H W"}
CASES: dict[str, tuple[Callable[..., Any], dict[str, str], dict[str, Any], list[str]]] = {
    "sample_pixels": (sample_pixels, {"instance": "index<256 N H W"}, {"num_samples": "count"},
                      ["index N num_samples*(num_samples<=H*W)+H*W*(num_samples>H*W)"]),
    "embedding_loss": (
        embedding_loss, EMBEDDED,
        {"num_samples": "count", "temperature": "number", "keep": ("none", "spread")}, ["float "],
    ),
    "pixel_pairs": (pair_losses, {**EMBEDDED, "index": "index<H*W N S"}, {"temperature": "number"},
                    ["float N S S", "float N", "float N"]),
    "distillation_loss": (
        loss.distillation_loss, {"class_logits": "float N C H W", "teacher_logits": "float N C H W"}, {}, ["float "]
    ),
    "objectness_loss": (loss.objectness_loss, {"object_logit": "float N H W", "target": "unit N H W"},
                        {"balance": "share"}, ["float "]),
}  # fmt: skip


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_refused_by_name_or_as_promised(holds: Callable, name: str) -> None:
    holds(CASES[name])
