"""A head is trained through the method on rendered clips, and finds objects in clips it has not seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy

import gpuvos
from gpuvos import Features
from gpuvos.data import render_clip

CONFIG = gpuvos.Config(num_seeds=40, window=3, smoothing_share=0.05)


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
