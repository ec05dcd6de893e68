"""Trains a head through the method on rendered clips, from several beginnings: J on unseen clips before and after.

A head of two convolutions gives embedding and objectness, as in docs/guide/training-through.md. Masks are measured
without softness.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy

import gpuvos
from gpuvos.data import render_clip
from gpuvos.metrics import region_similarity

CONFIG = gpuvos.Config(num_seeds=40, window=3, smoothing_share=0.05)
Clip = tuple[Tensor, Tensor, Tensor]


def clip(seed: int) -> Clip:
    """Images and flow of a clip at a quarter of its size, and how much of each pixel is the object."""
    made = render_clip("single", num_frames=4, height=64, width=96, seed=seed)
    truth = avg_pool2d(made.mask[:, None].float(), 4)[:, 0]
    return avg_pool2d(made.frames / 255, 4), avg_pool2d(made.flow, 4), truth


def segmented(head: nn.Module, images: Tensor, flow: Tensor, config: gpuvos.Config) -> gpuvos.Segmentation:
    seen = head(images)
    return gpuvos.segment(seen[:, :8], seen[:, 8].sigmoid(), flow, config=config)


@torch.no_grad()
def score(head: nn.Module, clips: list[Clip]) -> float:
    """Mean J."""
    found = [
        region_similarity(segmented(head, images, flow, CONFIG).mask, truth > 0.5).mean()
        for images, flow, truth in clips
    ]
    return float(torch.stack(found).mean())


def train(softness: float, seed: int, steps: int, clips: list[Clip], unseen: list[Clip]) -> tuple[float, float]:
    """J before and after."""
    torch.manual_seed(seed)
    head = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Tanh(), nn.Conv2d(16, 9, 1))
    config = dataclasses.replace(CONFIG, softness=softness)
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    before = score(head, unseen)
    for step in range(steps):
        images, flow, truth = clips[step % len(clips)]
        probability = segmented(head, images, flow, config).probability
        loss = binary_cross_entropy(probability.clamp(1e-4, 1 - 1e-4), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return before, score(head, unseen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--softness", type=float, nargs="*", default=(0.0, 0.25))
    parser.add_argument("--steps", type=int, default=288)
    parser.add_argument("--beginnings", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clips, unseen = [clip(seed) for seed in range(12)], [clip(seed) for seed in range(100, 108)]
    print("| softness | J before, mean (least - most) | J after |\n|---:|---|---|")
    for softness in arguments.softness:
        pairs = [train(softness, seed, arguments.steps, clips, unseen) for seed in range(arguments.beginnings)]
        cells = [f"{statistics.mean(j):.3f} ({min(j):.3f} - {max(j):.3f})" for j in zip(*pairs, strict=True)]
        print(f"| {softness} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
