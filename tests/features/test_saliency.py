"""Saliency joined to other front ends: every number by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gpuvos import Config, InputError, VideoSegmenter
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.network.embedding import EmbeddingNetwork
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.pipeline.stream import StreamingSegmenter
from gpuvos.types import Features


class Base(nn.Module):
    """One channel of appearance that is 2, one of context that is 7, objectness 0.36."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = Still()

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        t, _, h, w = frames.shape
        return torch.full((t, 1, h // 2, w // 2), 2.0), torch.full((t, h // 2, w // 2), 0.36)

    def complete(self, embedding: Tensor, objectness: Tensor, flow: Tensor) -> Features:
        return Features(torch.cat((embedding, torch.full_like(embedding[:, :1], 7.0)), 1), objectness, flow)


class Still(nn.Module):
    """No motion."""

    def forward(self, frames: Tensor, *, size: tuple[int, int]) -> Tensor:
        return torch.zeros(len(frames), 2, *size)


def right_half(images: Tensor) -> Tensor:
    """1 in the right half of the image, of its own resolution."""
    found = torch.zeros(len(images), 4, 4)
    found[..., 2:] = 1
    return found


def test_channels_and_objectness_by_hand() -> None:
    frames = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    features = SaliencyFeatures(right_half, base=Base(), weight=1.5, floor=0.25, combine="geometric")(frames)
    assert features.embedding[0, :, 0].tolist() == [[2.0] * 4, [0.0, 0.0, 1.5, 1.5], [7.0] * 4]
    # left: sqrt(0.36 (0.25 + 0.75 0)) = 0.6 0.5 = 0.3; right: sqrt(0.36 1) = 0.6
    torch.testing.assert_close(features.objectness[1, 3], torch.tensor([0.3, 0.3, 0.6, 0.6]))
    assert features.flow.shape == (2, 2, 4, 4)


def test_other_combinations_by_hand() -> None:
    frames = torch.zeros(1, 3, 8, 8)

    def row(**options: object) -> Tensor:
        return SaliencyFeatures(right_half, base=Base(), **options)(frames).objectness[0, 0]  # type: ignore[arg-type]

    # 0.75 0.36 + 0.25 (0 and 1)
    mean = row(share=0.25, floor=0.0)
    torch.testing.assert_close(mean, torch.tensor([0.27, 0.27, 0.52, 0.52]))
    # saliency alone
    torch.testing.assert_close(row(share=1.0, floor=0.1), torch.tensor([0.1, 0.1, 1.0, 1.0]))
    # the base alone
    torch.testing.assert_close(row(share=0.0), torch.full((4,), 0.36))


def test_images_are_floats_in_the_unit_interval_of_the_network_s_dtype() -> None:
    seen = []

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))

        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return (images * self.scale).mean(1, keepdim=True)  # [N, 1, h, w] will do as well

    features = SaliencyFeatures(Network(), base=Base())(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8))
    assert seen[0].dtype == torch.bfloat16
    assert (seen[0] == 1).all()
    torch.testing.assert_close(features.objectness, torch.full((1, 4, 4), 0.68))  # (0.36 + 1) / 2
    assert not Network().training or not SaliencyFeatures(Network(), base=Base()).network.training  # type: ignore[union-attr]


@pytest.mark.sampled
@pytest.mark.parametrize(
    "build", [AppearanceFeatures, lambda: LearnedFeatures(EmbeddingNetwork(dimensions=4, width=4))], ids=["none", "own"]
)
def test_any_front_end_of_the_library_is_a_base(build: Callable[[], nn.Module]) -> None:
    base = build()
    frames = torch.randint(0, 256, (2, 3, 60, 80), dtype=torch.uint8)
    plain, joined = base(frames), SaliencyFeatures(lambda images: images[:, 0], base=base)(frames)
    assert joined.embedding.shape[1] == plain.embedding.shape[1] + 1
    assert joined.embedding.dtype == plain.embedding.dtype
    assert joined.objectness.shape == plain.objectness.shape
    assert torch.equal(joined.flow, plain.flow)


def test_a_network_of_random_weights_serves_clips_and_streams() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(), nn.Conv2d(4, 1, 1), nn.Sigmoid())
    front_end = SaliencyFeatures(network, base=AppearanceFeatures())
    frames = torch.rand(4, 3, 48, 64)
    config = Config(num_seeds=12, window=3)
    whole = VideoSegmenter(front_end, config).features(frames)
    parts = VideoSegmenter(front_end, config, chunk=2).features(frames)
    for one, two in zip(whole, parts, strict=True):
        assert torch.equal(one, two)
    masks = [result.mask for result in StreamingSegmenter(front_end, config).stream(frames)]
    assert len(masks) == 4


@pytest.mark.slow
def test_the_default_knows_the_saliency_of_the_package() -> None:
    frames = torch.zeros(1, 3, 192, 192, dtype=torch.uint8)
    frames[:, :, 60:130, 70:140] = 230
    front_end = VideoSegmenter().front_end
    assert isinstance(front_end, SaliencyFeatures)
    features = front_end(frames)
    assert features.embedding.shape == (1, 53, 48, 48)
    inside = features.objectness[0, 18:30, 20:32].mean()
    assert inside > 1.5 * features.objectness[0, :8].mean()


def test_what_does_not_fit_is_refused() -> None:
    frames = torch.zeros(1, 3, 8, 8)
    for options, argument in (
        ({"network": 3}, "network"),
        ({"base": nn.Identity()}, "base"),
        ({"weight": -1.0}, "weight"),
        ({"share": 1.5}, "share"),
        ({"combine": "max"}, "combine"),
        ({"floor": 1.0}, "floor"),
    ):
        with pytest.raises(InputError, match=f"^{argument}"):
            SaliencyFeatures(**{"network": right_half, "base": Base()} | options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="network: got an output of type dict"):
        SaliencyFeatures(lambda images: {"out": images}, base=Base())(frames)  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match="saliency"):
        SaliencyFeatures(lambda images: images, base=Base())(frames)
