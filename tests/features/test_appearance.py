"""The front end without weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import gpuvos
from gpuvos import Config, InputError, VideoSegmenter
from gpuvos.data.synthetic import render_clip
from gpuvos.features.appearance import AppearanceFeatures, centre_prior, color_contrast
from gpuvos.features.context import squash


class Still(nn.Module):
    """No motion anywhere, at once."""

    def forward(self, frames: Tensor, *, size: tuple[int, int]) -> Tensor:
        return torch.zeros(frames.shape[0], 2, *size)


@pytest.mark.parametrize(
    ("shape", "stride", "grid"),
    [
        ((1, 3, 1, 1), 4, (1, 1)),
        ((2, 3, 3, 5), 4, (1, 2)),
        ((1, 3, 37, 53), 4, (10, 14)),  # ceil(37 / 4), ceil(53 / 4)
        ((3, 3, 1, 20), 3, (1, 7)),
        ((2, 3, 11, 12), 1, (11, 12)),
    ],
)
def test_shapes_and_ranges(
    shape: tuple[int, ...], stride: int, grid: tuple[int, int], generator: torch.Generator
) -> None:
    frames = torch.rand(shape, generator=generator)
    features = AppearanceFeatures(stride=stride)(frames)
    t = shape[0]
    assert features.embedding.shape == (t, 13, *grid)
    assert features.objectness.shape == (t, *grid)
    assert features.flow.shape == (t, 2, *grid)
    for value in features:
        assert value.is_floating_point()
        assert value.isfinite().all()
    assert features.objectness.min() >= 0
    assert features.objectness.max() <= 1
    assert VideoSegmenter(AppearanceFeatures(stride=stride))(frames).mask.shape == (t, *shape[2:])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floating_types(dtype: torch.dtype, generator: torch.Generator) -> None:
    frames = torch.rand(2, 3, 9, 13, generator=generator).to(dtype)
    module = AppearanceFeatures(flow=Still())
    for one, two in zip(module(frames), module(frames.float()), strict=True):
        assert one.is_floating_point()
        torch.testing.assert_close(one.float(), two, rtol=1e-4, atol=1e-3)


def test_bytes_and_floats_agree(generator: torch.Generator) -> None:
    frames = torch.randint(0, 256, (2, 3, 20, 28), generator=generator, dtype=torch.uint8)
    module = AppearanceFeatures(flow=Still())
    for one, two in zip(module(frames), module(frames.float() / 255), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.sampled
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_constant_colour_has_nothing_in_it(grey: int) -> None:
    frames = torch.full((3, 3, 24, 32), grey, dtype=torch.uint8)
    features = AppearanceFeatures()(frames)
    assert features.objectness.abs().max() < 1e-3
    assert features.flow.abs().max() < 1e-3
    assert features.embedding[:, 3:9].abs().max() < 1e-2  # no texture
    assert not VideoSegmenter(AppearanceFeatures())(frames).mask.any()


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_size_of_the_chunks_changes_nothing(chunk: int, generator: torch.Generator) -> None:
    frames = torch.rand(5, 3, 21, 30, generator=generator)
    whole = AppearanceFeatures(flow=Still(), chunk=16)(frames)
    for one, two in zip(AppearanceFeatures(flow=Still(), chunk=chunk)(frames), whole, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


def test_a_weight_of_zero_takes_a_block_out(generator: torch.Generator) -> None:
    frames = torch.rand(2, 3, 20, 28, generator=generator)
    blocks = {"color": slice(0, 3), "texture": slice(3, 9), "position": slice(9, 11), "motion": slice(11, 13)}
    full = AppearanceFeatures()(frames).embedding
    for name, channels in blocks.items():
        less = AppearanceFeatures(**{name: 0.0})(frames).embedding
        assert full[:, channels].abs().max() > 0
        assert (less[:, channels] == 0).all()
        less[:, channels] = full[:, channels]
        assert torch.equal(less, full)


def test_position_grows_to_the_right_and_down() -> None:
    e = AppearanceFeatures(stride=1, position=1.0, flow=Still())(torch.zeros(1, 3, 3, 5)).embedding[0, 9:11]
    # the longer side spans [-1, 1] in steps of 2 / 4, the shorter one keeps that step: -0.5 0 0.5
    torch.testing.assert_close(e[0, 0], torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]))
    torch.testing.assert_close(e[1, :, 0], torch.tensor([-0.5, 0.0, 0.5]))


def test_centre_prior_by_hand() -> None:
    prior = centre_prior(torch.zeros(2, 3, 3, 5), spread=0.5)
    assert prior.shape == (2, 3, 5)
    assert prior[0, 1, 2] == 1
    # the middle of a side: exp(-1 / (2 * 0.25)); a corner: exp(-2 / 0.5); half way: exp(-0.25 / 0.5)
    for (y, x), value in {(1, 0): math.exp(-2), (0, 0): math.exp(-4), (1, 1): math.exp(-0.5)}.items():
        assert prior[1, y, x].item() == pytest.approx(value)
    assert (centre_prior(torch.zeros(1, 3, 1, 1)) == 1).all()  # one pixel is its own centre


def test_squash_by_hand() -> None:
    # lengths 5 and 0, mean 2.5: 5 / (5 + 2 * 2.5) = 0.5 along (3, 4) / 5
    flow = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]])
    torch.testing.assert_close(squash(flow), torch.tensor([[[[0.3, 0.0]], [[0.4, 0.0]]]]))
    # little motion is not blown up: lengths 0.1 and 0.1, the mean counts as 0.25: 0.1 / 0.6
    small = squash(torch.tensor([[[[0.1, 0.1]], [[0.0, 0.0]]]]))
    torch.testing.assert_close(small[:, 0], torch.full((1, 1, 2), 1 / 6))
    assert squash(torch.full((1, 2, 2, 2), 1e6)).norm(dim=1).max() < 1


def test_contrast_is_high_where_colour_is_unlike_the_borders() -> None:
    lab = torch.zeros(2, 3, 20, 20)
    lab[:, 0, 6:14, 6:14] = 60
    lab[1, 0, :14, 6:14] = 60  # touches the upper border: the other three decide
    contrast = color_contrast(lab)
    for t in range(2):
        assert contrast[t, 10, 10] > 0.9
        assert contrast[t, 17, 2] < 0.1
    assert contrast.max() <= 1
    assert (color_contrast(torch.full((1, 3, 9, 9), 50.0)) == 0).all()


@pytest.mark.slow
def test_finds_the_object_of_a_rendered_clip() -> None:
    clip = render_clip("single", num_frames=6, height=96, width=160, seed=0)
    result = VideoSegmenter(AppearanceFeatures(), Config(rule="robust"))(clip.frames)
    assert gpuvos.metrics.region_similarity(result.mask, clip.mask).mean() > 0.5


def test_bad_input_names_the_argument() -> None:
    for bad in ({"stride": 0}, {"stride": -2}, {"chunk": 0}):
        with pytest.raises(InputError, match=rf"^{next(iter(bad))}:"):
            AppearanceFeatures(**bad)
    module = AppearanceFeatures()
    for frames in (
        None,
        torch.zeros(2, 1, 8, 8),
        torch.zeros(3, 8, 8),
        torch.zeros(2, 3, 8, 8, dtype=torch.int64),
        torch.zeros(0, 3, 8, 8),
        torch.zeros(2, 3, 0, 8),
    ):
        with pytest.raises(InputError, match=r"^frames:"):
            module(frames)
