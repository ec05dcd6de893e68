"""The learned front end and the file of its weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gpuvos
from gpuvos.errors import InputError
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.context import grid_stride, position, resize, squash
from gpuvos.features.network.embedding import EmbeddingNetwork
from gpuvos.features.network.weights import load_weights, save_weights
from gpuvos.functional import residual_flow


class GivenFlow(nn.Module):
    """Flow that says where it was asked for."""

    def forward(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        self.size = size
        flow = torch.zeros(frames.shape[0], 2, *size)
        flow[:, 0, : size[0] // 2, : size[1] // 3] = 5
        return flow


@pytest.fixture(scope="module")
def network() -> EmbeddingNetwork:
    torch.manual_seed(0)
    network = EmbeddingNetwork(dimensions=6, width=8)
    network.objectness.weight.data.normal_()
    network.decoder.pool2.expand.weight.data.mul_(30)
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((192, 200), (48, 50)),
        ((194, 203), (49, 51)),
        ((100, 150), (50, 75)),
        ((20, 7), (20, 7)),
        ((1, 1), (1, 1)),
    ],
)
def test_grid(network: EmbeddingNetwork, size: tuple[int, int], grid: tuple[int, int]) -> None:
    flow = GivenFlow()
    features = LearnedFeatures(network, flow=flow)(torch.rand(2, 3, *size))
    assert features.embedding.shape == (2, 10, *grid)
    assert features.objectness.shape == (2, *grid)
    assert features.flow.shape == (2, 2, *grid)
    assert flow.size == grid
    assert features.objectness.min() >= 0.02
    assert features.objectness.max() <= 1


def test_stride_of_small_frames_by_hand() -> None:
    assert [grid_stride(*size) for size in ((480, 854), (192, 300), (191, 300), (97, 96), (95, 500), (1, 1))] == [
        4,
        4,
        3,
        2,
        1,
        1,
    ]


@pytest.mark.slow
def test_blocks_are_network_position_and_motion(network: EmbeddingNetwork) -> None:
    frames = torch.rand(2, 3, 192, 208)
    front = LearnedFeatures(
        network, flow=GivenFlow(), position=0.5, motion=2.0, scales=(1.0,), floor=0.0, temperature=1.0
    )
    features = front(frames)
    with torch.no_grad():
        output = network(frames)
    torch.testing.assert_close(features.embedding[:, :6], output.embedding, rtol=1e-3, atol=1e-3)
    background = output.class_logits.softmax(1)[:, 0]
    torch.testing.assert_close(
        features.objectness, ((1 - background) * output.object_logit.sigmoid()).sqrt(), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(features.embedding[:, 6:8], 0.5 * position(output.embedding))
    rest = squash(residual_flow(features.flow, weight=1 - 0.9 * features.objectness))
    torch.testing.assert_close(features.embedding[:, 8:], 2 * rest)
    assert rest.abs().max() > 0.1


@pytest.mark.slow
def test_objectness_of_several_sizes_and_its_floor(network: EmbeddingNetwork) -> None:
    frames = torch.rand(1, 3, 192, 192)

    def objectness(**options: object) -> Tensor:
        return LearnedFeatures(network, flow=GivenFlow(), **options)(frames).objectness  # type: ignore[arg-type]

    kinds = []  # [class, agnostic] x [whole, half]
    with torch.no_grad():
        for size in (192, 96):
            output = network(resize(frames, (size, size)))
            parts = (1 - output.class_logits.softmax(1)[:, 0], output.object_logit.sigmoid())
            kinds.append([resize(part[:, None], (48, 48))[:, 0] for part in parts])
    whole, half = kinds
    assert all((one - two).abs().max() > 0.002 for one, two in zip(whole, half, strict=True))
    mean = ((whole[0] + half[0]) / 2 * (whole[1] + half[1]) / 2).sqrt()
    largest = (torch.maximum(whole[0], half[0]) * torch.maximum(whole[1], half[1])).sqrt()
    both = {"scales": (1.0, 0.5)}
    close = {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(objectness(**both, floor=0.0), mean, **close)
    torch.testing.assert_close(objectness(**both, floor=0.0, combine="max"), largest, **close)
    torch.testing.assert_close(objectness(**both, floor=0.2), 0.2 + 0.8 * mean, **close)


def test_temperature_divides_squared_distances(network: EmbeddingNetwork) -> None:
    frames = torch.rand(1, 3, 48, 48)
    plain, sharp = (
        LearnedFeatures(network, flow=GivenFlow(), temperature=value)(frames).embedding for value in (1.0, 0.25)
    )
    torch.testing.assert_close(sharp, 2 * plain)


@pytest.mark.slow
def test_chunks_and_types_change_nothing(network: EmbeddingNetwork) -> None:
    frames = torch.randint(0, 256, (3, 3, 60, 80), dtype=torch.uint8)
    one, all_at_once = (LearnedFeatures(network, flow=GivenFlow(), chunk=chunk)(frames) for chunk in (1, 8))
    floats = LearnedFeatures(network, flow=GivenFlow())(frames.double() / 255)
    for a, b, c in zip(one, all_at_once, floats, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(a, c, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_network_in_half_precision_is_near_the_other(network: EmbeddingNetwork) -> None:
    frames = torch.randint(0, 256, (1, 3, 192, 200), dtype=torch.uint8)
    single = LearnedFeatures(network, flow=GivenFlow())(frames)
    half = LearnedFeatures(network, flow=GivenFlow(), dtype=torch.bfloat16)(frames)
    assert half.embedding.dtype == half.objectness.dtype == torch.bfloat16
    assert half.flow.dtype == torch.float32
    for a, b in zip(half, single, strict=True):
        difference = (a.float() - b).abs().mean()
        assert difference < 0.02 * b.abs().mean()
    assert not torch.equal(half.embedding.float(), single.embedding)
    assert network.project.weight.dtype == torch.float32
    with pytest.raises(InputError, match="dtype"):
        LearnedFeatures(network, dtype=torch.int8)


def test_network_given_is_left_as_it_was(network: EmbeddingNetwork) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    LearnedFeatures(network, flow=GivenFlow())(torch.rand(1, 3, 8, 8))
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_segments_frames_to_masks(network: EmbeddingNetwork) -> None:
    segmenter = gpuvos.VideoSegmenter(LearnedFeatures(network))
    assert segmenter(torch.zeros(2, 3, 33, 47, dtype=torch.uint8)).mask.shape == (2, 33, 47)


@pytest.mark.parametrize(
    "options",
    [
        {"position": -1},
        {"motion": -0.5},
        {"combine": "sum"},
        {"scales": ()},
        {"scales": (1, 0)},
        {"floor": 1},
        {"temperature": 0},
        {"floor": -0.1},
        {"chunk": 0},
    ],
)
def test_wrong_options_are_named(network: EmbeddingNetwork, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        LearnedFeatures(network, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "frames", [torch.zeros(2, 3, 8), torch.zeros(1, 4, 8, 8), torch.zeros(0, 3, 8, 8), "video.mp4"]
)
def test_wrong_frames_are_named(network: EmbeddingNetwork, frames: object) -> None:
    with pytest.raises(InputError, match="frames"):
        LearnedFeatures(network, flow=GivenFlow())(frames)


@pytest.mark.slow
def test_weights_survive_the_file(network: EmbeddingNetwork, tmp_path: Path) -> None:
    path = save_weights(network, tmp_path / "new" / "weights.safetensors", card={"terms": "MIT"})
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["terms"] == "MIT"
    assert card["bytes"] == path.stat().st_size
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["weights.json", "weights.safetensors"]
    loaded = load_weights(path)
    assert not loaded.training
    for name, value in network.state_dict().items():
        other = loaded.state_dict()[name]
        assert other.dtype == value.dtype
        kept = value if name in ("mean", "std") else value.half().to(value.dtype)  # those are no part of the file
        torch.testing.assert_close(other, kept, rtol=0, atol=0)
    assert LearnedFeatures(path).network.dimensions == 6


def test_large_values_keep_their_precision(network: EmbeddingNetwork, tmp_path: Path) -> None:
    kept = network.project.bias.data.clone()  # type: ignore[union-attr]
    network.project.bias.data.fill_(1e6)  # type: ignore[union-attr]
    path = save_weights(network, tmp_path / "w.safetensors")
    network.project.bias.data.copy_(kept)  # type: ignore[union-attr]
    assert load_weights(path).project.bias.max() == 1e6  # type: ignore[union-attr]


def test_missing_damaged_and_foreign_weights_are_named(network: EmbeddingNetwork, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(InputError, match=r"w\.safetensors.*does not exist"):
        LearnedFeatures(path)
    save_weights(network, path)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match="SHA-256"):
        LearnedFeatures(path)
    save_weights(network, path)
    for text in ("no json", "{}", "[]"):
        path.with_suffix(".json").write_text(text)
        with pytest.raises(InputError, match=r"w\.json.*(without a sha256|JSONDecodeError)"):
            load_weights(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match=r"w\.json"):
        load_weights(path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for state in (
        {"a": torch.zeros(2)},
        {"project.weight": torch.zeros(4, 2), "correct.weight": torch.zeros(4, 8)},
    ):
        stand_in = nn.Module()
        stand_in.state_dict = lambda state=state: state  # type: ignore[method-assign,assignment,misc]
        save_weights(stand_in, path)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="EmbeddingNetwork"):
            load_weights(path)


@pytest.mark.parametrize(("name", "card"), [("w.pth", {}), ("", {}), ("w.safetensors", {"x": object()})])
def test_nothing_is_written_of_what_cannot_be(
    network: EmbeddingNetwork, tmp_path: Path, name: str, card: dict[str, object]
) -> None:
    with pytest.raises((InputError, TypeError)):
        save_weights(network, tmp_path / name, card=card)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_grid_is_as_coarse_as_asked_but_no_coarser_than_small_frames_allow() -> None:
    frames = torch.rand(1, 3, 390, 242, generator=torch.Generator().manual_seed(0))
    front_ends = {stride: LearnedFeatures(scales=(0.5,), max_stride=stride) for stride in (4, 5, 8)}
    grids = {stride: front_end(frames).objectness.shape[1:] for stride, front_end in front_ends.items()}
    assert grids == {4: (98, 61), 5: (78, 49), 8: (78, 49)}  # 242 // 48 is 5
    assert front_ends[8](frames[..., :96, :96]).flow.shape == (1, 2, 48, 48)
    with pytest.raises(InputError, match="max_stride"):
        LearnedFeatures(max_stride=0)
