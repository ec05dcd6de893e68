"""Trains a head through VideoSegmenter in two processes: torchrun --nproc-per-node 2 benchmarks/train_ddp.py 20."""

import sys

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy

from gpuvos import Config, Features, VideoSegmenter
from gpuvos.data import render_clip
from gpuvos.flow.clip import clip_flow


class Head(nn.Sequential):
    def forward(self, frames: Tensor) -> Features:
        seen = super().forward(avg_pool2d(frames.float() / 255, 4))
        return Features(seen[:, :8], seen[:, 8].sigmoid(), clip_flow(frames, size=tuple(seen.shape[-2:])))


distributed.init_process_group("gloo")
torch.manual_seed(rank := distributed.get_rank())  # DDP makes the heads equal
head = Head(nn.Conv2d(3, 16, 3, padding=1), nn.Tanh(), nn.Conv2d(16, 9, 1))
model = nn.parallel.DistributedDataParallel(VideoSegmenter(head, Config(num_seeds=40, window=3, softness=0.25)))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for step in range(int(sys.argv[1])):
    clip = render_clip("single", num_frames=4, height=64, width=96, seed=2 * step + rank)
    loss = binary_cross_entropy(model(clip.frames).probability.clamp(1e-4, 1 - 1e-4), clip.mask.float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
weights = nn.utils.parameters_to_vector(head.parameters()).double().sum().item()
print(f"rank {rank}: loss {loss.item():.4f}, sum of the weights {weights:.12f}\n", end="", flush=True)
distributed.destroy_process_group()
