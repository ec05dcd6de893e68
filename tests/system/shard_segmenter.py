"""Run by two processes: the segmenter of the library behind fully_shard gives the masks it gives alone, and learns."""

import copy

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from gpuvos import Config, VideoSegmenter
from gpuvos.data import render_clip
from gpuvos.features.adapters import ModuleFeatures
from gpuvos.features.network.weights import load_saliency
from gpuvos.features.saliency import SaliencyFeatures

CONFIG = Config(num_seeds=12, num_background=4, window=3)
distributed.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2,))
frames = render_clip("single", num_frames=2, height=48, width=64, seed=0).frames

own = VideoSegmenter(SaliencyFeatures(load_saliency(size=64)), CONFIG)
sharded = copy.deepcopy(own)
fully_shard(sharded.front_end, mesh=mesh)
fully_shard(sharded, mesh=mesh)
assert any(type(value).__name__ == "DTensor" for value in sharded.parameters())
torch.testing.assert_close(sharded(frames).probability, own(frames).probability)

torch.manual_seed(0)
network = nn.Conv2d(3, 9, 8, stride=4, padding=2)
learner = VideoSegmenter(ModuleFeatures(network, normalize=False), CONFIG)
fully_shard(learner, mesh=mesh)
before = [value.full_tensor().clone() for value in learner.parameters()]
optimizer = torch.optim.SGD(learner.parameters(), 1.0)
for _ in range(2):
    learner(frames).probability.mean().backward()
    optimizer.step()
    optimizer.zero_grad()
after = [value.full_tensor() for value in learner.parameters()]
assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
print(f"rank {distributed.get_rank()}: done\n", end="", flush=True)
distributed.destroy_process_group()
