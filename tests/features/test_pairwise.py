"""What pairs of frames share: the flow of each is solved once."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from gpuvos import StreamingSegmenter
from gpuvos.data import render_clip
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.flow.clip import DenseFlow


class Counted(DenseFlow):
    """Dense flow that knows how many pairs it has solved."""

    solved = 0

    def pairs(self, first: Tensor, second: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        self.solved += len(first)
        return super().pairs(first, second, size=size)

    def forward(self, frames: Tensor, **options: Any) -> Tensor:
        self.solved += len(frames) if len(frames) > 1 else 0  # both ends of the clip
        return super().forward(frames, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("latency", "solved"), [(0, 4), (1, 5), (3, 5)])
def test_flow_of_a_frame_is_solved_once(latency: int, solved: int) -> None:
    flow = Counted()
    frames = render_clip("single", num_frames=5, height=32, width=48).frames
    segmenter = StreamingSegmenter(AppearanceFeatures(flow=flow), history=9, latency=latency)
    assert len(list(segmenter.stream(frames))) == 5
    assert flow.solved == solved  # of five frames: four neighbours, and the last one back
