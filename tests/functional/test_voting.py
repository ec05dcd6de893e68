"""Smoothing of seed labels and votes: by hand and against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpuvos import functional as F


def brute_smooth(e: np.ndarray, label: np.ndarray, valid: np.ndarray, neighbors: int) -> np.ndarray:
    """Mean over the nearest valid points of ``e [M, D]``; those as far as the last count as well."""
    out = np.zeros(len(e))
    for i in np.flatnonzero(valid):
        d2 = ((e - e[i]) ** 2).sum(1)
        d2[~valid] = np.inf
        limit = np.sort(d2)[min(neighbors, len(e)) - 1]
        near = (d2 <= limit) & valid
        out[i] = label[near].mean()
    return out


def test_smoothing_by_hand() -> None:
    # seeds 0 1 | 3 7 of two frames, labels 1 0 | 0.5 0. Two neighbours: 0 with 1; 1 with 0; 3 with 1; 7 with 3
    e = torch.tensor([[[0.0], [1.0]], [[3.0], [7.0]]])
    label, valid = torch.tensor([[1.0, 0.0], [0.5, 0.0]]), torch.ones(2, 2, dtype=torch.bool)
    assert F.smooth_seed_labels(e, label, valid, neighbors=2).tolist() == [[0.5, 0.5], [0.25, 0.25]]
    assert F.smooth_seed_labels(e, label, valid, neighbors=1).tolist() == label.tolist()
    assert F.smooth_seed_labels(e, label, valid, neighbors=99).tolist() == [[0.375] * 2] * 2
    # without the seed at 1: 0 with 3, 3 with 0, 7 with 3
    valid[0, 1] = False
    assert F.smooth_seed_labels(e, label, valid, neighbors=2).tolist() == [[0.75, 0], [0.75, 0.25]]


def test_smoothing_takes_a_share_of_the_seeds_by_hand() -> None:
    # ten seeds at 0 1 3 7 15 ...: from 0 the nearest four are 0 1 3 7 with labels 1 0 0 0
    e = (2.0 ** torch.arange(10) - 1)[None, :, None]
    label, valid = torch.eye(10)[:1], torch.ones(1, 10, dtype=torch.bool)

    def first(**options: float) -> float:
        return F.smooth_seed_labels(e, label, valid, **options)[0, 0].item()

    assert first(neighbors=8, largest_share=0.5) == pytest.approx(1 / 5)  # 0.5 * 10
    assert first(neighbors=4, largest_share=0.5) == pytest.approx(1 / 4)  # already fewer
    assert first(neighbors=8, largest_share=0.1) == pytest.approx(1 / 3)  # at least three
    assert first(neighbors=2, largest_share=0.1) == pytest.approx(1 / 2)
    valid[0, 6:] = False
    assert first(neighbors=8, largest_share=0.75) == pytest.approx(1 / 4)  # 0.75 * 6 = 4.5


def test_seeds_at_one_distance_count_together() -> None:
    # both ones are as far from the 0: whatever their order, the mean is over all three
    e, valid = torch.tensor([[[0.0], [1.0], [-1.0]]]), torch.ones(1, 3, dtype=torch.bool)
    label = torch.tensor([[0.0, 1.0, 0.5]])
    assert F.smooth_seed_labels(e, label, valid, neighbors=2)[0, 0] == 0.5
    turned = F.smooth_seed_labels(e.flip(1), label.flip(1), valid, neighbors=2)
    assert turned[0, 2] == 0.5


@pytest.mark.parametrize("neighbors", [1, 4, 30, 500])
@pytest.mark.parametrize("ties", [False, True])
def test_smoothing_against_a_loop(neighbors: int, ties: bool, generator: torch.Generator) -> None:
    e = torch.randn(5, 9, 3, generator=generator, dtype=torch.float64)
    if ties:  # the centre of frame 0 is a whole number, so every product is exact
        e = (2 * e).round()
        e[0] = 0
    label = torch.rand(5, 9, generator=generator, dtype=torch.float64)
    valid = torch.rand(5, 9, generator=generator) < 0.8
    found = F.smooth_seed_labels(e, label, valid, neighbors=neighbors)
    expected = brute_smooth(e.flatten(0, 1).numpy(), label.flatten().numpy(), valid.flatten().numpy(), neighbors)
    np.testing.assert_allclose(found.flatten().numpy(), expected, rtol=1e-12)


def test_vote_by_hand() -> None:
    # pairs 0 1 | 5 6 | 20 21, two neighbours each. Scores 0.8 0.4 | 0.5 0.1 | 0 0.2 become 0.6 0.6 | 0.3 0.3 | 0.1 0.1
    e = torch.tensor([[[0.0], [1.0], [5.0], [6.0], [20.0], [21.0]]])
    score, valid = torch.tensor([[0.8, 0.4, 0.5, 0.1, 0.0, 0.2]]), torch.ones(1, 6, dtype=torch.bool)

    def vote(share: float) -> list[bool]:
        chosen = F.vote_labels(e, score, valid, neighbors=2, confident_share=share, vote_threshold=0.6)
        return chosen[0].tolist()

    assert vote(0.7) == [True, True, False, False, False, False]  # 0.6 > 0.42
    assert vote(0.4) == [True, True, True, True, False, False]  # 0.3 > 0.24
    assert vote(0.1) == [True] * 6  # 0.1 > 0.06
    # a frame whose best is under half of the video's best counts against that half: 0.42 < 0.9 * 0.5 * 1
    e = torch.tensor([[[0.0], [1.0]], [[50.0], [51.0]]])
    score = torch.tensor([[1.0, 1.0], [0.42, 0.42]])
    chosen = F.vote_labels(e, score, valid.new_ones(2, 2), neighbors=2, confident_share=0.9, vote_threshold=0.5)
    assert chosen.tolist() == [[True, True], [False, False]]


def test_vote_against_a_loop(generator: torch.Generator) -> None:
    for _ in range(5):
        e = torch.randn(4, 8, 3, generator=generator, dtype=torch.float64)
        score = torch.rand(4, 8, generator=generator, dtype=torch.float64).square()
        valid = torch.rand(4, 8, generator=generator) < 0.8
        found = F.vote_labels(e, score, valid, neighbors=5, confident_share=0.6, vote_threshold=0.3)
        flat, there = e.flatten(0, 1).numpy(), valid.flatten().numpy()
        smooth = brute_smooth(flat, score.flatten().numpy(), there, 5).reshape(4, 8)
        frame = smooth.max(1, keepdims=True)
        confident = (smooth > 0.6 * np.maximum(frame, 0.5 * frame.max())) & valid.numpy()
        share = brute_smooth(flat, confident.flatten().astype(float), there, 5).reshape(4, 8)
        np.testing.assert_array_equal(found.numpy(), (share > 0.3) & valid.numpy())


def test_no_evidence_no_foreground(generator: torch.Generator) -> None:
    e, valid = torch.randn(3, 5, 2, generator=generator), torch.ones(3, 5, dtype=torch.bool)
    assert not F.vote_labels(e, torch.zeros(3, 5), valid).any()
    assert not F.vote_labels(e, torch.rand(3, 5), ~valid).any()


def test_neighbours_of_evenly_spaced_frames_by_hand() -> None:
    # one seed a frame, at 0 1 2 ... 7; two of eight frames are looked at: 0 and 4, with labels 0 and 1
    e = torch.arange(8.0)[:, None, None]
    label, valid = (e[..., 0] >= 4).float(), torch.ones(8, 1, dtype=torch.bool)
    nearest = F.smooth_seed_labels(e, label, valid, neighbors=1, frames=2)[:, 0]
    assert nearest.tolist() == [0, 0, 0.5, 1, 1, 1, 1, 1]  # 2 is as far from 0 as from 4
    # three of eight: frames 0, 2 and 5; label 1 from 5 on
    label = (e[..., 0] >= 5).float()
    nearest = F.smooth_seed_labels(e, label, valid, neighbors=1, frames=3)[:, 0]
    assert nearest.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    # a video of four frames, padded to eight: frames 0 and 2
    valid[4:] = False
    label = (e[..., 0] >= 2).float()
    assert F.smooth_seed_labels(e, label, valid, neighbors=1, frames=2)[:, 0].tolist() == [
        0,
        0.5,
        1,
        1,
        0,
        0,
        0,
        0,
    ]


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 9])
def test_padding_changes_no_bit(frames: int, generator: torch.Generator) -> None:
    e, score = torch.randn(2, 7, 6, 3, generator=generator), torch.rand(2, 7, 6, generator=generator)
    valid = torch.rand(2, 7, 6, generator=generator) < 0.9
    valid[0, 4:] = False
    both = F.vote_labels(e, score, valid, neighbors=4, frames=frames)
    smooth = F.smooth_seed_labels(e, score, valid, neighbors=4, frames=frames)
    for video, length in ((0, 4), (1, 7)):
        alone = [value[video, :length] for value in (e, score, valid)]
        assert torch.equal(both[video, :length], F.vote_labels(*alone, neighbors=4, frames=frames))
        assert torch.equal(smooth[video, :length], F.smooth_seed_labels(*alone, neighbors=4, frames=frames))
    assert not both[0, 4:].any()


def test_neighbours_among_many_seeds(generator: torch.Generator) -> None:
    # 7 x 53 seeds: few neighbours among many, so they are looked for in folds, the last of them not full
    e = torch.randn(7, 53, 3, generator=generator, dtype=torch.float64)
    label, valid = (
        torch.rand(7, 53, generator=generator).double(),
        torch.rand(7, 53, generator=generator) < 0.9,
    )
    valid[-1, -1] = True
    label[~valid] = torch.nan  # nobody hears of it
    for neighbors in (1, 4, 20):
        wanted = brute_smooth(e.flatten(0, 1).numpy(), label.flatten().numpy(), valid.flatten().numpy(), neighbors)
        got = F.smooth_seed_labels(e, label, valid, neighbors=neighbors)
        np.testing.assert_allclose(got.flatten().numpy(), wanted, rtol=1e-12)
