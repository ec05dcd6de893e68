"""Segmenters saved to a folder and loaded again, without a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gpuvos import Config, Features, InputError, VideoSegmenter
from gpuvos.data import render_clip
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.network.u2net import U2NetP
from gpuvos.features.network.weights import load_saliency
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.flow.clip import DenseFlow
from gpuvos.nn import DenseCRF, GuidedFilter
from gpuvos.pipeline.refinement import Refinements, RoiRefinement, ZoomRefinement
from gpuvos.pipeline.stored import describe_refinement

pytest.importorskip("huggingface_hub")
CONFIG = Config(rule="paper", num_seeds=12, num_background=4, window=3)


class Front(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 9, 3, stride=4, padding=1)

    def forward(self, images: Tensor) -> Features:
        seen = self.layer(images.float() / 255)
        return Features(4 * seen[:, :8], seen[:, 8].sigmoid(), 3 * seen[:, :2])


FRONT_ENDS: dict[str, Callable[[], nn.Module]] = {
    "saliency": lambda: SaliencyFeatures(load_saliency(size=64), share=0.25),
    "bundled": lambda: LearnedFeatures(scales=(1.0, 0.5), floor=0.1),
    "appearance": lambda: AppearanceFeatures(stride=2, flow=DenseFlow(chunk=1)),
}


@pytest.mark.parametrize(
    "name", ["appearance", *(pytest.param(name, marks=pytest.mark.slow) for name in ("saliency", "bundled"))]
)
def test_a_folder_gives_the_same_masks(name: str, tmp_path: Path) -> None:
    frames = render_clip("single", num_frames=2, height=48, width=64, seed=0).frames
    own = VideoSegmenter(FRONT_ENDS[name](), CONFIG)
    own.save_pretrained(tmp_path / "own")
    assert {"config.json", "model.safetensors"} <= {file.name for file in (tmp_path / "own").iterdir()}
    loaded = VideoSegmenter.from_pretrained(tmp_path / "own", device="cpu")
    assert loaded.config == CONFIG
    assert torch.equal(loaded(frames).probability, own(frames).probability)
    assert VideoSegmenter.from_pretrained(tmp_path / "own", chunk=2).chunk == 2


class Halved(nn.Module):
    def forward(self, probability: Tensor, image: Tensor) -> Tensor:
        return probability / 2 + 0 * image.float().mean()


@pytest.mark.slow
def test_a_refinement_is_saved_as_well(tmp_path: Path) -> None:
    frames = render_clip("single", num_frames=2, height=48, width=64, seed=0).frames
    network = load_saliency(size=64)
    zoom = ZoomRefinement(network, refinement=GuidedFilter(radius=3), reach=4, size=64, chunk=1)
    crf = DenseCRF(iterations=1, color_sigma=5.0, subsample=2)
    kept = Refinements(zoom, RoiRefinement(crf, weight=0.5, margin=0.2, size=32))
    with torch.no_grad():  # weights that no file of the library holds; front end and refinement share them
        network.merge.bias.add_(0.5)
        network.side[1].bias.add_(0.5)
    own = VideoSegmenter(SaliencyFeatures(network), CONFIG, refinement=kept)
    own.save_pretrained(tmp_path / "own")
    loaded = VideoSegmenter.from_pretrained(tmp_path / "own")
    assert repr(loaded.refinement) == repr(kept)
    probability = own(frames).probability
    assert torch.equal(loaded(frames).probability, probability)
    plain = VideoSegmenter.from_pretrained(tmp_path / "own", refinement=None)
    assert plain.refinement is None
    assert not torch.equal(plain(frames).probability, probability)


@pytest.mark.parametrize("kind", [DenseCRF, GuidedFilter, RoiRefinement, ZoomRefinement])
def test_no_option_of_a_refinement_is_left_out(kind: type[nn.Module]) -> None:
    needed = {ZoomRefinement: [U2NetP(size=64)], RoiRefinement: [GuidedFilter()]}
    refine = kind(*needed.get(kind, []))
    assert set(describe_refinement(refine)["options"]) == set(inspect.signature(kind).parameters)


def test_another_refinement_has_to_be_given(tmp_path: Path) -> None:
    frames = render_clip("single", num_frames=2, height=48, width=64, seed=0).frames
    own = VideoSegmenter(AppearanceFeatures(), CONFIG, refinement=Refinements(GuidedFilter(), Halved()))
    own.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="refinement: got nothing, wanted a Refinements"):
        VideoSegmenter.from_pretrained(tmp_path)
    loaded = VideoSegmenter.from_pretrained(tmp_path, refinement=Refinements(GuidedFilter(), Halved()))
    assert torch.equal(loaded(frames).probability, own(frames).probability)
    for refine in (Halved(), RoiRefinement(Halved())):
        VideoSegmenter(AppearanceFeatures(), CONFIG, refinement=refine).save_pretrained(tmp_path)
        with pytest.raises(InputError, match=f"wanted a {type(refine).__name__}"):
            VideoSegmenter.from_pretrained(tmp_path)


def test_an_id_of_the_hub_is_found_in_its_cache(tmp_path: Path) -> None:
    folder = tmp_path / "models--owner--name"
    VideoSegmenter(AppearanceFeatures(chunk=3)).save_pretrained(folder / "snapshots" / "0123456789")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123456789")
    loaded = VideoSegmenter.from_pretrained("owner/name", cache_dir=tmp_path, local_files_only=True)
    assert loaded.front_end.chunk == 3


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    for name in (str(tmp_path / "none"), "owner/none"):
        with pytest.raises(InputError, match=f"name: got '{name}'"):
            VideoSegmenter.from_pretrained(name, cache_dir=tmp_path, local_files_only=True)
    own = VideoSegmenter(Front(), CONFIG)
    own.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for content in (whole[:40], b"", whole.replace(b"layer", b"later")):
        weights.write_bytes(content)
        with pytest.raises(InputError, match=r"model\.safetensors.*the weights of the Front beside it"):
            VideoSegmenter.from_pretrained(tmp_path, front_end=Front())
    weights.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors"):
        VideoSegmenter.from_pretrained(tmp_path, front_end=Front())


def test_another_front_end_has_to_be_given(tmp_path: Path) -> None:
    frames = render_clip("single", num_frames=2, height=48, width=64, seed=0).frames
    own = VideoSegmenter(Front(), CONFIG)
    own.save_pretrained(tmp_path / "front")
    with pytest.raises(InputError, match="front_end: got None, wanted a Front"):
        VideoSegmenter.from_pretrained(tmp_path / "front")
    loaded = VideoSegmenter.from_pretrained(tmp_path / "front", front_end=Front())
    assert torch.equal(loaded(frames).probability, own(frames).probability)
    (tmp_path / "front" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="that save_pretrained wrote"):
        VideoSegmenter.from_pretrained(tmp_path / "front", front_end=Front())
