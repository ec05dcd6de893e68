"""Refinement by a closer look, against numbers by hand and loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import gpuvos
from gpuvos.pipeline.crops import object_boxes, paste
from gpuvos.pipeline.refinement import Refinements, RoiRefinement, ZoomRefinement, refinement


def bright(images: Tensor) -> Tensor:
    """A network for which what is bright is salient."""
    return (images.mean(1) > 0.5).float()


def zoom(network: object = bright, **options: object) -> ZoomRefinement:
    return ZoomRefinement(network, **options)


@pytest.fixture
def frames() -> Tensor:
    """One frame of 64 x 96 pixels with a bright square of 20 x 20."""
    image = torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    image[..., 20:40, 30:50] = 255
    return image


def test_every_case_by_hand(frames: Tensor) -> None:
    """w = 0.4: 0.6 x 0.6 + 0.4 = 0.76 and 0.6 x 0.3 + 0.4 = 0.58 in the square, 0.36 and 0.18 beside it."""
    probability = torch.full((1, 64, 96), 0.3)
    probability[0, 20:40, 34:54] = 0.6  # four columns too far right
    found = zoom(weight=0.4, reach=6, size=64)(probability, frames)[0, 30]
    expected = torch.full((96,), 0.3)
    expected[28:30] = 0.18  # within 6 columns of what was found, dark
    expected[30:34], expected[34:50], expected[50:54], expected[54:60] = 0.58, 0.76, 0.36, 0.18
    sure = torch.tensor([x for x in range(96) if x not in (29, 30, 49, 50)])  # where the cut-out's pixels mix
    torch.testing.assert_close(found[sure], expected[sure])


def test_a_frame_with_nothing_found_stays_as_it_is(frames: Tensor) -> None:
    probability = torch.full((1, 64, 96), 0.5)
    assert torch.equal(zoom()(probability, frames), probability)


def test_the_network_sees_the_cut_out_alone(frames: Tensor) -> None:
    seen = []

    def network(images: Tensor) -> Tensor:
        seen.append(images)
        return images[:, 0]

    probability = torch.zeros(1, 64, 96)
    probability[0, 20:40, 30:50] = 1  # 16 pixels wider on every side: rows 4 to 56, columns 14 to 66
    zoom(network, size=52)(probability, frames)
    torch.testing.assert_close(seen[0], frames[..., 4:56, 14:66].float() / 255)


def test_an_object_too_small_for_the_network_is_seen_by_the_closer_look() -> None:
    def needs_size(images: Tensor) -> Tensor:
        found = bright(images)
        return found * (found.mean((1, 2), keepdim=True) > 0.05)

    image = torch.zeros(1, 3, 200, 300, dtype=torch.uint8)
    image[..., 100:120, 200:220] = 255  # 0.7 % of the frame
    probability = torch.full((1, 200, 300), 0.3)
    probability[0, 97:117, 203:223] = 0.6
    assert needs_size(image.float() / 255).sum() == 0
    mask = zoom(needs_size)(probability, image)[0] > 0.5
    truth = image[0, 0] > 0
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95  # 0.57 before


@pytest.mark.parametrize("seed", range(20))
def test_boxes_against_loops(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    height, width = (int(torch.randint(1, 60, (), generator=generator)) for _ in range(2))
    mask = torch.rand(3, height, width, generator=generator) > 0.99
    margin = 0.25 * seed
    for boxes, one in zip(object_boxes(mask, margin).tolist(), mask, strict=True):
        pixels = one.nonzero().tolist()
        if not pixels:
            assert boxes == [0, 0, width, height]
            continue
        rows, columns = ([pixel[axis] for pixel in pixels] for axis in (0, 1))
        top, bottom, left, right = min(rows), max(rows) + 1, min(columns), max(columns) + 1
        wider = max(margin * max(bottom - top, right - left), 16)
        wanted = [max(left - wider, 0), max(top - wider, 0), min(right + wider, width), min(bottom + wider, height)]
        assert boxes == pytest.approx(wanted)


def test_paste_is_a_resize_of_each_box() -> None:
    values = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0))
    boxes = [(2, 3, 13, 9), (0, 0, 20, 12)]
    found, inside = paste(values, torch.tensor(boxes, dtype=torch.float32), (12, 20))
    for number, (left, top, right, bottom) in enumerate(boxes):
        size = (bottom - top, right - left)
        wanted = nn.functional.interpolate(values[None, number, None], size=size, mode="bilinear")[0, 0]
        torch.testing.assert_close(found[number, top:bottom, left:right], wanted)
        assert inside[number].sum() == size[0] * size[1]
        assert inside[number, top:bottom, left:right].all()


def test_frames_do_not_depend_on_each_other_or_on_the_chunk() -> None:
    generator = torch.Generator().manual_seed(1)
    probability = torch.rand(6, 40, 50, generator=generator)
    image = torch.randint(0, 256, (6, 3, 40, 50), dtype=torch.uint8, generator=generator)
    whole = zoom()(probability, image)
    assert torch.equal(zoom(chunk=4)(probability, image), whole)
    assert torch.equal(zoom()(probability[2:3], image[2:3]), whole[2:3])
    shaped = zoom()(probability.reshape(2, 3, 40, 50), image.reshape(2, 3, 3, 40, 50))
    assert torch.equal(shaped.flatten(0, 1), whole)
    assert zoom()(probability[:0], image[:0]).shape == (0, 40, 50)


@pytest.mark.parametrize("reach", [0, 1, 2, 5, 10, 60])
def test_reach_against_loops(reach: int) -> None:
    """A network that finds nothing halves P at pixels at most ``reach`` columns and rows from what was found."""
    found = torch.rand(2, 30, 41, generator=torch.Generator().manual_seed(reach)) > 0.99
    probability = 0.2 + 0.6 * found
    image = torch.zeros(2, 3, 30, 41)
    changed = zoom(weight=0.5, margin=9.0, reach=reach)(probability, image) != probability
    for one, near in zip(found, changed, strict=True):
        pixels = one.nonzero().tolist()
        for row in range(30):
            for column in range(41):
                beside = [max(abs(row - y), abs(column - x)) <= reach for y, x in pixels]
                assert near[row, column] == any(beside)


def test_another_refinement_goes_before(frames: Tensor) -> None:
    class Halved(nn.Module):
        def forward(self, probability: Tensor, image: Tensor) -> Tensor:
            return probability / 2 + image.float().amax() / 1000  # 255 / 1000

    probability = torch.full((1, 64, 96), 0.4)
    probability[0, 20:40, 30:50] = 0.8  # 0.4 + 0.255 before the look
    found = zoom(weight=0.4, refinement=Halved())(probability, frames)
    assert found[0, 30, 40].item() == pytest.approx(0.6 * 0.655 + 0.4)
    assert found[0, 0, 0].item() == pytest.approx(0.455)


def test_refinements_follow_each_other(frames: Tensor) -> None:
    probability = torch.full((1, 64, 96), 0.3)
    probability[0, 20:40, 34:54] = 0.6
    closer, crf = zoom(), gpuvos.nn.DenseCRF(iterations=2)
    found = Refinements(closer, crf)(probability, frames)
    assert torch.equal(found, crf(closer(probability, frames), frames))
    with pytest.raises(gpuvos.InputError, match="probability"):
        Refinements(closer, crf)(probability + 1, frames)
    assert [type(part) for part in refinement("zoom-crf").steps] == [ZoomRefinement, RoiRefinement]


class Brighter(nn.Module):
    """Adds a tenth where the image is bright, and remembers what it was shown."""

    def forward(self, probability: Tensor, image: Tensor) -> Tensor:
        self.seen = probability, image
        return probability + 0.1 * image.mean(1)


def test_a_region_of_interest_by_hand(frames: Tensor) -> None:
    """The box of rows 20 to 40 and columns 30 to 50 is 16 pixels wider on every side, 52 x 52 pixels."""
    probability = torch.full((1, 64, 96), 0.3)
    probability[0, 20:40, 30:50] = 0.6
    inside = Brighter()
    found = RoiRefinement(inside, size=52)(probability, frames)
    torch.testing.assert_close(inside.seen[0], probability[:, 4:56, 14:66])
    torch.testing.assert_close(inside.seen[1], frames[..., 4:56, 14:66].float() / 255)
    expected = torch.full((1, 64, 96), 0.3)
    expected[0, 20:40, 30:50] = 0.7
    torch.testing.assert_close(found, expected)
    half = RoiRefinement(inside, size=52, weight=0.5)(probability, frames)
    torch.testing.assert_close(half, (probability + expected) / 2)
    outside = torch.ones(64, 96, dtype=torch.bool)
    outside[4:56, 14:66] = False
    assert torch.equal(found[0, outside], probability[0, outside])


def test_a_region_of_interest_is_resampled(frames: Tensor) -> None:
    """Half as many pixels as the box has: means of 2 x 2 there, and bilinear on the way back."""
    probability = torch.rand(1, 64, 96, generator=torch.Generator().manual_seed(0)) * 0.4
    probability[0, 20:40, 30:50] = 0.6
    inside = Brighter()
    found = RoiRefinement(inside, size=26)(probability, frames)
    half = nn.functional.avg_pool2d(probability[:, None, 4:56, 14:66], 2)
    torch.testing.assert_close(inside.seen[0], half[:, 0])
    refined = half + 0.1 * nn.functional.avg_pool2d(frames[:, :1, 4:56, 14:66].float() / 255, 2)
    wanted = nn.functional.interpolate(refined, size=(52, 52), mode="bilinear")
    torch.testing.assert_close(found[:, 4:56, 14:66], wanted[:, 0])


def test_a_region_of_interest_for_each_frame_alone(frames: Tensor) -> None:
    probability = torch.rand(5, 64, 96, generator=torch.Generator().manual_seed(2)) ** 3
    probability[2] /= 2  # nothing found
    image = frames.expand(5, -1, -1, -1)
    refine = RoiRefinement(gpuvos.nn.DenseCRF(iterations=2), size=32)
    whole = refine(probability, image)
    assert torch.equal(whole[2], probability[2])
    assert not torch.equal(whole[3], probability[3])
    assert torch.equal(RoiRefinement(refine.refinement, size=32, chunk=3)(probability, image), whole)
    assert torch.equal(refine(probability[3:4].double(), image[3:4]).float(), whole[3:4])
    assert torch.equal(refine(probability[None], image[None])[0], whole)
    assert refine(probability[:0], image[:0]).shape == (0, 64, 96)


def test_gradients_reach_the_probability(frames: Tensor) -> None:
    probability = torch.full((1, 64, 96), 0.3)
    probability[0, 20:40, 30:50] = 0.6
    probability.requires_grad_()
    zoom(weight=0.4)(probability, frames).sum().backward()
    assert probability.grad is not None
    assert probability.grad[0, 30, 40].item() == pytest.approx(0.6)
    assert probability.grad[0, 0, 0].item() == 1
    probability.grad = None
    RoiRefinement(Brighter(), size=52)(probability, frames).sum().backward()
    torch.testing.assert_close(probability.grad, torch.ones(1, 64, 96))


def test_nothing_is_read_back() -> None:
    """On fake tensors, which have no values to read."""
    with FakeTensorMode():
        refine = ZoomRefinement(lambda images: images.mean(1))
        probability, image = torch.rand(3, 64, 96), torch.rand(3, 3, 64, 96)
        assert refine(probability, image, validate=False).shape == (3, 64, 96)
        assert RoiRefinement(Brighter())(probability, image, validate=False).shape == (3, 64, 96)


@pytest.mark.slow
def test_the_network_inside_the_package_stays_in_evaluation_mode(frames: Tensor) -> None:
    refine = ZoomRefinement()
    probability = (frames[:, 0] > 0) * 0.7
    before = refine(probability, frames)
    assert not any(module.training for module in refine.train().modules())
    assert torch.equal(refine(probability, frames), before)
    assert not any(value.requires_grad for value in refine.parameters())


def test_bad_options_and_inputs(frames: Tensor) -> None:
    for name, value in (("weight", 1.5), ("margin", -1.0), ("reach", -1), ("size", 0), ("chunk", 0)):
        with pytest.raises(gpuvos.InputError, match=name):
            zoom(**{name: value})
    with pytest.raises(gpuvos.InputError, match="network"):
        zoom(3)
    with pytest.raises(gpuvos.InputError, match="probability"):
        zoom()(torch.full((1, 64, 96), 2.0), frames)
    with pytest.raises(gpuvos.InputError, match="image"):
        zoom()(torch.zeros(1, 64, 96), frames[..., 1:])
    with pytest.raises(gpuvos.InputError, match="saliency"):
        zoom(lambda images: images)(torch.ones(1, 64, 96), frames)
    for name, value in (("weight", 1.5), ("margin", -1.0), ("size", 0), ("chunk", 0)):
        with pytest.raises(gpuvos.InputError, match=name):
            RoiRefinement(Brighter(), **{name: value})
    with pytest.raises(gpuvos.InputError, match="probability"):
        RoiRefinement(Brighter())(torch.full((1, 64, 96), 2.0), frames)
    with pytest.raises(gpuvos.InputError, match="name"):
        refinement("sharpen")
