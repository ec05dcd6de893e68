"""Read by mypy alone: what calls give, and which are refused (an ignore that nothing needs is an error)."""

from typing import assert_type

from torch import Tensor, nn

from gpuvos import Config, Features, Segmentation, VideoSegmenter, ZoomRefinement
from gpuvos import functional as F
from gpuvos.data import render_clip
from gpuvos.features.adapters import ModuleFeatures
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.published import PublishedWeights
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.flow.clip import DenseFlow
from gpuvos.flow.raft import TorchvisionRaft
from gpuvos.nn import DenseCRF, GuidedFilter


class NamesItImages:
    def __call__(self, images: Tensor) -> Features:
        raise NotImplementedError


class GivesTheEmbedding:
    def __call__(self, frames: Tensor) -> Tensor:
        raise NotImplementedError


class AnyModule(nn.Module):
    def forward(self, images: Tensor) -> Features:
        raise NotImplementedError


def results(frames: Tensor, probability: Tensor) -> None:
    segmenter = VideoSegmenter()
    assert_type(segmenter(frames), Segmentation)
    assert_type(segmenter(frames).detach().cpu().to("cpu").mask, Tensor)
    assert_type(segmenter.front_end(frames), Features)
    assert_type(VideoSegmenter.from_pretrained("folder", device="cpu"), VideoSegmenter)
    assert_type(SaliencyFeatures()(frames, validate=False), Features)
    assert_type(LearnedFeatures()(frames), Features)
    assert_type(AppearanceFeatures()(frames), Features)
    assert_type(ModuleFeatures(nn.Module())(frames), Features)
    assert_type(PublishedWeights.DEFAULT.build()(frames), Features)
    assert_type(PublishedWeights.DEFAULT.transforms()(frames), Tensor)
    assert_type(DenseFlow()(frames, size=(4, 6)), Tensor)
    assert_type(TorchvisionRaft()(frames, direction="backward"), Tensor)
    assert_type(DenseCRF()(probability, frames, mask=None), Tensor)
    assert_type(GuidedFilter()(probability, frames), Tensor)
    assert_type(ZoomRefinement()(probability, frames), Tensor)


def front_ends() -> None:
    VideoSegmenter(lambda images: Features(images, images, images))
    VideoSegmenter(NamesItImages())
    VideoSegmenter(AnyModule())
    VideoSegmenter(GivesTheEmbedding())  # type: ignore[arg-type]


def refused(frames: Tensor) -> None:
    VideoSegmenter()(frames, length=None)  # type: ignore[call-arg]
    SaliencyFeatures(combine="max")  # type: ignore[arg-type]
    Config(rule="robuster")  # type: ignore[arg-type]
    F.edge_map(frames, reduce="sum")  # type: ignore[arg-type]
    DenseFlow()(frames, direction="both")  # type: ignore[arg-type]
    render_clip("three")  # type: ignore[arg-type]
