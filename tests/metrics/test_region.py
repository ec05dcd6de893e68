"""Region similarity J: hand-worked values, an independent count, the official toolkit, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gpuvos.errors import InputError
from gpuvos.metrics import region_similarity


def test_hand_worked() -> None:
    mask = torch.tensor([[[1, 1, 0], [1, 0, 0]], [[1, 0, 0], [0, 0, 0]], [[1, 1, 1], [1, 1, 1]]])
    truth = torch.tensor([[[0, 1, 1], [1, 0, 0]], [[0, 0, 0], [0, 0, 1]], [[1, 1, 1], [1, 1, 1]]])
    # 2 shared of {3 + 3 - 2} = 1/2; disjoint = 0; equal = 1
    assert region_similarity(mask, truth).tolist() == [0.5, 0.0, 1.0]


def test_empty_masks() -> None:
    empty, full = torch.zeros(2, 3, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    assert region_similarity(empty, empty) == 1.0
    assert region_similarity(empty, full) == 0.0
    assert region_similarity(full, empty) == 0.0


def test_void_pixels_count_for_neither_side() -> None:
    mask = torch.tensor([[1, 1, 1, 0]])
    truth = torch.tensor([[1, 1, 0, 1]])
    assert region_similarity(mask, truth) == 0.5  # 2 of 4
    # Without the last pixel 2 of 3; without the last two 2 of 2; with nothing left both are empty.
    assert region_similarity(mask, truth, void=torch.tensor([[0, 0, 0, 1]])).item() == pytest.approx(2 / 3)
    assert region_similarity(mask, truth, void=torch.tensor([[False, False, True, True]])) == 1.0
    assert region_similarity(mask, truth, void=torch.ones(1, 4, dtype=torch.uint8)) == 1.0


def test_random_masks_against_sets(generator: torch.Generator) -> None:
    mask = torch.rand(2, 5, 7, 9, generator=generator) > 0.6
    truth = torch.rand(2, 5, 7, 9, generator=generator) > 0.4
    result = region_similarity(mask, truth)
    assert result.shape == (2, 5)
    for video in range(2):
        for frame in range(5):
            found = set(map(tuple, mask[video, frame].nonzero().tolist()))
            wanted = set(map(tuple, truth[video, frame].nonzero().tolist()))
            expected = len(found & wanted) / len(found | wanted)
            assert result[video, frame].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_every_id_is_the_object(dtype: torch.dtype, generator: torch.Generator) -> None:
    ids = torch.randint(0, 3, (3, 6, 6), generator=generator)
    truth = torch.randint(0, 2, (3, 6, 6), generator=generator).bool()
    assert torch.equal(region_similarity(ids.to(dtype), truth), region_similarity(ids != 0, truth))


def test_non_contiguous_and_no_frames(generator: torch.Generator) -> None:
    mask = torch.rand(4, 6, 8, generator=generator) > 0.5
    truth = torch.rand(4, 6, 8, generator=generator) > 0.5
    turned = region_similarity(mask.transpose(1, 2), truth.transpose(1, 2))
    assert torch.equal(turned, region_similarity(mask, truth))
    assert region_similarity(mask[:0], truth[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("mask", "truth", "message"),
    [
        (torch.rand(2, 4, 4), torch.zeros(2, 4, 4).bool(), r"mask: got torch.float32.*probability > 0\.5"),
        (torch.zeros(2, 4, 4).bool(), torch.rand(2, 4, 4), "truth: got torch.float32"),
        (np.zeros((2, 4, 4)), torch.zeros(2, 4, 4).bool(), "mask: got ndarray.*torch.as_tensor"),
        (torch.zeros(4).bool(), torch.zeros(4).bool(), r"mask: got shape \(4,\)"),
        (torch.zeros(2, 0, 4).bool(), torch.zeros(2, 0, 4).bool(), r"mask: got shape \(2, 0, 4\)"),
        (
            torch.zeros(2, 4, 4).bool(),
            torch.zeros(4, 4).bool(),
            r"truth: got shape \(4, 4\), wanted .*\(2, 4, 4\)",
        ),
        (torch.zeros(4, 4).bool(), torch.zeros(4, 4, device="meta").bool(), "truth: got device meta"),
    ],
)
def test_bad_input(mask: Tensor, truth: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        region_similarity(mask, truth)


def test_bad_void() -> None:
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    with pytest.raises(InputError, match="void: got shape"):
        region_similarity(mask, mask, void=mask[0])
