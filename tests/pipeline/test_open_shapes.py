"""One program for every B, T, H and W: exported with open sizes, and compiled once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import gpuvos
from gpuvos import functional as F
from gpuvos.data import render_clip
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.network.weights import load_saliency
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.flow.clip import DenseFlow
from gpuvos.flow.variational import FlowParameters

pytestmark = pytest.mark.slow
RULES = ["paper", "robust"]
# torch takes sizes that are equal in the first call for one size, and 2 and 3 for those of flow and colour
SIZES = [(5, 7, 9, 11), (3, 3, 12, 5), (2, 20, 6, 8)]


def features(b: int, t: int, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(b + t + h + w)
    return (
        torch.randn(b, t, 4, h, w, generator=g),
        torch.rand(b, t, h, w, generator=g),
        torch.randn(b, t, 2, h, w, generator=g),
    )


def options(rule: str) -> gpuvos.Config:
    return gpuvos.Config(rule=rule, num_seeds=10, num_background=3, window=3)


class Method(nn.Module):
    def __init__(self, rule: str) -> None:
        super().__init__()
        self.config = options(rule)

    def forward(self, e: Tensor, o: Tensor, flow: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        result = gpuvos.segment(e, o, flow, config=self.config)
        return result.mask, result.probability, result.seeds.index


def check(one: tuple[Tensor, ...], two: tuple[Tensor, ...]) -> None:
    for found, wanted in zip(one, two, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("rule", RULES)
def test_export_with_every_size_open(rule: str) -> None:
    b, t, h, w = Dim("B", max=64), Dim("T", min=3, max=4096), Dim("H", min=4, max=2048), Dim("W", min=4, max=2048)
    shapes = ({0: b, 1: t, 3: h, 4: w}, {0: b, 1: t, 2: h, 3: w}, {0: b, 1: t, 3: h, 4: w})
    method = Method(rule).eval()
    program = torch.export.export(method, features(*SIZES[0]), dynamic_shapes=shapes).module()
    for sizes in SIZES:
        check(program(*features(*sizes)), method(*features(*sizes)))


@pytest.mark.parametrize("rule", RULES)
def test_one_graph_for_every_size(rule: str) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    method = Method(rule)
    compiled = torch.compile(method, backend=count, dynamic=True, fullgraph=True)
    with torch.no_grad():
        for sizes in SIZES:
            check(compiled(*features(*sizes)), method(*features(*sizes)))
    assert len(graphs) == 1


class Steps(nn.Module):
    """The functions that ``segment`` does not call."""

    def forward(self, e: Tensor, o: Tensor, image: Tensor) -> tuple[Tensor, ...]:
        candidates = F.candidate_mask(F.edge_map(e, reduce="mean"), window=5)
        return candidates, F.dense_crf(o, image, iterations=2)


def test_other_functions_with_open_sizes() -> None:
    def inputs(t: int, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
        e, o, _ = features(1, t, h, w)
        return e[0], o[0], (255 * features(1, t, h, w)[1].expand(3, -1, -1, -1).movedim(0, 1)).byte()

    t, h, w = Dim("T", max=64), Dim("H", min=4, max=512), Dim("W", min=4, max=512)
    shapes = ({0: t, 2: h, 3: w}, {0: t, 1: h, 2: w}, {0: t, 2: h, 3: w})
    program = torch.export.export(Steps(), inputs(3, 9, 11), dynamic_shapes=shapes).module()
    for sizes in ((3, 9, 11), (5, 7, 12)):
        check(program(*inputs(*sizes)), Steps()(*inputs(*sizes)))


class Masks(nn.Module):
    def __init__(self, segmenter: gpuvos.VideoSegmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        result = self.segmenter(frames)
        return result.mask, result.probability


def bundled_segmenter() -> gpuvos.VideoSegmenter:
    """With the networks of the library at one scale, and few steps of flow, as a trace writes out every step."""
    base = LearnedFeatures(flow=DenseFlow(parameters=FlowParameters(warps=1, finest_warps=1, steps=2)))
    return gpuvos.VideoSegmenter(SaliencyFeatures(load_saliency(size=64), base=base), options("robust"))


def clip(t: int, h: int, w: int) -> Tensor:
    return render_clip("single", num_frames=t, height=h, width=w, seed=t).frames


def plain_segmenter() -> gpuvos.VideoSegmenter:
    """Without a network, and so traced in half the time."""
    flow = DenseFlow(parameters=FlowParameters(warps=1, finest_warps=1, steps=2))
    config = gpuvos.Config(num_seeds=30, num_background=3, window=3)  # with fewer it finds nothing in one of the clips
    return gpuvos.VideoSegmenter(AppearanceFeatures(flow=flow), config)


@pytest.mark.skipif(torch.__version__ < "2.14", reason="torch 2.11 asks for sizes of the parity of the example's")
@pytest.mark.parametrize("segmenter", [plain_segmenter, pytest.param(bundled_segmenter, marks=pytest.mark.exhaustive)])
def test_export_of_frames_to_masks(segmenter: Callable[[], gpuvos.VideoSegmenter]) -> None:
    made = segmenter()
    opened = {0: Dim("T", min=3, max=512), 2: Dim("H", min=16, max=1024), 3: Dim("W", min=16, max=1024)}
    program = torch.export.export(Masks(made), (clip(4, 48, 64),), dynamic_shapes=(opened,)).module()
    for sizes in ((5, 56, 72), (3, 41, 97)):
        found, wanted = program(clip(*sizes))[0], made(clip(*sizes)).mask
        assert wanted.any()
        # outside of a trace the network is laid out for the CPU, and rounds otherwise
        assert (found != wanted).float().mean() < 0.01


def test_an_open_number_of_videos_is_refused_by_name() -> None:
    masks = Masks(gpuvos.VideoSegmenter(AppearanceFeatures(), options("robust")))
    videos = torch.stack((clip(4, 16, 24), clip(4, 16, 24)))
    with pytest.raises(gpuvos.InputError, match="a number of videos that is open"):
        torch.export.export(masks, (videos,), dynamic_shapes=({0: Dim("B", min=2, max=8)},))


class Bright(nn.Module):
    """In place of a network of salient objects."""

    def forward(self, images: Tensor) -> Tensor:
        return (images.mean(1) > 0.4).float()


@pytest.mark.parametrize("kind", ["zoom", "roi"])
def test_export_of_a_refinement_with_open_sizes(kind: str) -> None:
    crf = gpuvos.nn.DenseCRF(iterations=1)
    refine = gpuvos.ZoomRefinement(Bright(), reach=3, size=32) if kind == "zoom" else gpuvos.RoiRefinement(crf, size=32)

    def inputs(t: int, h: int, w: int) -> tuple[Tensor, Tensor]:
        return features(1, t, h, w)[1][0], clip(t, h, w)

    t, h, w = Dim("T", min=2, max=64), Dim("H", min=8, max=512), Dim("W", min=8, max=512)
    shapes = ({0: t, 1: h, 2: w}, {0: t, 2: h, 3: w})
    program = torch.export.export(refine, inputs(3, 24, 36), dynamic_shapes=shapes).module()
    for sizes in ((3, 24, 36), (2, 31, 27)):
        check((program(*inputs(*sizes)),), (refine(*inputs(*sizes)),))


@pytest.mark.exhaustive
def test_frames_to_masks_with_the_networks_of_the_library_in_one_graph() -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    segmenter = bundled_segmenter()
    compiled = torch.compile(segmenter, backend=count, dynamic=True, fullgraph=True)
    for t, h, w in ((4, 48, 64), (5, 56, 72)):
        frames = clip(t, h, w)
        found, wanted = compiled(frames), segmenter(frames)
        # outside of a trace the network is laid out for the CPU, and rounds otherwise
        assert (found.mask != wanted.mask).float().mean() < 0.01
    assert len(graphs) == 1
