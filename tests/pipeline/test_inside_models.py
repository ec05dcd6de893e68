"""Segmenters as parts of somebody's model: modes, gradients, devices, autocast, saving, several streams."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gpuvos
from gpuvos import Config, Features, InputError, StreamingSegmenter, VideoSegmenter
from gpuvos.data import render_clip
from gpuvos.features.adapters import ModuleFeatures
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.network.weights import load_saliency
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.flow.clip import DenseFlow

pytestmark = pytest.mark.usefixtures("small_saliency")

CONFIG = Config(num_seeds=12, num_background=4, window=3, smoothing_neighbors=6)


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return render_clip("single", num_frames=3, height=48, width=64, seed=0).frames


def small() -> VideoSegmenter:
    """The default segmenter, with smaller images for its network of salient objects."""
    return VideoSegmenter(SaliencyFeatures(load_saliency(size=64)), CONFIG)


@pytest.fixture(scope="module")
def bundled() -> VideoSegmenter:
    return small()


class Head(nn.Module):
    """A front end that learns."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 9, 3, stride=4, padding=1)

    def forward(self, images: Tensor) -> Features:
        seen = self.layer(images.float() / 255)
        return Features(4 * seen[:, :8], seen[:, 8].sigmoid(), 3 * seen[:, :2].detach())


def same(one: gpuvos.Segmentation, two: gpuvos.Segmentation) -> bool:
    return torch.equal(one.probability, two.probability) and torch.equal(one.seeds.index, two.seeds.index)


@pytest.mark.slow
def test_a_parents_training_changes_nothing(bundled: VideoSegmenter, frames: Tensor) -> None:
    before = bundled(frames)
    bundled.train()
    assert same(bundled(frames), before)
    assert same(bundled.eval()(frames), before)


@pytest.mark.slow
def test_front_ends_keep_to_evaluation_until_asked(frames: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.BatchNorm2d(4))
    features = ModuleFeatures(network)
    for front in (features, AppearanceFeatures(flow=nn.Dropout()), LearnedFeatures(), SaliencyFeatures()):
        parent = nn.ModuleList([front]).train()
        assert parent.training
        assert not any(module.training for module in front.modules())
    features(frames)
    assert network[1].num_batches_tracked == 0
    features.trainable().train()(frames)
    assert network[1].num_batches_tracked > 0
    assert not any(module.training for module in features.trainable(False).modules())


@pytest.mark.slow
def test_networks_of_the_library_ask_for_no_gradient_until_asked(frames: Tensor) -> None:
    front = SaliencyFeatures(load_saliency(size=64))
    segmenter = VideoSegmenter(front, CONFIG)
    assert not segmenter(frames).probability.requires_grad
    front.trainable().train()
    assert front.base.training
    assert segmenter(frames).probability.requires_grad
    front.trainable(False)
    assert not any(value.requires_grad for value in segmenter.parameters())


@pytest.mark.parametrize("softness", [0.0, 0.25])
def test_a_front_end_learns_through_the_segmenter(frames: Tensor, softness: float) -> None:
    segmenter = VideoSegmenter(Head(), Config(num_seeds=12, num_background=4, window=3, softness=softness))
    segmenter(frames).probability.sum().backward()
    assert segmenter.front_end.layer.weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert not segmenter(frames).probability.requires_grad


@pytest.mark.slow
def test_videos_of_a_batch_are_as_alone(bundled: VideoSegmenter, frames: Tensor) -> None:
    crf = VideoSegmenter(bundled.front_end, CONFIG, refinement=gpuvos.nn.DenseCRF(iterations=1))
    several = torch.stack((frames, frames.flip(-1)))
    lengths = torch.tensor([3, 2])
    for segmenter in (bundled, crf):
        result = segmenter(several, lengths=lengths)
        assert torch.equal(result.probability[0], segmenter(frames).probability)
        assert torch.equal(result.probability[1, :2], segmenter(frames.flip(-1)[:2]).probability)
        assert not result.probability[1, 2:].any()
    assert torch.equal(bundled(several).probability[1], bundled(frames.flip(-1)).probability)
    with pytest.raises(InputError, match="lengths"):
        bundled(several, lengths=torch.tensor([3]))


def test_streams_of_one_segmenter_do_not_mix(frames: Tensor) -> None:
    segmenter = StreamingSegmenter(Head(), CONFIG, history=4, latency=1)
    other = frames.flip(-1)
    alone = [[one.probability for one in segmenter.stream(clip)] for clip in (frames, other)]
    for frame in frames[:2]:
        segmenter.push(frame)
    both = list(zip(segmenter.stream(frames), segmenter.stream(other), strict=True))
    for number, (one, two) in enumerate(both):
        assert torch.equal(one.probability, alone[0][number])
        assert torch.equal(two.probability, alone[1][number])
    assert torch.equal(segmenter.push(frames[2]).probability, alone[0][1])  # of the frames pushed before


@pytest.mark.slow
def test_built_without_memory_and_filled_later(bundled: VideoSegmenter, frames: Tensor) -> None:
    state = bundled.state_dict()
    with torch.device("meta"):
        shells = [small() for _ in range(2)]
    shells[0].load_state_dict(state, assign=True)
    shells[1].to_empty(device="cpu").load_state_dict(state)
    for shell in shells:
        assert same(shell(frames), bundled(frames))
    assert all(value.is_contiguous() for value in bundled.parameters())


@pytest.mark.parametrize("kind", ["module", "appearance", pytest.param("bundled", marks=pytest.mark.slow)])
def test_frames_to_masks_under_autocast(kind: str, frames: Tensor) -> None:
    made = {"module": lambda: ModuleFeatures(nn.Conv2d(3, 80, 8, stride=8)), "appearance": AppearanceFeatures}
    segmenter = VideoSegmenter(made.get(kind, LearnedFeatures)(), CONFIG)
    with torch.autocast("cpu", torch.bfloat16):
        result = segmenter(frames)
    assert result.probability.dtype == torch.float32
    assert result.probability.isfinite().all()
    if kind == "appearance":
        assert same(result, segmenter(frames))


def test_training_in_mixed_precision(frames: Tensor) -> None:
    network = nn.Conv2d(3, 9, 8, stride=4, padding=2)
    segmenter = VideoSegmenter(ModuleFeatures(network).trainable(), CONFIG).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = segmenter(frames).probability.mean()
    loss.backward()
    assert network.weight.grad.isfinite().all()
    assert network.weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_results_move_and_are_loaded_without_code(bundled: VideoSegmenter, frames: Tensor, tmp_path: Path) -> None:
    result = bundled(frames)
    torch.save(result, tmp_path / "result.pt")
    loaded = torch.load(tmp_path / "result.pt", weights_only=True)
    assert same(loaded, result)
    assert loaded.config == result.config
    double = result.to(dtype=torch.float64)
    assert (double.seeds.embedding.dtype, double.seeds.index.dtype) == (torch.float64, torch.int64)
    assert result.to("meta").forest.label.is_meta
    assert same(result.cpu(), result)
    learned = VideoSegmenter(Head(), CONFIG)(frames)
    assert learned.probability.requires_grad
    assert not learned.detach().probability.requires_grad


def test_a_temperature_that_learns_belongs_to_the_module(frames: Tensor) -> None:
    config = Config(num_seeds=12, window=3, temperature=nn.Parameter(torch.tensor(2.0)))
    segmenter = VideoSegmenter(Head(), config)
    assert "temperature" in dict(segmenter.named_parameters())
    segmenter(frames).probability.sum().backward()
    assert config.temperature.grad is not None
    assert "temperature" in dict(copy.deepcopy(segmenter).named_parameters())
    given = {"temperature": torch.tensor(0.5)}
    changed = torch.func.functional_call(segmenter, given, (frames,)).probability
    fixed = VideoSegmenter(segmenter.front_end, Config(num_seeds=12, window=3, temperature=0.5))
    torch.testing.assert_close(changed, fixed(frames).probability)


def test_a_stream_takes_the_temperature_that_was_loaded(frames: Tensor) -> None:
    config = dataclasses.replace(CONFIG, temperature=nn.Parameter(torch.tensor(2.0)))
    segmenter = StreamingSegmenter(Head(), config, history=4, latency=1)
    state = segmenter.state_dict() | {"segmenter.temperature": torch.tensor(0.5)}
    segmenter.load_state_dict(state, assign=True)  # exchanges the parameter
    fixed = StreamingSegmenter(segmenter.segmenter.front_end, dataclasses.replace(config, temperature=0.5), latency=1)
    for one, two in zip(segmenter.stream(frames), fixed.stream(frames), strict=True):
        torch.testing.assert_close(one.probability, two.probability)


def test_frames_that_do_not_fit_say_so(bundled: VideoSegmenter, frames: Tensor) -> None:
    with pytest.raises(InputError, match=r"frames: got device meta.*that of the network"):
        bundled(frames.to("meta"))
    with pytest.raises(InputError, match="nested tensor"):
        bundled(torch.nested.nested_tensor([frames / 255, frames[:2] / 255]))


def test_images_of_torchvision_come_out_as_tensors(frames: Tensor) -> None:
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    segmenter = VideoSegmenter(Head(), CONFIG)
    result = segmenter(tv_tensors.Video(frames))
    leaves = torch.utils._pytree.tree_leaves(result._replace(config=None))
    assert {type(value) for value in leaves if value is not None} == {Tensor}
    assert same(result, segmenter(frames))


def test_the_default_type_does_not_change_the_flow(frames: Tensor) -> None:
    wanted = DenseFlow()(frames)
    torch.set_default_dtype(torch.float64)
    try:
        found = DenseFlow()(frames)
        learned = LearnedFeatures()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, wanted)
    assert learned.network.mean.dtype == torch.float32
