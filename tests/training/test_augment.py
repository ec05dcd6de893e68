"""Crops, composites and labels on the grid."""

from __future__ import annotations

import pytest
import torch

from gpuvos.training.augment import (
    Batch,
    cut_out,
    paste,
    random_crop,
    resize,
    spoil,
    to_grid,
    unknown_to_rest,
)
from gpuvos.training.images import UNKNOWN, Still
from gpuvos.training.sampler import BatchSampler
from gpuvos.training.synthetic import RenderedStills


def square_still(size: int = 120, at: int = 50, side: int = 20) -> Still:
    """A red square, instance 7, on black."""
    instance = torch.zeros(size, size, dtype=torch.uint8)
    instance[at : at + side, at : at + side] = 7
    image = torch.zeros(3, size, size, dtype=torch.uint8)
    image[0] = (instance > 0) * 250
    return Still(image, instance, (instance > 0).byte())


def test_crops_show_the_object_at_the_scale_of_videos(generator: torch.Generator) -> None:
    still = square_still()
    shares = torch.stack([(random_crop(still, 64, generator).instance == 7).float().mean() for _ in range(200)])
    assert ((shares > 0.015) & (shares < 0.45)).float().mean() > 0.8
    assert shares.std() > 0.01


def test_labels_stay_with_the_image(generator: torch.Generator) -> None:
    for _ in range(20):
        crop = random_crop(square_still(), 96, generator)
        red = crop.image[0, 0] > 0.5
        differing = (red != (crop.instance[0] == 7)).float().mean()
        assert differing < 0.03  # half-way pixels of the rim
        assert torch.equal(crop.objectness[0] == 1, crop.instance[0] == 7)
        assert crop.image.shape == (1, 3, 96, 96)


def test_unknown_becomes_minus_one() -> None:
    still = square_still()
    instance = still.instance.where(still.instance > 0, torch.tensor(UNKNOWN, dtype=torch.uint8))
    batch = resize(Still(still.image, instance, instance.clamp(max=1).where(instance < 255, instance)), 120, 120)
    assert sorted(batch.instance.unique().tolist()) == [-1, 7]
    assert sorted(batch.objectness.unique().tolist()) == [-1, 1]


def test_cut_out_leaves_out_what_the_edge_cuts(generator: torch.Generator) -> None:
    objects = cut_out(square_still(), 120, generator)
    assert torch.equal(objects[3] == 1, square_still().instance == 7)
    assert not cut_out(square_still(at=0), 120, generator)[3].any()
    assert not cut_out(square_still(at=100), 120, generator)[3].any()
    assert not cut_out(square_still(side=1), 120, generator)[3].any()  # too small to be of use
    nothing = square_still()._replace(objectness=torch.full((120, 120), UNKNOWN, dtype=torch.uint8))
    assert not cut_out(nothing, 120, generator)[3].any()


def test_cut_out_of_segments_takes_the_whole_salient_object(generator: torch.Generator) -> None:
    still = square_still()
    instance = still.instance + 1  # background is a region too; the object has two
    instance[55:60] += 40
    objects = cut_out(still._replace(instance=instance), 120, generator)
    assert torch.equal(objects[3] == 1, still.objectness == 1)


def test_pasted_objects_have_exact_labels(generator: torch.Generator) -> None:
    image = torch.zeros(40, 3, 96, 96)
    image[:, 2] = 1.0  # blue
    background = Batch(image, torch.full((40, 96, 96), -1), torch.full((40, 96, 96), -1.0))
    background.instance[:, :10] = 3
    objects = torch.stack([cut_out(square_still(at=40, side=40), 96, generator) for _ in range(40)])
    composite = paste(background, objects, generator)
    new = composite.instance == 4  # one above the highest before
    assert new.flatten(1).any(1).float().mean() > 0.9  # a few land outside
    seen = composite.image[:, 0] > 0.4  # red outweighs blue
    assert ((seen != new).float().mean((1, 2)) < 0.03).all()
    assert (composite.objectness[new] == 1).all()
    assert torch.equal(composite.instance[~new], background.instance[~new])
    assert torch.equal(composite.objectness[~new], background.objectness[~new])
    partly = (composite.image[:, 0] > 0.1) & (composite.image[:, 2] > 0.1)
    assert partly.any()  # feathered
    shares = new.float().mean((1, 2))
    assert shares.max() < 0.45
    assert shares.std() > 0.02


def test_pasting_nothing_changes_nothing(generator: torch.Generator) -> None:
    batch = resize(square_still(), 64, 64)
    composite = paste(batch, torch.zeros(1, 4, 64, 64), generator)
    for ours, theirs in zip(composite, batch, strict=True):
        assert torch.equal(ours, theirs)


def test_unknown_to_rest_needs_an_instance() -> None:
    instance = torch.tensor([[[-1, 2]], [[-1, -1]], [[-1, 0]]])
    batch = Batch(torch.zeros(3, 3, 1, 2), instance, torch.full((3, 1, 2), -1.0))
    changed = unknown_to_rest(batch)
    assert changed.instance.tolist() == [[[0, 2]], [[-1, -1]], [[-1, 0]]]
    assert torch.equal(changed.objectness, batch.objectness)


def test_spoil_changes_colours_only(generator: torch.Generator) -> None:
    image = torch.rand(16, 3, 32, 32, generator=generator)
    spoilt = spoil(image, generator)
    assert spoilt.shape == image.shape
    assert ((spoilt >= 0) & (spoilt <= 1)).all()
    assert (spoilt - image).abs().mean((1, 2, 3)).min() > 1e-3
    for before, after in zip(image, spoilt, strict=True):  # still the same picture
        assert torch.corrcoef(torch.stack((before.mean(0).flatten(), after.mean(0).flatten())))[0, 1] > 0.2


def test_grid_labels_by_hand() -> None:
    instance = torch.zeros(1, 16, 16, dtype=torch.int64)
    instance[0, :8, :8] = 1  # 2 x 2 grid pixels: kept
    instance[0, 12:, 12:] = 2  # one grid pixel: too small
    objectness = torch.zeros(1, 16, 16)
    objectness[0, :8, :6] = 1.0
    objectness[0, 8:, :3] = -1.0
    batch = Batch(torch.zeros(1, 3, 16, 16), instance, objectness)
    targets = to_grid(batch, 4, 4)
    assert targets.instance[0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, -1]]
    assert targets.objectness[0].tolist() == [[1, 0.5, 0, 0], [1, 0.5, 0, 0], [-1, 0, 0, 0], [-1, 0, 0, 0]]


@pytest.mark.parametrize("rest", [False, True])
def test_batches_depend_on_seed_step_and_process_alone(rest: bool) -> None:
    stills = RenderedStills(3, height=48, width=64)

    def draw(step: int, **options: int) -> Batch:
        sampler = BatchSampler(stills, batch_size=3, size=48, paste_share=0.7, rest=rest, **options)
        return sampler.draw(sampler.generator(step))

    first = draw(5)
    assert all(torch.equal(a, b) for a, b in zip(first, draw(5), strict=True))
    for other in (draw(6), draw(5, seed=1), draw(5, process=1)):
        assert not torch.equal(first.image, other.image)


@pytest.mark.slow
def test_workers_draw_the_same_batches() -> None:
    sampler = BatchSampler(RenderedStills(1, height=48, width=64), batch_size=2, size=48, paste_share=0.5, rest=True)
    alone, helped = (list(sampler.stream(3, 6, workers)) for workers in (0, 2))
    assert len(alone) == len(helped) == 3
    for ours, theirs in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
