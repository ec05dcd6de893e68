"""Streams and torch.compile: a handful of graphs, however many frames there are."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from gpuvos import Config, StreamingSegmenter
from gpuvos.data import render_clip
from gpuvos.features.appearance import AppearanceFeatures

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_three_graphs_for_seven_frames() -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    frames = render_clip("single", num_frames=7, height=48, width=64, seed=0).frames
    config = Config(num_seeds=12, num_background=4, window=3)
    segmenter = StreamingSegmenter(AppearanceFeatures(), config, history=4, latency=2)
    wanted = torch.cat([one.mask for one in segmenter.stream(frames)])
    assert wanted.any()
    traced = torch.compile(segmenter.push, backend=count)
    for number, frame in enumerate(frames):
        found = traced(frame)
        assert (found is None) == (number < 2)
        assert found is None or torch.equal(found.mask[0], wanted[number - 2])
    assert not graphs  # a stream is left as it is, rather than in pieces
    segmenter.compile(backend=count)
    for _ in range(2):  # the second stream takes the graphs of the first
        found = torch.cat([one.mask for one in segmenter.stream(frames)])
        assert torch.equal(found, wanted)
        assert len(graphs) == 3


def test_a_compiled_segmenter_can_be_pickled() -> None:
    frame = render_clip("single", num_frames=2, height=32, width=48, seed=0).frames[0]
    segmenter = StreamingSegmenter(AppearanceFeatures(), Config(num_seeds=8, num_background=3, window=3), latency=0)
    segmenter.compile(backend="eager")
    result = segmenter.push(frame)
    segmenter.reset()
    assert result is not None
    again = pickle.loads(pickle.dumps(segmenter)).push(frame)
    assert torch.equal(again.mask, result.mask)
