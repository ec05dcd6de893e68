"""Precision, recall and F-measure of FBMS."""

from __future__ import annotations

import pytest
import torch

from gpuvos.errors import InputError
from gpuvos.metrics import foreground_score


def test_counts_pixels_over_all_frames() -> None:
    """By hand: 3 of 4 marked pixels are right, and 3 of 6 true ones are found."""
    mask = torch.tensor([[[1, 1, 1]], [[0, 0, 7]]])
    truth = torch.tensor([[[1, 1, 0]], [[1, 0, 1]]]) | torch.tensor([[[0, 0, 0]], [[0, 2, 0]]])
    score = foreground_score(mask, truth)
    assert score.precision.item() == pytest.approx(3 / 4)
    assert score.recall.item() == pytest.approx(3 / 5)
    assert score.f_measure.item() == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    # not the mean over frames, whose precisions are 2/3 and 1
    assert score.precision.item() != pytest.approx((2 / 3 + 1) / 2)


def test_against_loops(generator: torch.Generator) -> None:
    masks = torch.rand(3, 4, 7, 9, generator=generator) > 0.6
    truths = torch.rand(3, 4, 7, 9, generator=generator) > 0.7
    score = foreground_score(masks, truths)
    for video in range(3):
        shared = found = wanted = 0
        for m, t in zip(masks[video].flatten().tolist(), truths[video].flatten().tolist(), strict=True):
            shared, found, wanted = shared + (m and t), found + m, wanted + t
        precision, recall = shared / found, shared / wanted
        assert score.precision[video].item() == pytest.approx(precision)
        assert score.recall[video].item() == pytest.approx(recall)
        assert score.f_measure[video].item() == pytest.approx(2 * precision * recall / (precision + recall))


def test_empty_masks() -> None:
    empty, full = torch.zeros(2, 3, 3, dtype=torch.bool), torch.ones(2, 3, 3, dtype=torch.bool)
    assert [value.item() for value in foreground_score(empty, full)] == [1, 0, 0]
    assert [value.item() for value in foreground_score(full, empty)] == [0, 1, 0]
    assert [value.item() for value in foreground_score(empty, empty)] == [1, 1, 1]


def test_bad_input() -> None:
    mask = torch.zeros(2, 3, 3, dtype=torch.bool)
    with pytest.raises(InputError, match="truth"):
        foreground_score(mask, mask[:1])
    with pytest.raises(InputError, match="mask"):
        foreground_score(mask.float(), mask)
