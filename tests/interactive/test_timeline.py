"""A clip at a glance: numbers of a frame by hand, flags as `explain` has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpuvos import VideoSegmenter, explain
from gpuvos.cli.pieces import Piece
from gpuvos.cli.report import Report, timeline_rows
from gpuvos.config import Config
from gpuvos.data import Clip, render_clip
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.interactive.timeline import timeline
from gpuvos.types import Features, Segmentation


@pytest.fixture(scope="module")
def made() -> tuple[torch.Tensor, Features, Segmentation]:
    segmenter = VideoSegmenter(AppearanceFeatures(), Config(track_seeds=True))
    frames = render_clip("single", num_frames=4, height=48, width=64).frames
    features = segmenter.features(frames)
    return frames, features, segmenter.label(features, frames)


def test_numbers_by_hand(made: tuple[torch.Tensor, Features, Segmentation]) -> None:
    _, _, result = made
    mask, confidence = torch.zeros_like(result.mask), torch.full_like(result.confidence, 0.5)
    mask[0, :24] = True  # half of the picture
    confidence[0, :12] = 1.0  # of which half is sure
    flow = torch.zeros_like(result.region_flow)
    foreground = torch.zeros_like(result.foreground)
    foreground[0, :2] = True
    flow[0, 0], flow[0, 1] = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1.0])  # 5 and 1 pixels a frame
    found = timeline(result._replace(mask=mask, confidence=confidence, region_flow=flow, foreground=foreground))
    assert found.share.tolist() == [0.5, 0, 0, 0]
    assert found.confidence.tolist() == [0.75, 0.5, 0.5, 0.5]  # an empty mask: of the picture
    assert found.motion.tolist() == [3.0, 0, 0, 0]
    assert found.flags.occluded.tolist() == [False, True, True, True]


def test_flags_are_those_of_explain(made: tuple[torch.Tensor, Features, Segmentation]) -> None:
    _, features, result = made
    why, found = explain(result, features), timeline(result)
    for name in ("still", "empty", "occluded", "tie"):
        assert torch.equal(getattr(why, name), getattr(found.flags, name))


def test_scores_of_a_stream_are_a_row_a_frame(made: tuple[torch.Tensor, Features, Segmentation]) -> None:
    _, _, result = made
    assert result.track_score is not None
    rows = result._replace(track_score=result.track_score.expand(4, -1))
    assert torch.equal(timeline(rows).flags.tie, timeline(result).flags.tie)


def test_pieces_join(made: tuple[torch.Tensor, Features, Segmentation], tmp_path: Path) -> None:
    """What was found in one piece and is not in the next is gone there, not yet to be found."""
    frames, _, result = made
    clip = Clip(frames, torch.arange(4, dtype=torch.float64), 1.0, ("0", "1", "2", "3"))
    there = result._replace(foreground=result.seeds.valid)
    gone = result._replace(foreground=torch.zeros_like(result.foreground))
    names = {flag.name: flag.values for flag in timeline_rows(timeline(gone), seen=True)[1]}
    assert names["Hidden or gone"] == [True] * 4
    report = Report()
    report.add(Piece(clip, there, None))
    report.add(Piece(clip, gone, None))
    (tmp_path / "overlay.mp4").write_bytes(b"film")
    report.write(tmp_path, "clip", "", {})
    text = (tmp_path / "report.html").read_text()
    assert "<th>Hidden or gone</th><td>frames 4 to 7</td>" in text
    assert "Not found yet" not in text
