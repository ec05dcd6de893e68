"""Trains a head through VideoSegmenter in two processes with DistributedDataParallel: torchrun --nproc-per-node 2."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy

import gpuvos
from gpuvos.data import render_clip


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Tanh(), nn.Conv2d(16, 9, 1))
        self.flow = gpuvos.flow.clip.DenseFlow()

    def forward(self, frames: Tensor) -> gpuvos.Features:
        seen = self.layers(avg_pool2d(frames.float() / 255, 4))
        return gpuvos.Features(seen[:, :8], seen[:, 8].sigmoid(), self.flow(frames, size=tuple(seen.shape[-2:])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    steps = parser.parse_args().steps
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.manual_seed(rank)  # DDP makes the heads equal
    config = gpuvos.Config(num_seeds=40, window=3, smoothing_share=0.05, softness=0.25)
    model = nn.parallel.DistributedDataParallel(gpuvos.VideoSegmenter(Head(), config))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(steps):
        clip = render_clip("single", num_frames=4, height=64, width=96, seed=2 * step + rank)
        probability = model(clip.frames).probability.clamp(1e-4, 1 - 1e-4)
        loss = binary_cross_entropy(probability, clip.mask.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    total = sum(float(value.detach().double().sum()) for value in model.parameters())
    print(f"rank {rank}: loss {float(loss):.4f}, sum of the weights {total:.12f}\n", end="", flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
