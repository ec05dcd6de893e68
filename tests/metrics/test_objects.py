"""J and F by object: a hand-worked assignment, all permutations, and the frame-by-frame measures."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch
from torch import Tensor

from gpuvos.errors import InputError
from gpuvos.metrics import boundary_accuracy, object_scores, region_similarity
from gpuvos.metrics.objects import best_assignment


def squares(*corners: tuple[int, int, int], frames: int = 1, size: int = 24) -> Tensor:
    """Masks [N, T, size, size] of squares (row, column, side)."""
    masks = torch.zeros(len(corners), frames, size, size, dtype=torch.bool)
    for number, (row, column, side) in enumerate(corners):
        masks[number, :, row : row + side, column : column + side] = True
    return masks


def test_by_hand() -> None:
    """The first object is half covered by proposal 1, the second wholly by proposal 0; proposal 2 is left over."""
    truth = squares((2, 2, 4), (12, 12, 6))
    proposals = squares((12, 12, 6), (2, 2, 4), (20, 20, 3))
    proposals[1, :, :, 4:] = False  # 2 of 4 columns: J 8 / 16
    found = object_scores(proposals, truth, tolerance=0)
    assert found.proposal.tolist() == [1, 0]
    assert found.j.tolist() == [[0.5], [1.0]]
    # The boundary of the whole, rows 1..5 and columns 1..5: 16 pixels. That of the half, rows 1..5 and columns 1..3:
    # 12 pixels, of which the three of its right side, rows 2..4 of column 3, are off: P = 9 / 12, R = 9 / 16.
    assert found.f[0].item() == pytest.approx(2 * 0.75 * 0.5625 / (0.75 + 0.5625))
    assert found.f[1].item() == 1.0


def test_the_best_sum_is_not_the_best_first() -> None:
    """Proposal 0 fits both objects best, but then object 1 would be left with nothing."""
    score = torch.tensor([[0.9, 0.8], [0.7, 0.1], [0.0, 0.2]])
    assert best_assignment(score).tolist() == [1, 0]


@pytest.mark.parametrize(("n", "m"), [(5, 3), (4, 4), (6, 1)])
def test_against_all_permutations(n: int, m: int, generator: torch.Generator) -> None:
    for _ in range(20):
        score = torch.rand(n, m, generator=generator, dtype=torch.float64)
        best = max(sum(score[row, column] for column, row in enumerate(rows)) for rows in _injections(n, m))
        found = best_assignment(score)
        assert len(set(found.tolist())) == m
        assert score[found, torch.arange(m)].sum().item() == pytest.approx(float(best))


def _injections(n: int, m: int) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(n), m))


@pytest.mark.parametrize(("n", "m"), [(4, 3), (3, 3), (1, 3), (0, 2)])
def test_the_whole_against_all_permutations(n: int, m: int, generator: torch.Generator) -> None:
    """Noise of 3 frames, each pair by the functions of one object, empty proposals where there are too few."""
    truth = torch.rand(m, 3, 12, 14, generator=generator) > 0.6
    proposals = torch.rand(n, 3, 12, 14, generator=generator) > 0.6
    padded = torch.cat([proposals, torch.zeros(max(0, m - n), 3, 12, 14, dtype=torch.bool)])
    j, f = (
        torch.stack([torch.stack([measure(one, two) for two in truth]) for one in padded])
        for measure in (region_similarity, boundary_accuracy)
    )
    score = (j.mean(-1) + f.mean(-1)) / 2
    rows = max(
        _injections(len(padded), m), key=lambda rows: sum(score[row, column].item() for column, row in enumerate(rows))
    )
    found = object_scores(proposals, truth)
    wanted = [row if row < n else -1 for row in rows]
    assert sorted(found.proposal.tolist()) == sorted(wanted)
    for column, row in enumerate(found.proposal.tolist()):
        row = row if row >= 0 else len(padded) - 1
        assert torch.equal(found.j[column], j[row, column])
        assert torch.equal(found.f[column], f[row, column])
    sums = sum(score[row, column].item() for column, row in enumerate(rows))
    assert ((found.j.mean(-1) + found.f.mean(-1)) / 2).sum().item() == pytest.approx(sums)


def test_an_object_without_a_proposal_counts_where_it_is_absent() -> None:
    """Two objects, one proposal: the other object is there in one of two frames, so its J and F are 0.5."""
    truth = squares((2, 2, 4), (12, 12, 6), frames=2)
    truth[1, 1] = False
    found = object_scores(truth[:1], truth)
    assert found.proposal.tolist() == [0, -1]
    assert found.j.tolist() == found.f.tolist() == [[1.0, 1.0], [0.0, 1.0]]


def test_ids_of_any_integer_type() -> None:
    truth = squares((2, 2, 4), (12, 12, 6))
    assert object_scores(truth.to(torch.uint8) * 7, truth.long()).j.tolist() == [[1.0], [1.0]]


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = squares((2, 2, 4))
    with pytest.raises(InputError, match=r"proposals: got shape \(1, 24, 24\), wanted masks by object"):
        object_scores(truth[0], truth)
    with pytest.raises(InputError, match=r"proposals: got shape .* wanted frames and size of truth"):
        object_scores(truth[..., :20], truth)
    with pytest.raises(InputError, match="at least one object"):
        object_scores(truth, truth[:0])
    with pytest.raises(InputError, match=r"truth: got torch\.float32"):
        object_scores(truth, truth.float())
    with pytest.raises(InputError, match="tolerance"):
        object_scores(truth, truth, tolerance=-1)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(InputError, match=r"gpuvos\[evaluate\]"):
        object_scores(truth, truth)
