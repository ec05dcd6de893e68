"""Mean, recall, decay and the frames that count: hand-worked values and the toolkit's own rounding."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gpuvos.errors import InputError
from gpuvos.metrics import davis2016_frames, summary


def test_hand_worked() -> None:
    values = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    result = summary(values)
    assert result.mean.item() == pytest.approx(0.55)
    assert result.recall.item() == 0.5  # 0.9, 0.8, 0.7, 0.6; 0.5 itself is not above the threshold
    # Quarters of frames 1..8 meet at 1, 2.75 -> 3, 4.5 -> 5, 6.25 -> 6, 8: first 1..3, last 6..8.
    assert result.decay.item() == pytest.approx((0.9 + 0.8 + 0.7) / 3 - (0.4 + 0.3 + 0.2) / 3)
    assert summary(values, threshold=0.65).recall.item() == pytest.approx(3 / 8)


def test_one_frame() -> None:
    assert [value.item() for value in summary(torch.tensor([0.75]))] == [0.75, 1.0, 0.0]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 7, 8, 23, 78, 97, 256])
def test_binning_of_the_official_toolkit(frames: int) -> None:
    values = np.random.default_rng(frames).random(frames)
    limits = np.round(np.linspace(1, frames, 5) + 1e-10).astype(int)  # 1-based, half up through the 1e-10
    expected = values[: limits[1]].mean() - values[limits[3] - 1 :].mean()
    assert summary(torch.from_numpy(values)).decay.item() == pytest.approx(expected, abs=1e-12)


def test_long_sequences_do_not_wrap() -> None:
    values = torch.linspace(1, 0, 1001, dtype=torch.float64)
    # Quarters 0..250 and 750..1000 of a straight line: the difference of their middles, 125 and 875.
    assert summary(values).decay.item() == pytest.approx(0.75)


def test_batch_equals_single(generator: torch.Generator) -> None:
    values = torch.rand(2, 3, 11, generator=generator, dtype=torch.float64)
    result = summary(values)
    for video in range(2):
        for measure in range(3):
            single = summary(values[video, measure])
            assert [part[video, measure].item() for part in result] == pytest.approx([p.item() for p in single])


def test_frames_that_count() -> None:
    assert list(range(5))[davis2016_frames(5)] == [1, 2, 3]
    assert torch.arange(3)[davis2016_frames(3)].tolist() == [1]
    with pytest.raises(InputError, match="count: got 2, wanted an integer of at least 3"):
        davis2016_frames(2)


def test_bad_values() -> None:
    with pytest.raises(InputError, match="values: got NaN"):
        summary(torch.tensor([0.5, math.nan]))
    with pytest.raises(InputError, match="at least one frame"):
        summary(torch.zeros(3, 0))
    with pytest.raises(InputError, match=r"values: got torch\.int64"):
        summary(torch.tensor([1, 0]))
    with pytest.raises(InputError, match="values: got list"):
        summary([0.5])  # type: ignore[arg-type]
