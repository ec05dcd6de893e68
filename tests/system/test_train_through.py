"""A head is trained through the method on rendered clips, and finds objects in clips it has not seen."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy

import gpuvos
from gpuvos import Features
from gpuvos.data import render_clip

CONFIG = gpuvos.Config(num_seeds=40, window=3, smoothing_share=0.05)


@pytest.mark.slow
def test_a_head_trained_through_the_method_beats_the_untrained_one() -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 32, 7, stride=4, padding=3), nn.Tanh()).requires_grad_(False)
    head = nn.Conv2d(32, 8, 1)
    backbone[0].weight.mul_(3)

    def clip(seed: int) -> tuple[Features, Tensor]:
        scene = render_clip("single", num_frames=4, height=64, width=96, seed=seed)
        images = scene.frames.float() / 255
        seen = backbone((images - images.mean((2, 3), keepdim=True)) / images.std())
        truth = avg_pool2d(scene.mask[:, None].float(), 4)[:, 0]
        return Features(seen, torch.full(truth.shape, 0.5), avg_pool2d(scene.flow, 4)), truth

    def segmented(features: Features) -> gpuvos.Segmentation:
        return gpuvos.segment(head(features.embedding), features.objectness, features.flow, config=CONFIG)

    @torch.no_grad()
    def score() -> float:
        overlap = [gpuvos.metrics.region_similarity(segmented(f).mask, m > 0.5).mean() for f, m in unseen]
        return float(torch.stack(overlap).mean())

    training, unseen = [clip(seed) for seed in range(12)], [clip(seed) for seed in range(100, 108)]
    before = score()
    optimizer = torch.optim.Adam(head.parameters(), 5e-3)
    for step in range(72):
        features, truth = training[step % len(training)]
        probability = segmented(features).probability
        loss = binary_cross_entropy(probability.clamp(1e-4, 1 - 1e-4), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = score()
    assert before < 0.6
    assert after > before + 0.1, (before, after)


@pytest.mark.slow
def test_objectness_is_trained_through_the_method() -> None:
    """Two things move and one is meant: a hint says which, and its sign is learned through the weights of the seeds."""
    scenes = [render_clip("two", num_frames=3, height=64, width=96, seed=seed) for seed in range(7)]
    config = dataclasses.replace(CONFIG, softness=0.25)
    clips = []
    for scene in scenes:
        colour = avg_pool2d(scene.frames.float() / 255, 4)
        truth = avg_pool2d((scene.instances == 1)[:, None].float(), 4)[:, 0]
        hint = truth + 0.3 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
        clips.append((4 * colour, hint, avg_pool2d(scene.flow, 4), truth))
    slope = torch.tensor(-1.0, requires_grad=True)  # the wrong way round

    def loss_of(colour: Tensor, hint: Tensor, flow: Tensor, truth: Tensor) -> Tensor:
        result = gpuvos.segment(colour, (slope * (hint - 0.5)).sigmoid(), flow, config=config)
        return binary_cross_entropy(result.probability.clamp(1e-4, 1 - 1e-4), truth)

    @torch.no_grad()
    def unseen() -> float:
        return float(torch.stack([loss_of(*clip) for clip in clips[4:]]).mean())

    before = unseen()
    optimizer = torch.optim.Adam([slope], 0.3)
    for step in range(20):
        optimizer.zero_grad()
        loss_of(*clips[step % 4]).backward()
        optimizer.step()
    assert slope > 1
    assert unseen() < 0.8 * before, before
