"""Frames of one video in several threads: the same bits for any number of them, and ends that leave none behind."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gpuvos
from gpuvos.batch.local import on_cores
from gpuvos.data import render_clip
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.network.weights import load_saliency
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.flow.clip import DenseFlow
from gpuvos.pipeline.refinement import Refinements, ZoomRefinement
from gpuvos.pipeline.threads import ThreadedFeatures, ThreadedRefinement, in_threads
from gpuvos.types import Features


@pytest.fixture
def frames() -> Tensor:
    """An odd number of frames of an odd size."""
    return render_clip("single", num_frames=7, height=47, width=81, seed=3).frames


class Noting(nn.Module):
    """A front end that notes in which thread, with how many cores and with what frames it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = DenseFlow()
        self.notes: list[tuple[str, int, int, bool]] = []

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        name, cores = threading.current_thread().name, torch.get_num_threads()
        self.notes.append((name, cores, len(frames), torch.is_grad_enabled()))
        values = frames.float().mean(1)
        return values[:, None], values / 255

    def complete(self, embedding: Tensor, objectness: Tensor, flow: Tensor) -> Features:
        return Features(embedding, objectness, flow)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("threads", [1, 2, 3, 9])
def test_features_are_those_of_one_thread(frames: Tensor, count: int, threads: int) -> None:
    front_end = AppearanceFeatures()
    expected = front_end(frames[:count])
    found = ThreadedFeatures(front_end, threads=threads)(frames[:count])
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_long_clips_have_their_flow_in_parts() -> None:
    frames = render_clip("single", num_frames=33, height=24, width=32, seed=0).frames
    front_end = AppearanceFeatures()
    assert torch.equal(ThreadedFeatures(front_end, threads=2)(frames).flow, front_end(frames).flow)


@pytest.mark.slow
def test_masks_are_those_of_one_thread(frames: Tensor) -> None:
    network = load_saliency(size=96)  # at its 320 it takes seconds for what it takes tenths for
    refine = Refinements(ZoomRefinement(network, size=96), gpuvos.nn.DenseCRF(iterations=2, subsample=2))
    plain = gpuvos.VideoSegmenter(SaliencyFeatures(network), refinement=refine)
    with on_cores(1):  # U2NetP adds up otherwise on more
        expected = plain(frames)
    for threads in (1, 2, 3):
        found = in_threads(plain, threads)(frames)
        assert torch.equal(found.mask, expected.mask)
        assert torch.equal(found.probability, expected.probability)
        assert torch.equal(found.seeds.index, expected.seeds.index)


def test_each_thread_has_one_core_and_a_frame_at_a_time(frames: Tensor) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        front_end = Noting()
        ThreadedFeatures(front_end, threads=2)(frames)
        assert torch.get_num_threads() == 2
        seen: list[int] = []
        late = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        late.start()
        late.join()
    finally:
        torch.set_num_threads(before)
    assert seen == [2]
    assert {(cores, count, grad) for _, cores, count, grad in front_end.notes} == {(1, 1, False)}
    assert {name.rpartition("_")[0] for name, *_ in front_end.notes} == {"frames"}
    assert len(front_end.notes) == 7


def test_progress_counts_every_frame_once(frames: Tensor) -> None:
    told: dict[str, list[tuple[int, int]]] = {"network": [], "flow": []}
    ThreadedFeatures(AppearanceFeatures(), threads=2)(
        frames, progress=lambda stage, done, total: told[stage].append((done, total))
    )
    assert told["network"] == [(number, 7) for number in range(1, 8)]
    assert told["flow"] == [(4, 7), (7, 7)] or told["flow"] == [(3, 7), (7, 7)]


class Broken(Noting):
    """Fails at the third frame."""

    error: BaseException = ValueError("broken")

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        if len(self.notes) == 2:
            raise self.error
        return super().encode(frames)


def test_an_error_ends_all_threads(frames: Tensor) -> None:
    with pytest.raises(ValueError, match="broken"):
        ThreadedFeatures(Broken(), threads=2)(frames)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("frames")]


def test_an_interrupt_ends_all_threads(frames: Tensor) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    front_end = Noting()
    with pytest.raises(KeyboardInterrupt):
        ThreadedFeatures(front_end, threads=1)(frames.repeat(9, 1, 1, 1), progress=interrupt)
    assert len(front_end.notes) < 63  # what waits is dropped
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("frames")]


def test_a_single_frame_is_refined_where_it_is_asked_for(frames: Tensor) -> None:
    names: list[str] = []

    class Named(nn.Module):
        def forward(self, probability: Tensor, image: Tensor) -> Tensor:
            names.append(threading.current_thread().name)
            return probability * (image.ndim > 0)

    refine = ThreadedRefinement(Named(), threads=2)
    probability = torch.rand(7, 47, 81)
    assert torch.equal(refine(probability[:1], frames[:1]), probability[:1])
    assert names == [threading.current_thread().name]
    assert torch.equal(refine(probability, frames), probability)
    assert len(names) == 8
    assert all(name.startswith("frames") for name in names[1:])


def test_a_stream_takes_its_frames_one_by_one(frames: Tensor) -> None:
    plain = AppearanceFeatures()
    streams = [
        gpuvos.StreamingSegmenter(front_end, history=4, latency=1)
        for front_end in (plain, ThreadedFeatures(plain, threads=2))
    ]
    masks = [torch.cat([one.mask for one in stream.stream(frames)]) for stream in streams]
    assert torch.equal(*masks)


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(gpuvos.InputError, match="front_end: got Identity"):
        ThreadedFeatures(nn.Identity(), threads=2)
    with pytest.raises(gpuvos.InputError, match="threads"):
        ThreadedFeatures(AppearanceFeatures(), threads=0)
    with pytest.raises(gpuvos.InputError, match="threads"):
        ThreadedRefinement(nn.Identity(), threads=0)
