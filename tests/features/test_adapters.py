"""Front ends around the networks of others, with random weights."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn

import gpuvos
from gpuvos.errors import InputError
from gpuvos.features.adapters import DeepLabFeatures, ModuleFeatures, SamFeatures
from gpuvos.features.context import position, squash, with_context
from gpuvos.functional import residual_flow


class GivenFlow(nn.Module):
    """A corner moves."""

    def forward(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        flow = torch.zeros(frames.shape[0], 2, *size)
        flow[:, 0, : size[0] // 2, : size[1] // 3] = 5
        return flow


def half(images: Tensor) -> Tensor:
    return torch.full((len(images), 2, 3), 0.5)


@pytest.fixture
def frames(generator: torch.Generator) -> Tensor:
    return torch.randint(0, 256, (3, 3, 33, 47), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def deeplab() -> DeepLabFeatures:
    torch.manual_seed(0)
    return DeepLabFeatures(weights=None, backbone="mobilenet_v3_large", flow=GivenFlow())


@pytest.fixture(scope="module")
def sam() -> SamFeatures:
    torch.manual_seed(0)
    return SamFeatures(size=64, flow=GivenFlow())


def convolution(channels: int = 6) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, channels, 8, stride=8, padding=4), nn.BatchNorm2d(channels))


def test_context_is_position_and_residual_motion(generator: torch.Generator) -> None:
    embedding = torch.randn(2, 3, 6, 9, generator=generator)
    flow, objectness = GivenFlow()(embedding, (6, 9)), torch.rand(2, 6, 9, generator=generator)
    features = with_context(embedding, objectness, flow, position_weight=0.5, motion_weight=2.0)
    torch.testing.assert_close(features.embedding[:, :3], embedding)
    torch.testing.assert_close(features.embedding[:, 3:5], 0.5 * position(embedding))
    rest = squash(residual_flow(flow, weight=1 - 0.9 * objectness))
    assert rest.abs().max() > 0.1
    torch.testing.assert_close(features.embedding[:, 5:], 2 * rest)


def test_module_by_hand() -> None:
    """Colours (0, 0.6, 0.8) x 0.5 of unit length after mean 0, std 0.5: times the scale."""
    seen = []

    def identity(images: Tensor) -> Tensor:
        seen.append(images)
        return images

    frames = torch.tensor([0.0, 0.3, 0.4])[None, :, None, None].expand(1, 3, 8, 12)
    options: dict[str, Any] = {"mean": (0, 0, 0), "std": (0.5, 0.5, 0.5), "objectness": half}
    features = ModuleFeatures(identity, scale=3.0, floor=0.2, **options)(frames)
    torch.testing.assert_close(seen[0], 2 * frames)
    assert features.embedding.shape == (1, 7, 2, 3)
    expected = torch.tensor([0.0, 1.8, 2.4])[:, None, None].expand(3, 2, 3)
    torch.testing.assert_close(features.embedding[0, :3], expected)
    torch.testing.assert_close(features.objectness, torch.full((1, 2, 3), 0.6))
    kept = ModuleFeatures(identity, scale=3.0, normalize=False, **options)(2 * frames)
    torch.testing.assert_close(kept.embedding[0, :3], 2 * expected)
    shifted = ModuleFeatures(identity, normalize=False, scale=1.0, mean=(0.5, 0, 0), std=(1, 1, 1))(frames)
    torch.testing.assert_close(shifted.embedding[0, :3, 0, 0], torch.tensor([-0.5, 0.3, 0.4]))


def test_projection_keeps_distances(generator: torch.Generator) -> None:
    values = torch.randn(1, 256, 4, 6, generator=generator)
    options: dict[str, Any] = {"objectness": half, "normalize": False, "scale": 1.0, "flow": GivenFlow()}
    front = ModuleFeatures(lambda _: values, **options)
    frames = torch.rand(1, 3, 16, 24, generator=generator)
    small = front(frames).embedding[0, :64].flatten(1)
    assert front.projection is not None
    torch.testing.assert_close(front.projection @ front.projection.mT, 4 * torch.eye(64))
    large = values[0].flatten(1)
    off_diagonal = torch.triu_indices(24, 24, 1)
    wanted, found = (torch.cdist(x.mT, x.mT)[tuple(off_diagonal)].square() for x in (large, small))
    ratio = found / wanted
    assert abs(ratio.mean() - 1) < 0.05  # one matrix, so not quite 1
    assert 0.08 < ratio.std() < 0.22  # sqrt(2 * 192 / (64 * 258)) = 0.15
    again = ModuleFeatures(lambda _: values, **options)(frames)
    assert torch.equal(again.embedding[0, :64].flatten(1), small)
    whole = ModuleFeatures(lambda _: values, dimensions=256, **options)(frames)
    torch.testing.assert_close(whole.embedding[0, :256], values[0])


@pytest.mark.parametrize(
    ("stride", "size", "grid"),
    [(4, (33, 47), (9, 12)), (8, (33, 47), (5, 6)), (None, (33, 47), (33, 47)), (4, (1, 1), (1, 1))],
)
def test_grid(stride: int | None, size: tuple[int, int], grid: tuple[int, int]) -> None:
    features = ModuleFeatures(convolution(), stride=stride)(torch.rand(2, 3, *size))
    assert features.embedding.shape == (2, 10, *grid)
    assert features.objectness.shape == (2, *grid)
    assert features.flow.shape == (2, 2, *grid)
    assert features.objectness.min() >= 0.02
    assert features.objectness.max() <= 1
    torch.testing.assert_close(features.embedding[:, :6].norm(dim=1), torch.full((2, *grid), 2.0))


def test_sides_that_a_number_divides() -> None:
    sizes = []

    def patches(images: Tensor) -> Tensor:
        sizes.append(tuple(images.shape[-2:]))
        return nn.functional.avg_pool2d(images, 14)

    ModuleFeatures(patches, multiple=14)(torch.rand(1, 3, 30, 42))
    assert sizes == [(42, 42)]


@pytest.mark.parametrize("value", [0.1, 0.5, 1.0])
def test_constant_objectness_stays_what_it_is(value: float) -> None:
    """Bilinear weights add up to a little more than 1 in places."""
    front = ModuleFeatures(convolution(), objectness=lambda images: value * 2 * half(images), floor=0)
    objectness = front(torch.rand(1, 3, 33, 47)).objectness
    assert torch.equal(objectness, torch.full((1, 9, 12), value))


def test_prior_is_that_of_the_weight_free_front_end(generator: torch.Generator) -> None:
    from gpuvos.features.appearance import AppearanceFeatures

    frames = torch.rand(2, 3, 32, 48, generator=generator)
    flow = GivenFlow()
    prior = AppearanceFeatures(stride=4, flow=flow)(frames).objectness
    assert prior.max() > 0.05
    torch.testing.assert_close(ModuleFeatures(convolution(), floor=0, flow=flow)(frames).objectness, prior)


def test_modules_of_other_dtypes_and_outputs(frames: Tensor) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = convolution().double()

        def forward(self, images: Tensor) -> dict[str, Any]:
            return {"out": (self.inner(images), None)}

    front = ModuleFeatures(Named(), select=lambda output: output["out"][0], flow=GivenFlow())
    features = front(frames)
    assert features.embedding.dtype == torch.float64
    plain = ModuleFeatures(convolution(), flow=GivenFlow())(frames)
    torch.testing.assert_close(features.embedding.float(), plain.embedding, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match=r"type dict with keys 'out'.*select"):
        ModuleFeatures(Named())(frames)
    halves = ModuleFeatures(convolution().bfloat16(), flow=GivenFlow())(frames)
    assert halves.embedding.dtype == torch.float32
    torch.testing.assert_close(halves.embedding, plain.embedding, rtol=0.1, atol=0.1)


def _kinds() -> list[str]:
    return ["module", "deeplab", "sam"]


@pytest.fixture
def front(request: pytest.FixtureRequest) -> ModuleFeatures:
    if request.param == "module":
        return ModuleFeatures(convolution(100), flow=GivenFlow())
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.mark.sampled
@pytest.mark.parametrize("front", _kinds(), indirect=True)
def test_chunks_types_and_calls_change_nothing(front: ModuleFeatures, frames: Tensor) -> None:
    with torch.no_grad():
        one = front(frames)
        floats = front(frames.double() / 255)
        again, first = front(frames), front(frames[:1])
        front.chunk = 8
        together = front(frames)
        front.chunk = None
    assert one.embedding.shape == (3, 68, 9, 12)
    assert one.embedding[:, :64].std(0).max() > 0.01  # frames differ
    assert 0.02 <= one.objectness.min() <= one.objectness.max() <= 1
    for a, b, c, d, e in zip(one, again, together, floats, first, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a[:1], e)  # a stream sees no later frame
        torch.testing.assert_close(a, c, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(a, d, rtol=1e-3, atol=1e-3)


@pytest.mark.sampled
@pytest.mark.parametrize("front", _kinds(), indirect=True)
def test_segments_frames_to_masks(front: ModuleFeatures, frames: Tensor) -> None:
    assert gpuvos.VideoSegmenter(front)(frames).mask.shape == (3, 33, 47)


@pytest.mark.slow
def test_deeplab_is_that_of_torchvision(frames: Tensor) -> None:
    from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

    network = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=True)
    network.classifier[-1].weight.data.normal_()
    state = network.state_dict()
    assert any(name.startswith("aux_classifier") for name in state)
    front = DeepLabFeatures(weights=state, backbone="mobilenet_v3_large", floor=0, stride=1, dimensions=256)
    network.eval()
    seen: list[Tensor] = []
    network.classifier[-1].register_forward_hook(lambda _, given, out: seen.extend((given[0], out)))
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        network((frames[:1] / 255 - mean) / std)
        features = front(frames[:1])
    hidden = nn.functional.interpolate(seen[0], size=(33, 47), mode="bilinear", align_corners=False)
    hidden = 2 * hidden / hidden.norm(dim=1, keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(features.embedding[:, :256], hidden, rtol=1e-3, atol=1e-4)
    others = seen[1].softmax(1)[:, 1:].sum(1, keepdim=True)
    others = nn.functional.interpolate(others, size=(33, 47), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(features.objectness, others, rtol=1e-3, atol=1e-4)
    own = DeepLabFeatures(weights=state, backbone="mobilenet_v3_large", objectness=half, floor=0)
    assert (own(frames[:1]).objectness == 0.5).all()
    with pytest.raises(InputError, match="weights: it does not hold the weights of DeepLabV3"):
        DeepLabFeatures(weights={"nothing": torch.zeros(1)}, backbone="mobilenet_v3_large")


@pytest.mark.slow
def test_deeplab_of_resnet(frames: Tensor) -> None:
    assert DeepLabFeatures(weights=None)(frames[:1]).embedding.shape == (1, 68, 9, 12)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet50", "mobilenet_v3_large"])
def test_deeplab_says_what_to_do_off_line(monkeypatch: pytest.MonkeyPatch, backbone: str) -> None:
    def unreachable(*_args: object, **_kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(InputError, match=r"weights.*no route to host.*off-line.*torch\.hub.*state dict"):
        DeepLabFeatures(backbone=backbone)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(InputError, match="torchvision cannot be imported"):
        DeepLabFeatures(weights=None, backbone=backbone)


@pytest.mark.slow
def test_sam_keeps_the_shape_of_the_frame() -> None:
    """An encoder that gives the mean of every patch: the embedding is where the frame is, the padding is gone."""
    front = SamFeatures(size=64, flow=GivenFlow(), objectness=half, normalize=False, scale=1.0, stride=8)
    seen = []

    def means(images: Tensor) -> Tensor:
        seen.append(images)
        return nn.functional.avg_pool2d(images, 16)

    network: Any = front.module
    network.encoder.forward = means
    front.mean, front.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    frames = torch.zeros(1, 3, 16, 32)
    frames[..., 16:] = 1
    features = front(frames)
    assert seen[0].shape == (1, 3, 64, 64)
    assert seen[0][..., 32:, :].abs().max() == 0
    expected = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 3, 2, 4)
    torch.testing.assert_close(features.embedding[:, :3], expected, atol=0.05, rtol=0)


@pytest.mark.slow
def test_sam_reads_a_checkpoint(sam: SamFeatures, frames: Tensor, tmp_path: Path) -> None:
    network: Any = sam.module
    state = network.encoder.state_dict()
    for name, prefix in (("whole.pth", "image_encoder."), ("encoder.pth", "")):
        content = {prefix + key: value for key, value in state.items()}
        torch.save({**content, "mask_decoder.x": torch.zeros(1)} if prefix else content, tmp_path / name)
        front = SamFeatures(checkpoint=tmp_path / name, size=64, flow=GivenFlow())
        assert torch.equal(front(frames).embedding, sam(frames).embedding)
    (tmp_path / "text.pth").write_text("text")
    with pytest.raises(InputError, match=r"checkpoint.*text\.pth"):
        SamFeatures(checkpoint=tmp_path / "text.pth", size=64)
    with pytest.raises(InputError, match=r"checkpoint.*absent\.pth.*does not exist"):
        SamFeatures(checkpoint=tmp_path / "absent.pth", size=64)
    torch.save({"other": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="does not hold the weights of SAM's encoder mobile_sam"):
        SamFeatures(checkpoint=tmp_path / "other.pth", size=64)


@pytest.mark.slow
def test_sam_of_the_paper_at_another_size(frames: Tensor) -> None:
    front = SamFeatures(variant="vit_b", size=96)
    network: Any = front.module
    assert network.encoder.pos_embed.shape == (1, 6, 6, 768)
    assert front(frames[:1]).embedding.shape == (1, 68, 9, 12)


def test_sam_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia.models.sam", None)
    with pytest.raises(InputError, match=r"install kornia 0\.9"):
        SamFeatures(size=64)


@pytest.mark.slow
def test_importing_loads_neither_torchvision_nor_kornia() -> None:
    code = "import sys, gpuvos.features.adapters; print({'torchvision', 'kornia'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("module", lambda: ModuleFeatures(3)),  # type: ignore[arg-type]
        ("scale", lambda: ModuleFeatures(half, scale=0)),
        ("dimensions", lambda: ModuleFeatures(half, dimensions=0)),
        ("multiple", lambda: ModuleFeatures(half, multiple=-1)),
        ("stride", lambda: ModuleFeatures(half, stride=0)),
        ("chunk", lambda: ModuleFeatures(half, chunk=0)),
        ("position", lambda: ModuleFeatures(half, position=-1)),
        ("motion", lambda: ModuleFeatures(half, motion=-1)),
        ("floor", lambda: ModuleFeatures(half, floor=1)),
        ("mean, std", lambda: ModuleFeatures(half, mean=(0, 0))),
        ("mean, std", lambda: ModuleFeatures(half, std=(1, 0, 1))),
        ("weights", lambda: DeepLabFeatures(weights="best")),
        ("backbone", lambda: DeepLabFeatures(weights=None, backbone="vgg")),
        ("variant", lambda: SamFeatures(variant="sam")),
        ("size", lambda: SamFeatures(size=100)),
    ],
)
def test_options_out_of_range(name: str, make: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=f"^{name}: got"):
        make()


def test_calls_that_do_not_fit(frames: Tensor) -> None:
    front = ModuleFeatures(convolution())
    with pytest.raises(InputError, match="frames"):
        front(frames[0])
    with pytest.raises(InputError, match="at least one frame"):
        front(frames[:0])
    with pytest.raises(InputError, match=r"frames: got device meta.*\.to\(device\)"):
        front(frames.to("meta"))
    with pytest.raises(InputError, match="output of module: got shape"):
        ModuleFeatures(half)(frames)
    with pytest.raises(InputError, match="objectness: got shape"):
        ModuleFeatures(convolution(), objectness=convolution())(frames)
    with pytest.raises(TypeError, match="select"):
        DeepLabFeatures(weights=None, backbone="mobilenet_v3_large", select=half)
