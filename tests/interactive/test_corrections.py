"""Corrections that follow seeds: links and look-ups by hand, and one click that mends a whole clip."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gpuvos import relabel
from gpuvos.config import Config
from gpuvos.data import RenderedClip, render_clip
from gpuvos.errors import InputError
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.functional.probability import LEAST
from gpuvos.interactive.corrections import (
    UNTOUCHED,
    Correction,
    Links,
    correct_area,
    correct_points,
    corrected_owner,
    follow,
    link_seeds,
)
from gpuvos.interactive.objects import ObjectMasks
from gpuvos.pipeline.segment import segment
from gpuvos.pipeline.video import VideoSegmenter
from gpuvos.types import Features, Segmentation

Made = tuple[RenderedClip, Features, Segmentation]


@pytest.fixture(scope="module")
def made() -> Made:
    clip = render_clip("two", num_frames=5, height=64, width=96)
    features = VideoSegmenter(AppearanceFeatures()).features(clip.frames)
    return clip, features, segment(*features, config=Config(track_seeds=True))


def owners(result: Segmentation) -> torch.Tensor:
    return torch.where(result.foreground, 1, torch.where(result.background, 0, -1))


def test_labels_travel_along_links_both_ways() -> None:
    links = Links(
        before=torch.tensor([[-1, -1, -1], [1, 0, -1], [2, 1, 1]]),
        after=torch.tensor([[1, 0, 0], [2, 1, 0], [-1, -1, -1]]),
    )
    said = follow(Correction(1, torch.tensor([5, UNTOUCHED, 0])), links)
    assert said.tolist() == [[-2, 5, 5], [5, -2, 0], [0, -2, -2]]


def test_the_nearest_correction_counts_and_of_equal_ones_the_latest() -> None:
    links = Links(before=torch.tensor([[-1], [0], [0], [0]]), after=torch.tensor([[0], [0], [0], [-1]]))
    owner = torch.zeros(4, 1, dtype=torch.int64)
    first, last = Correction(0, torch.tensor([1])), Correction(3, torch.tensor([2]))
    for order in ([first, last], [last, first]):
        assert corrected_owner(owner, order, links).flatten().tolist() == [1, 1, 2, 2]
    middle = [Correction(0, torch.tensor([1])), Correction(2, torch.tensor([2]))]
    assert corrected_owner(owner, middle, links).flatten().tolist() == [1, 2, 2, 2]
    assert corrected_owner(owner, middle[::-1], links).flatten().tolist() == [1, 1, 2, 2]


def test_links_follow_the_flow_where_looks_are_equal(made: Made) -> None:
    """Two seeds of one look, side by side, move one place to the right: each continues the one on its left."""
    _, _, result = made
    h, w = result.forest.label.shape[-2:]
    k = result.seeds.index.shape[1]
    index = torch.full((2, k), -1)
    index[0, :2] = torch.tensor([5 * w + 4, 5 * w + 10])
    index[1, :2] = torch.tensor([5 * w + 10, 5 * w + 16])
    valid = index >= 0
    seeds = result.seeds._replace(
        index=index, valid=valid, embedding=torch.zeros(2, k, 3), objectness=torch.zeros(2, k)
    )
    flow = torch.zeros(2, 2, h, w)
    flow[:, 0] = 6.0 * result.mask.shape[-1] / w
    short = result._replace(
        seeds=seeds, mask=result.mask[:2], forest=result.forest._replace(label=result.forest.label[:2])
    )
    links = link_seeds(short, Features(torch.zeros(2, 3, h, w), torch.zeros(2, h, w), flow))
    assert links.before[1, :2].tolist() == [0, 1]
    assert links.after[0, :2].tolist() == [0, 1]
    assert links.before[0].eq(-1).all()
    assert links.after[1].eq(-1).all()
    assert links.before[1, 2:].eq(-1).all()  # no seed, no link


def test_a_click_takes_what_lies_before_the_ground(made: Made) -> None:
    """Distances 1, 2, 3 and then five times 7, where the ground begins."""
    _, _, result = made
    k = result.seeds.index.shape[1]
    distance = torch.full((k, k), torch.inf)
    distance[0, :9] = torch.tensor([0.0, 1, 2, 3, 7, 7, 7, 7, 7])
    whole = result.forest.seed_distance.clone()
    whole[0] = distance
    label = torch.zeros_like(result.forest.label)
    forest = result.forest._replace(seed_distance=whole, label=label)
    valid = torch.ones_like(result.seeds.valid)
    known = result._replace(forest=forest, seeds=result.seeds._replace(valid=valid))
    taken = {
        reach: (correct_points(known, torch.tensor([[3.0, 3.0]]), 4, frame=0, reach=reach).owner == 4).nonzero()
        for reach in ("spot", "part", "thing")
    }
    assert {reach: found.flatten().tolist() for reach, found in taken.items()} == {
        "spot": [0],
        "part": [0, 1, 2],
        "thing": [0, 1, 2, 3],
    }


def test_an_area_takes_regions_it_covers_by_half(made: Made) -> None:
    _, _, result = made
    label = torch.zeros_like(result.forest.label)
    h, w = label.shape[-2:]
    label[:, :, w // 2 :] = 1
    valid = torch.zeros_like(result.seeds.valid)
    valid[:, :3] = True
    known = result._replace(forest=result.forest._replace(label=label), seeds=result.seeds._replace(valid=valid))
    area = torch.zeros(h, w, dtype=torch.bool)
    area[:, : w // 2] = True
    assert correct_area(known, area, 3, frame=1).owner[:3].tolist() == [3, UNTOUCHED, UNTOUCHED]
    assert correct_area(known, area, 3, frame=1, whole=True).owner[:4].tolist() == [3, 0, 0, UNTOUCHED]
    dot = torch.zeros(h, w, dtype=torch.bool)
    dot[0, w - 1] = True  # covers no region by half: the one it covers most
    assert correct_area(known, dot, 3, frame=1).owner[:2].tolist() == [UNTOUCHED, 3]
    with pytest.raises(InputError, match="empty"):
        correct_area(known, ~(area | ~area), 3, frame=1)


def test_masks_of_one_object_are_those_of_relabel(made: Made) -> None:
    """Built at once, and brought there by changes and back."""
    _, features, result = made
    before = owners(result)
    masks = ObjectMasks(result, features.embedding, before)

    def probability() -> torch.Tensor:
        return torch.stack([masks.probability(frame)[0] for frame in range(5)])

    start = probability()
    torch.testing.assert_close(start, result.probability, atol=1e-5, rtol=0)
    after = before.clone()
    changed = result.seeds.valid.clone()
    changed[:, 7:] = False
    changed[3] = False
    after[changed] = 1 - after[changed].clamp(min=0)
    assert masks.assign(after) == [0, 1, 2, 3, 4]  # the seeds of frames 2 and 4 serve frame 3 as well
    pairs = {
        name: [(int(t), int(k)) for t, k in ((after == value) & changed).nonzero()]
        for name, value in (("foreground", 1), ("background", 0))
    }
    edited = relabel(result, features.embedding, **pairs)
    torch.testing.assert_close(probability(), edited.probability, atol=1e-4, rtol=0)
    masks.assign(before)
    torch.testing.assert_close(probability(), start, atol=1e-4, rtol=0)


def test_objects_are_disjoint_and_compete(made: Made) -> None:
    _, features, result = made
    owner = owners(result)
    owner[:, ::5] = torch.where(owner[:, ::5] == 1, 2, owner[:, ::5])
    owner[:, 1::7] = torch.where(owner[:, 1::7] == 0, 3, owner[:, 1::7])
    masks = ObjectMasks(result, features.embedding, owner)
    assert masks.count == 3
    for frame in range(5):
        assert int((masks.probability(frame) > 0.5).sum(0).max()) <= 1
        number, seed, _ = masks.deciding(frame, 4, 4)
        assert int(owner[frame, seed]) == number


def test_a_clip_without_a_foreground_has_an_empty_object(made: Made) -> None:
    _, features, result = made
    masks = ObjectMasks(result, features.embedding, torch.zeros_like(owners(result)))
    assert masks.probability(0).shape[0] == 1
    assert float(masks.probability(0).max()) < 1.01 * LEAST


def multiplications(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops()) // 2


def test_a_change_looks_only_where_it_may_matter(made: Made) -> None:
    """By hand: pixels and seeds at 0, 1, 8 and 9 of a line; 0 is the ground's, which gets 9 from the object.

    The ground: 9 is 81 from its seed (squared); pixels with 4 times their distance from it below that, 0 and 4, are
    left alone, and 8 and 9 (256 and 324) look at the new seed: 2 multiplications, and 4 for how far it is from every
    seed. The object: only pixel 9 had the lost seed, and looks at the two that are left: 2 more.
    """
    _, _, result = made
    place = torch.tensor([0.0, 1, 8, 9])
    seeds = result.seeds._replace(embedding=place[None, :, None], valid=torch.ones(1, 4, dtype=torch.bool))
    label = torch.zeros(1, 1, 4, dtype=torch.int64)
    known = result._replace(seeds=seeds, forest=result.forest._replace(label=label))
    masks = ObjectMasks(known, place.view(1, 1, 1, 4), torch.tensor([[0, 1, 1, 1]]))
    assert multiplications(lambda: masks.assign(torch.tensor([[0, 1, 1, 1]]))) == 0
    assert multiplications(lambda: masks.assign(torch.tensor([[0, 1, 1, 0]]))) == 8
    assert [masks.deciding(0, 0, column)[:2] for column in range(4)] == [(0, 0), (1, 1), (1, 2), (0, 3)]


def test_a_correction_costs_less_than_every_pair_that_changed(made: Made) -> None:
    """And gives what building everything anew gives."""
    _, features, result = made
    owner = owners(result)
    masks = ObjectMasks(result, features.embedding, owner)
    t, d, h, w = features.embedding.shape
    taken = owner.clone()
    for frame in range(t):  # the ground gets half of the object
        own = (owner[frame] == 1).nonzero().flatten()
        taken[frame, own[: len(own) // 2]] = 0
    before, start = masks.standing(), [masks.probability(frame) for frame in range(t)]
    pairs = ((taken != owner).sum(1) + (taken == 1).sum(1)).tolist()
    served = [len({max(frame - 1, 0), frame, min(frame + 1, t - 1)}) for frame in range(t)]  # by the seeds of a frame
    count = sum(one * frames for one, frames in zip(pairs, served, strict=True))
    assert 0 < multiplications(lambda: masks.assign(taken)) < 0.7 * d * h * w * count
    fresh = ObjectMasks(result, features.embedding, taken)
    for frame in range(t):
        assert torch.allclose(masks.probability(frame), fresh.probability(frame), atol=1e-4)
    changed = (taken != owner).any(1).nonzero().flatten().tolist()
    assert multiplications(lambda: masks.restore(before)) == 0
    assert masks.restore(masks.standing()) == []
    masks.assign(taken)
    assert masks.restore(before) == changed
    assert torch.equal(masks.owner, owner)
    assert all(torch.equal(masks.probability(frame), start[frame]) for frame in range(t))
