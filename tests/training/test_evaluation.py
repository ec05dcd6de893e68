"""What is measured on held-out stills, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gpuvos.training.evaluation import (
    evaluate,
    held_out_batches,
    object_auc,
    object_iou,
    pair_accuracy,
    seed_iou,
)
from gpuvos.training.synthetic import RenderedStills


def test_objectness_by_hand() -> None:
    logit = torch.tensor([[[3.0, 1.0, -1.0, -2.0, 9.0]]])
    target = torch.tensor([[[1.0, 0.0, 1.0, 0.0, -1.0]]])
    assert float(object_iou(logit, target)) == pytest.approx(1 / 3)
    assert float(object_auc(logit, target)) == pytest.approx(3 / 4)  # 3 beats both, -1 beats -2 alone
    assert object_auc(logit, target.clamp(min=1)).isnan()
    assert object_iou(logit, target.clamp(max=0)).isnan()


def test_an_embedding_that_knows_is_right_and_one_that_does_not_guesses(generator: torch.Generator) -> None:
    instance = torch.randint(0, 3, (2, 20, 20), generator=generator)
    knows = instance[:, None].float() * 10 + 0.1 * torch.rand(2, 1, 20, 20, generator=generator)
    guesses = torch.rand(2, 4, 20, 20, generator=generator)
    assert pair_accuracy(knows, instance, generator).tolist() == [1.0, 1.0]
    assert 0.4 < pair_accuracy(guesses, instance, generator).mean() < 0.6
    objectness = (instance > 0).float()
    assert seed_iou(knows, objectness, generator).tolist() == [1.0, 1.0]
    assert seed_iou(guesses, objectness, generator).mean() < 0.65
    assert math.isnan(float(seed_iou(guesses[:1], torch.zeros(1, 20, 20), generator)))


def test_evaluation_repeats_and_leaves_the_mode_alone(tiny: nn.Module) -> None:
    tiny.train()
    tiny.encoder.eval()
    batches = held_out_batches(RenderedStills(3, height=48, width=64), 48, 7, 4)
    assert [len(images) for images, _ in batches] == [4, 3]
    first = evaluate(tiny, batches, torch.device("cpu"))
    assert first == evaluate(tiny, batches, torch.device("cpu"))
    assert all(0 <= value <= 1 for value in first)
    assert tiny.training
    assert tiny.decoder.training
    assert not tiny.encoder.training
