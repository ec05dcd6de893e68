"""The module from frames to masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import gpuvos
from gpuvos import Config, Features, InputError, Segmentation, VideoSegmenter
from gpuvos.nn import DenseCRF

pytestmark = pytest.mark.usefixtures("small_saliency")

SMALL = {"num_seeds": 12, "num_background": 4, "window": 3, "smoothing_neighbors": 6, "track_seeds": True}
RULES = ["paper", "robust"]


def assert_same(one: Segmentation, two: Segmentation) -> None:
    """The same masks out of the same seeds; every other tensor follows from these."""
    assert torch.equal(one.mask, two.mask)
    assert torch.equal(one.probability, two.probability)
    assert torch.equal(one.seeds.index, two.seeds.index)
    assert torch.equal(one.tracks, two.tracks)


def plain_front_end(frames: Tensor) -> Features:
    """Colour as embedding, red as objectness, the motion of the red as flow."""
    frames = frames.float() / 255 if frames.dtype == torch.uint8 else frames
    small = nn.functional.interpolate(frames, scale_factor=0.5, mode="area")
    red = (small[:, 0] > 0.5).float()
    return Features(8 * small, red, torch.stack((2 * red, 0 * red), 1))


def red_square() -> tuple[Tensor, Tensor]:
    frames = torch.randint(0, 60, (3, 3, 24, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    truth = torch.zeros(3, 24, 32, dtype=torch.bool)
    for t in range(3):
        truth[t, 6:16, 4 + 2 * t : 16 + 2 * t] = True
    frames[:, 0][truth] = 230
    return frames, truth


@pytest.mark.parametrize("rule", RULES)
def test_any_callable_is_a_front_end(rule: str) -> None:
    frames, truth = red_square()
    segmenter = VideoSegmenter(plain_front_end, Config(rule=rule, **SMALL))
    result = segmenter(frames)
    assert result.mask.shape == (3, 24, 32)
    assert gpuvos.metrics.region_similarity(result.mask, truth).min() > 0.8
    assert_same(segmenter(frames.float() / 255), result)
    assert_same(segmenter(frames, validate=False), result)
    named = segmenter(frames, first_mask=truth[0])
    assert gpuvos.metrics.region_similarity(named.mask, truth).min() > 0.8
    features = segmenter.features(frames)
    assert features.embedding.shape == (3, 3, 12, 16)
    # a plain tuple will do; a module is registered, moves and saves with the segmenter
    assert_same(VideoSegmenter(lambda f: tuple(plain_front_end(f)), segmenter.config)(frames), result)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, frames: Tensor) -> Features:
            features = plain_front_end(frames)
            return features._replace(embedding=features.embedding * self.weight)

    module = VideoSegmenter(Network(), segmenter.config)
    assert list(module.state_dict()) == ["front_end.weight"]
    result = module(frames)
    assert result.probability.requires_grad
    with torch.no_grad():
        assert not module(frames).probability.requires_grad


@pytest.mark.slow
def test_default_front_end_takes_bytes_and_floats() -> None:
    frames, _ = red_square()
    segmenter = VideoSegmenter(config=Config(**SMALL))
    result = segmenter(frames)
    torch.testing.assert_close(segmenter(frames.float() / 255).probability, result.probability, rtol=0, atol=1e-3)
    still = torch.full((3, 3, 24, 32), 128, dtype=torch.uint8)
    assert not segmenter(still).mask.any()
    assert segmenter(frames[:1]).mask.shape == (1, 24, 32)


def test_bad_frames_are_refused_by_name() -> None:
    segmenter = VideoSegmenter(plain_front_end)
    good = torch.rand(2, 3, 8, 8)
    for bad in (
        good[:0],
        good[:, :2],
        good[0],
        good[None, None],
        good[None] * 255,
        good[None, :0],
        good.long(),
        good.numpy(),
        good * 255,
        good - 1,
        good[..., :0],
        good / 0,
        0 * good / 0,
    ):
        with pytest.raises(InputError, match=r"^frames:"):
            segmenter(bad)
    with pytest.raises(InputError, match=r"^first_mask:"):
        segmenter(good, first_mask=torch.ones(2, 8, 8, dtype=torch.bool))
    with pytest.raises(InputError, match=r"^config:"):
        VideoSegmenter(plain_front_end, "paper")
    with pytest.raises(InputError, match=r"^front_end:"):
        VideoSegmenter(lambda f: f)(good)
    with pytest.raises(InputError, match=r"^objectness:"):
        VideoSegmenter(lambda f: Features(f, f, f[:, :2]))(good)


def test_a_crf_refines_the_masks() -> None:
    frames, _ = red_square()
    plain = VideoSegmenter(plain_front_end, Config(rule="paper", **SMALL))
    refined = VideoSegmenter(plain_front_end, plain.config, refinement=DenseCRF(iterations=3))
    before, after = plain(frames), refined(frames)
    assert torch.equal(after.probability, DenseCRF(iterations=3)(before.probability, frames))
    assert torch.equal(after.mask, after.probability > 0.5)
    assert torch.equal(after.confidence, (2 * after.probability - 1).abs())
    assert not torch.equal(after.probability, before.probability)
    assert torch.equal(after.seeds.index, before.seeds.index)
    assert_same(plain.refine(before, frames), before)
    assert "DenseCRF" in str(refined)
