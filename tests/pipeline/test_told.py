"""What a call is told reaches every part: not to look at values, and where to say how far it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import gpuvos
from gpuvos.data.video import read_video
from gpuvos.errors import InputError
from gpuvos.features.adapters import ModuleFeatures
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.base import accepted
from gpuvos.flow.clip import DenseFlow
from gpuvos.flow.raft import TorchvisionRaft
from gpuvos.nn import DenseCRF

pytestmark = pytest.mark.usefixtures("small_saliency")

KERNELS = Path(gpuvos.kernels.__path__[0])
Said = list[tuple[str, int, int]]


class NoLook(TorchDispatchMode):
    """Refuses what waits for a device: reading one number back.

    The CPU waits for nobody: what is looked at there alone, and what its own implementations of ops do, may stay.
    """

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default and not _on_the_cpu_alone():
            raise AssertionError("a value was read back")
        return function(*args, **(kwargs or {}))


def _on_the_cpu_alone() -> bool:
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name in ("check_index", "_check_graph") or Path(frame.f_code.co_filename).is_relative_to(
            KERNELS
        ):
            return True
    return False


@pytest.fixture
def frames(generator: torch.Generator) -> Tensor:
    return torch.rand(4, 3, 32, 48, generator=generator)  # of floating point: there are values to look at


FRONT_ENDS = {
    "appearance": AppearanceFeatures,
    "bundled": lambda: None,
    "module": lambda: ModuleFeatures(nn.Conv2d(3, 8, 7, stride=4, padding=3)),
    "raft": lambda: AppearanceFeatures(flow=TorchvisionRaft(weights=None, updates=1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_no_part_looks_at_values(name: str, frames: Tensor) -> None:
    if name == "raft":
        pytest.importorskip("torchvision")
    segmenter = gpuvos.VideoSegmenter(FRONT_ENDS[name]())
    looked = segmenter(frames)
    with NoLook():
        unlooked = segmenter(frames, validate=False)
    assert torch.equal(looked.probability, unlooked.probability)
    with pytest.raises(AssertionError, match="read back"), NoLook():
        segmenter(frames)


@pytest.mark.slow
def test_no_part_of_a_stream_looks_at_values(frames: Tensor) -> None:
    def stream() -> gpuvos.StreamingSegmenter:
        return gpuvos.StreamingSegmenter(AppearanceFeatures(), history=4, latency=2)

    looked = torch.cat([one.mask for one in stream().stream(frames)])
    with NoLook():
        unlooked = torch.cat([one.mask for one in stream().stream(frames, validate=False)])
    assert torch.equal(looked, unlooked)


def test_flow_looks_at_values_unless_told_not_to(frames: Tensor) -> None:
    flow = DenseFlow()
    with NoLook():
        flow(frames, validate=False)
        flow.pairs(frames[:1], frames[1:2], validate=False)
    for call in (lambda: flow(2 * frames), lambda: flow.pairs(frames[:1], 2 * frames[1:2])):
        with pytest.raises(InputError, match="values from"):
            call()


def test_values_out_of_range_are_still_found_once(frames: Tensor) -> None:
    with pytest.raises(InputError, match="frames: got values"):
        gpuvos.VideoSegmenter(AppearanceFeatures())(frames * 2)


class Plain(nn.Module):
    """A front end that takes frames and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.front = AppearanceFeatures()

    def forward(self, frames: Tensor) -> gpuvos.Features:
        return self.front(frames)


def test_only_what_a_front_end_names_is_passed() -> None:
    assert accepted(Plain(), validate=False, progress=None) == {}
    assert accepted(AppearanceFeatures(), validate=False, other=1) == {"validate": False}
    assert accepted(read_video, validate=True, progress=None) == {"progress": None}
    assert accepted(dict, validate=True) == {}


def test_progress_by_stage_and_frame(frames: Tensor) -> None:
    said: Said = []
    crf = DenseCRF(iterations=1)
    segmenter = gpuvos.VideoSegmenter(AppearanceFeatures(chunk=1, flow=DenseFlow(chunk=2)), refinement=crf)
    told = segmenter(frames, progress=lambda *news: said.append(news))
    done = {"network": (1, 2, 3, 4), "flow": (2, 4), "method": (0, 4), "refine": (4,)}
    assert said == [(stage, number, 4) for stage, numbers in done.items() for number in numbers]
    assert torch.equal(told.probability, segmenter(frames).probability)


def test_progress_of_parts_is_that_of_the_clip(frames: Tensor) -> None:
    said: Said = []
    gpuvos.VideoSegmenter(AppearanceFeatures(chunk=1), chunk=2)(frames, progress=lambda *news: said.append(news))
    network = [done for stage, done, total in said if stage == "network" and total == 4]
    assert network == sorted(network)
    assert network[0] == 1
    assert network[-1] == 4
    said.clear()
    gpuvos.VideoSegmenter(Plain(), chunk=3)(frames, progress=lambda *news: said.append(news))
    assert said[:2] == [("features", 3, 4), ("features", 4, 4)]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(48, 32, dtype=torch.bool), r"first_mask: got shape \(48, 32\), wanted \(32, 48\).*transpose"),
        (torch.ones(32, 47, dtype=torch.bool), r"first_mask: got shape \(32, 47\), wanted \(32, 48\).*resize"),
        (torch.zeros(32, 48, dtype=torch.bool), "first_mask: got an empty mask"),
    ],
)
def test_a_mask_that_is_not_of_the_frames_is_refused(frames: Tensor, mask: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gpuvos.VideoSegmenter(AppearanceFeatures())(frames, first_mask=mask)
    with pytest.raises(InputError, match=message):
        gpuvos.StreamingSegmenter(AppearanceFeatures()).push(frames[0], first_mask=mask)
