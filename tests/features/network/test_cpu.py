"""The network laid out for a CPU: the same numbers, chosen at the call, and never for another device."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.functional import pil_to_tensor

import gpuvos
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.network.cpu import CpuNetwork
from gpuvos.features.network.embedding import EmbeddingNetwork, fuse
from gpuvos.flow.clip import clip_flow


class Calls(TorchDispatchMode):
    """Counts the operations that reach a device."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def network() -> EmbeddingNetwork:
    """Fused, with every weight drawn, and scales of norms and slopes of activations on both sides of 0 and at it."""
    torch.manual_seed(0)
    network = EmbeddingNetwork(dimensions=8, width=16)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.normal_(mean=0.8, std=0.5)[::7] = 0
            module.weight.data[3::11] = -1e-20  # dividing by it overflows
            module.bias.data.normal_(std=0.2)
        if isinstance(module, nn.PReLU):
            module.weight.data.normal_(std=0.4)[::5] = 0
    for head in (network.correct, network.objectness):
        head.weight.data.normal_(std=0.1)
        assert head.bias is not None
        head.bias.data.normal_()
    return fuse(network).to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (2, 1, 9), (1, 5, 2), (3, 16, 16), (2, 33, 50), (1, 47, 31), (2, 130, 96)]
)
def test_the_same_numbers(network: EmbeddingNetwork, shape: tuple[int, int, int]) -> None:
    images = torch.rand(shape[0], 3, *shape[1:], generator=torch.Generator().manual_seed(1))
    quick = CpuNetwork(network)
    with torch.no_grad():
        wanted = network(images)
    for ours, theirs in zip(quick(images), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    class_logits, object_logit = quick.objects(images)
    torch.testing.assert_close(class_logits, wanted.class_logits, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(object_logit, wanted.object_logit, rtol=1e-4, atol=1e-3)


def test_weights_that_change_later_are_seen() -> None:
    front_end = LearnedFeatures(EmbeddingNetwork(dimensions=4, width=4))
    frames = torch.rand(1, 3, 40, 50)
    before = front_end.encode(frames)[0]
    state = front_end.network.state_dict()
    front_end.network.load_state_dict({**state, "project.bias": state["project.bias"] + 1})
    torch.testing.assert_close(front_end.encode(frames)[0], before + 1, rtol=1e-4, atol=1e-4)


def test_chosen_for_plain_numbers_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    call = CpuNetwork.__call__
    monkeypatch.setattr(CpuNetwork, "__call__", lambda self, images: used.append(1) or call(self, images))
    front_end = LearnedFeatures(EmbeddingNetwork(dimensions=4, width=4))
    front_end.encode(torch.rand(1, 3, 40, 50))
    assert used == [1]
    frames = torch.rand(1, 3, 40, 50, requires_grad=True)
    front_end.encode(frames)[0].sum().backward()
    assert frames.grad is not None
    with FakeTensorMode(allow_non_fake_inputs=True):
        front_end.encode(torch.rand(1, 3, 40, 50))
    assert used == [1]


def test_what_a_gpu_runs_is_as_it_was() -> None:
    with FakeTensorMode(), torch.no_grad():
        front_end = LearnedFeatures(EmbeddingNetwork()).to("cuda")
        norms = sum(isinstance(module, nn.BatchNorm2d) for module in front_end.network.modules())
        frames = torch.empty(2, 3, 480, 854, dtype=torch.uint8, device="cuda")
        with Calls() as calls:
            front_end.encode(frames)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in front_end.network.modules())
    assert calls.count["convolution"] == 2 * convolutions  # both sizes, nothing joined
    assert calls.count["addcmul"] == 0
    assert calls.count["_native_batch_norm_legit_no_training"] == 2 * norms


@pytest.mark.parametrize(("name", "rows", "columns"), [("bear", 480, 854), ("flamingo", 479, 851), ("train", 331, 478)])
def test_masks_are_equal(
    development_data: Path, monkeypatch: pytest.MonkeyPatch, name: str, rows: int, columns: int
) -> None:
    files = sorted((development_data / "davis2016" / "JPEGImages" / "480p" / name).glob("*.jpg"))[::6][:3]
    frames = torch.stack([pil_to_tensor(Image.open(file))[:, :rows, :columns] for file in files])
    front_end = LearnedFeatures(chunk=2)
    quick = front_end.encode(frames)
    monkeypatch.setattr("gpuvos.features.bundled._runs_on_cpu", lambda _: False)
    slow = front_end.encode(frames)
    flow = clip_flow(frames, size=(slow[1].shape[-2], slow[1].shape[-1]))
    masks = []
    for embedding, objectness in (quick, slow):
        features = front_end.complete(embedding, objectness, flow)
        masks.append(gpuvos.segment(*features, size=(rows, columns)).mask)
    assert masks[0].any()
    assert torch.equal(*masks)
    torch.testing.assert_close(quick[0], slow[0], rtol=1e-3, atol=1e-4)
