"""The network laid out for a CPU: the same numbers, chosen at the call, and never for another device."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import gpuvos
from gpuvos.data.images import read_image
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.network.embedding import EmbeddingNetwork, fuse
from gpuvos.features.network.embedding_cpu import CpuNetwork
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
def network(request: pytest.FixtureRequest) -> EmbeddingNetwork:
    """With every weight drawn, and scales of norms and slopes of activations on both sides of 0 and at it."""
    torch.manual_seed(0)
    network = EmbeddingNetwork(dimensions=8, width=getattr(request, "param", 16))
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
    for head in filter(None, (network.correct, network.objectness)):
        head.weight.data.normal_(std=0.1)
        assert head.bias is not None
        head.bias.data.normal_()
    return network.eval()


@pytest.fixture
def tiny() -> EmbeddingNetwork:
    torch.manual_seed(0)
    return EmbeddingNetwork(dimensions=4, width=4).eval().requires_grad_(False)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every call that runs laid out."""
    calls: list[int] = []
    call = CpuNetwork.__call__
    monkeypatch.setattr(CpuNetwork, "__call__", lambda self, images: calls.append(1) or call(self, images))
    return calls


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes networks run as they are from then on."""
    return lambda: monkeypatch.setattr("gpuvos.features.network.embedding.laid_out", lambda *_: None)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


IMAGES = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(1))


@pytest.mark.sampled
@pytest.mark.parametrize("network", [16, 0], indirect=True, ids=["hidden", "linear"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    "shape", [(2, 33, 50), (1, 1, 1), (2, 1, 9), (1, 5, 2), (3, 16, 16), (1, 47, 31), (2, 130, 96)]
)
def test_the_same_numbers(
    network: EmbeddingNetwork, plainly: Callable[[], None], shape: tuple[int, int, int], fused: bool
) -> None:
    network = fuse(network) if fused else copy.deepcopy(network).requires_grad_(False)
    images = torch.rand(shape[0], 3, *shape[1:], generator=torch.Generator().manual_seed(1))
    quick = network(images)
    plainly()
    for ours, theirs in zip(quick, network(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.slow
def test_the_same_bits_on_any_number_of_threads(network: EmbeddingNetwork, threads: Callable[[int], None]) -> None:
    fused = fuse(network)
    images = torch.rand(1, 3, 90, 130, generator=torch.Generator().manual_seed(1))
    threads(1)
    alone = fused(images)
    threads(2)
    for ours, theirs in zip(fused(images), alone, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.slow
def test_weights_that_change_later_are_seen(tiny: EmbeddingNetwork, used: list[int]) -> None:
    bias = tiny.project.bias
    assert bias is not None
    before = tiny(IMAGES).embedding
    changes: list[Callable[[], object]] = [
        lambda: bias.add_(1),
        lambda: bias.data.add_(1),  # which no counter of versions sees
        lambda: tiny.load_state_dict({**tiny.state_dict(), "project.bias": bias + 1}),
        lambda: setattr(tiny.project, "bias", nn.Parameter(bias + 1, requires_grad=False)),
    ]
    for count, change in enumerate(changes, 1):
        change()
        torch.testing.assert_close(tiny(IMAGES).embedding, before + count)
    assert len(used) == len(changes) + 1
    assert tiny.bfloat16()(IMAGES.bfloat16()).embedding.dtype == torch.bfloat16
    assert len(used) == len(changes) + 2


def test_a_network_keeps_nothing_of_it(tiny: EmbeddingNetwork, used: list[int]) -> None:
    content, names = set(vars(tiny)), list(tiny.state_dict())
    first = tiny(IMAGES)
    assert (set(vars(tiny)), list(tiny.state_dict())) == (content, names)
    for other in (copy.deepcopy(tiny), pickle.loads(pickle.dumps(tiny))):
        assert torch.equal(other(IMAGES).embedding, first.embedding)
    assert len(used) == 3


@pytest.mark.slow
def test_chosen_for_plain_numbers_alone(
    tiny: EmbeddingNetwork, used: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = IMAGES.clone().requires_grad_()
    tiny(images).embedding.sum().backward()
    assert images.grad is not None
    tiny.requires_grad_(True)
    assert tiny(IMAGES).embedding.requires_grad
    tiny.requires_grad_(False).train()(IMAGES)
    tiny.eval()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        tiny(mode.from_tensor(IMAGES))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tiny(IMAGES)
    with monkeypatch.context() as patched:
        patched.setattr("torch.backends.mkldnn.is_available", lambda: False)
        tiny(IMAGES)
    torch.func.jvp(lambda x: tiny(x).embedding, (IMAGES,), (IMAGES,))
    torch.func.vmap(lambda x: tiny(x[None]).embedding)(IMAGES)
    copy.deepcopy(tiny).double()(IMAGES.double())
    with monkeypatch.context() as patched:
        patched.setattr("torch.compiler.is_compiling", lambda: True)
        tiny(IMAGES)
    assert not used
    with torch.inference_mode():
        tiny(IMAGES)
    assert used == [1]
    with Calls():  # who only watches changes nothing
        tiny(IMAGES)
    assert used == [1, 1]


def test_what_waits_in_the_network_is_called(tiny: EmbeddingNetwork, used: list[int]) -> None:
    """Hooks: those of users, and those by which a sharded network gathers its weights."""
    seen: list[Tensor] = []
    handle = tiny.encoder.stage8[1].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    tiny(IMAGES)
    assert len(seen) == 1
    handle.remove()
    tiny.encoder.stem.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    tiny(IMAGES)
    assert len(seen) == 2
    assert not used


def test_other_layers_run_as_they_are(tiny: EmbeddingNetwork, used: list[int]) -> None:
    tiny.encoder.stem.act = nn.ReLU()
    assert tiny(IMAGES).embedding.isfinite().all()
    assert not used


def test_what_another_device_runs_is_as_it_was(tiny: EmbeddingNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many calls as there are layers: nothing joined, nothing folded. Shapes suffice, so no GPU is needed."""
    fused = fuse(tiny).to("meta")
    monkeypatch.setattr(CpuNetwork, "derive", lambda _: pytest.fail("laid out for a CPU"))
    images = torch.empty(2, 3, 480, 854, device="meta")
    with Calls() as calls:
        fused(images)
    wanted: Counter[type] = Counter(type(module) for module in fused.modules())
    assert calls.count["convolution"] == wanted[nn.Conv2d]
    norms = sum(count for name, count in calls.count.items() if "batch_norm" in name)
    assert norms == wanted[nn.BatchNorm2d]
    assert calls.count["_prelu_kernel"] == wanted[nn.PReLU]
    assert calls.count["addcmul"] == 0


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows", "columns"), [("bear", 480, 854), ("flamingo", 479, 851), ("train", 331, 478)])
def test_masks_are_equal(
    development_data: Path, plainly: Callable[[], None], name: str, rows: int, columns: int
) -> None:
    """Up to two pixels in a million, where rounding decides."""
    files = sorted((development_data / "davis2016" / "JPEGImages" / "480p" / name).glob("*.jpg"))[::6][:2]
    frames = torch.stack([read_image(file)[0][:, :rows, :columns] for file in files])
    front_end = LearnedFeatures(chunk=2)
    quick = front_end.encode(frames)
    plainly()
    slow = front_end.encode(frames)
    flow = clip_flow(frames, size=(slow[1].shape[-2], slow[1].shape[-1]))
    masks = []
    for embedding, objectness in (quick, slow):
        features = front_end.complete(embedding, objectness, flow)
        masks.append(gpuvos.segment(*features, size=(rows, columns)).mask)
    assert masks[0].any()
    assert (masks[0] != masks[1]).sum() <= 2 * masks[0].numel() / 1e6
    torch.testing.assert_close(quick[0], slow[0], rtol=1e-3, atol=1e-4)
