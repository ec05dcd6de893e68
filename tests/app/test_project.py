"""A project without a page: masks, corrections, undo, names, and reasons."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gpuvos import ZoomRefinement, explain
from gpuvos.app.actions import act, painted, shown, unusual
from gpuvos.app.project import Project
from gpuvos.app.words import why_said
from gpuvos.config import Config
from gpuvos.data import RenderedClip
from gpuvos.errors import InputError
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.metrics import region_similarity
from gpuvos.nn import GuidedFilter
from gpuvos.pipeline.video import VideoSegmenter
from gpuvos.viz.timeline import FlagRow


def segmenter(refinement: nn.Module | None = None) -> VideoSegmenter:
    return VideoSegmenter(AppearanceFeatures(), Config(track_seeds=True), refinement=refinement)


def labels(project: Project) -> torch.Tensor:
    return torch.stack([project.labels(frame) for frame in range(project.num_frames)])


def centre(mask: torch.Tensor) -> tuple[float, float]:
    rows, columns = mask.nonzero().double().unbind(1)
    return float(columns.mean()), float(rows.mean())


def test_untouched_masks_are_those_of_the_segmenter(project: Project, scene: RenderedClip) -> None:
    mask = segmenter()(scene.frames).mask
    assert (labels(project) == mask).double().mean() > 0.9999  # distances are rounded in another order


def test_sharpening_is_that_of_the_segmenter(parts: tuple[Any, Any, Any], scene: RenderedClip) -> None:
    sharp = Project(*parts, name="two", refine=GuidedFilter())
    mask = segmenter(GuidedFilter())(scene.frames).mask
    assert (labels(sharp) == mask).double().mean() > 0.9999


def test_a_closer_look_is_that_of_the_segmenter(parts: tuple[Any, Any, Any], scene: RenderedClip) -> None:
    """The network here is the brightness of what it sees, 32 pixels wide."""
    look = ZoomRefinement(lambda images: images.mean(1), size=32)
    mask = segmenter(look)(scene.frames).mask
    assert (labels(Project(*parts, name="two", refine=look)) == mask).double().mean() > 0.9999


def test_a_click_removes_an_object_from_every_frame(project: Project, scene: RenderedClip) -> None:
    """It is made in one frame; undo brings back all of them bit for bit."""
    before, other = labels(project), scene.instances == 2
    frame = 3
    assert project.marks == ()
    project.click(frame, *centre(scene.instances[frame] == 1), 0, "thing")
    after = labels(project)
    assert region_similarity(before > 0, other).mean() < 0.7
    assert region_similarity(after > 0, other).mean() > 0.8
    assert [(mark.frame, mark.owner) for mark in project.marks] == [(3, 0)]
    assert project.corrected == [False, False, False, True, False, False]
    assert project.undo()
    assert torch.equal(labels(project), before)
    assert project.marks == ()
    assert not project.undo()


def test_masks_of_all_pixels_are_asked_for_again_only_where_they_changed(parts: tuple[Any, Any, Any]) -> None:
    asked: list[int] = []

    class Counted(nn.Module):
        def forward(self, probability: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
            asked.append(len(image))
            return probability

    project = Project(*parts, name="two", refine=Counted())
    labels(project)
    project.rename(1, "ball")
    project.add_object("another")
    labels(project)
    assert asked == [1] * 6
    before = project.owner
    project.click(4, 80.0, 48.0, 0, "spot")
    labels(project)
    assert len(asked) == 6 + int((project.owner != before).any(1).sum())


def test_unusual_frames_are_named(project: Project) -> None:
    """Without any object nothing is found from the first frame on; rows of several flags come together."""
    project.remove(1)
    (first,) = [one for one in shown(project)["unusual"] if "Not found yet" in one["said"]]
    assert first["frame"] == 0
    hidden = FlagRow("Hidden or gone", [False, False, True, True, False, True])
    still = FlagRow("Nothing moves", [False, False, True, False, False, False])
    assert unusual([still, hidden]) == [
        {"frame": 2, "said": "Nothing moves, Hidden or gone"},
        {"frame": 5, "said": "Hidden or gone"},
    ]


def test_many_steps_are_undone(project: Project) -> None:
    """Those that are kept bit for bit, and those before them."""
    found = [labels(project)]
    for number in range(9):
        project.click(number % 6, 20.0 + 12 * number, 50.0, number % 2, "part")
        found.append(labels(project))
    versions = {project.version}
    for wanted in found[-2::-1]:
        assert project.undo()
        assert (labels(project) == wanted).double().mean() > 0.9999
        versions.add(project.version)
    assert len(versions) == 10
    assert not project.undo()


def test_objects_are_told_apart_and_renamed(project: Project, scene: RenderedClip) -> None:
    assert project.split() == 2
    assert [one.number for one in project.objects] == [1, 2]
    found = labels(project)
    pairs = [(1, 2), (2, 1)]
    best = max(
        min(float(region_similarity(found == a + 1, scene.instances == b).mean()) for a, b in enumerate(pair))
        for pair in pairs
    )
    assert best > 0.8
    project.rename(2, "  the\nsecond\x00 one ")
    assert project.objects[1].name == "the second one"
    project.remove(2)
    assert [one.number for one in project.objects] == [1]
    assert not bool((labels(project) == 2).any())


def test_a_new_object_takes_what_is_clicked(project: Project, scene: RenderedClip) -> None:
    number = project.add_object("blue")
    project.click(0, *centre(scene.instances[0] == 2), number, "thing")
    found = labels(project)
    assert region_similarity(found == number, scene.instances == 2).mean() > 0.7
    assert region_similarity(found == 1, scene.instances == 1).mean() > 0.7


def test_painting_all_of_an_object_leaves_the_others(project: Project) -> None:
    project.split()
    first = labels(project) == 1
    project.paint(2, labels(project)[2] == 2, 2, whole=True)
    assert region_similarity(labels(project) == 1, first).mean() > 0.9


def test_why_is_that_of_explain(project: Project) -> None:
    """The seed, the margin and the reason, at pixels of the grid's own places."""
    said = explain(project.result, project.features)
    h, w = project.result.mask.shape[-2:]
    height, width = project.size
    for row, column in ((3, 5), (12, 20), (20, 33)):
        why = project.why(2, (column + 0.5) * width / w, (row + 0.5) * height / h)
        assert why.seed == int(said.seed[2, row, column])
        assert why.margin == pytest.approx(float(said.margin[2, row, column]), abs=1e-4)
        assert why.reason == int(said.reason[2, why.seed])
        assert why.track == int(said.track[2, why.seed])
        assert f"sample point {why.seed}" in why_said(project, why)


def test_a_correction_says_that_somebody_made_it(project: Project, scene: RenderedClip) -> None:
    place = centre(scene.instances[3] == 1)
    project.click(3, *place, 0, "thing")
    assert "somebody corrected it" in why_said(project, project.why(3, *place))


def test_messages_of_the_page_are_checked(project: Project) -> None:
    before = labels(project)
    bad: list[object] = [
        None,
        "undo",
        {"kind": "__class__"},
        {"kind": "why", "frame": 99, "x": 1, "y": 1},
        {"kind": "why", "frame": True, "x": 1, "y": 1},
        {"kind": "why", "frame": 0, "x": float("nan"), "y": 1},
        {"kind": "why", "frame": 0, "x": 1e9, "y": 1},
        {"kind": "click", "frame": 0, "x": 1, "y": 1, "owner": 7, "reach": "thing"},
        {"kind": "click", "frame": 0, "x": 1, "y": 1, "owner": 1, "reach": "all"},
        {"kind": "paint", "frame": 0, "strokes": "no", "radius": 3, "owner": 1},
        {"kind": "paint", "frame": 0, "strokes": [[[1, 2]]] * 30_000, "radius": 3, "owner": 1},
        {"kind": "paint", "frame": 0, "strokes": [], "radius": 3, "owner": 1},
        {"kind": "paint", "frame": 0, "strokes": [[[1, 2]]], "radius": 1e5, "owner": 1},
        {"kind": "remove", "owner": 5},
    ]
    for message in bad:
        value = act(project, message)
        assert str(value["said"]).startswith("That did not work: "), message
        assert value["undo"] == 0
    assert torch.equal(labels(project), before)


def test_objects_have_an_end(project: Project) -> None:
    for _ in range(19):
        project.add_object("")
    with pytest.raises(InputError, match="at most 20"):
        project.add_object("")


def test_what_is_shown(project: Project) -> None:
    value = shown(project)
    assert value["frames"] == 6
    assert (value["width"], value["height"]) == (160, 96)
    assert "Marked in 6 of 6 frames" in str(value["said"])
    assert 'class="timeline"' in str(value["timeline"])
    assert act(project, {"kind": "add", "name": "<b>x</b>"})["chosen"] == 2
    assert act(project, {"kind": "undo"})["undo"] == 0


def test_brush_by_hand() -> None:
    """A disc three pixels wide is a pixel and its neighbours."""
    area = painted([[[2, 2]]], 1.5, (5, 5))
    assert area.int().tolist() == [[0] * 5, [0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0] * 5]
