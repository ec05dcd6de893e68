"""Eq. 9 and Eq. 10: tracks of seeds and their scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpuvos import InputError, Seeds
from gpuvos import functional as F


def make_seeds(embedding: torch.Tensor, valid: torch.Tensor | None = None) -> Seeds:
    shape = embedding.shape[:-1]
    valid = torch.ones(shape, dtype=torch.bool) if valid is None else valid
    index = torch.arange(shape[-1]).expand(shape).masked_fill(~valid, -1)
    return Seeds(index, valid, embedding.masked_fill(~valid[..., None], 0), torch.zeros(shape))


def brute_tracks(e: np.ndarray, valid: np.ndarray, link_by: str) -> np.ndarray:
    """Frame by frame: on to the valid seed of the next frame nearest to the mean of the track so far, or to its last
    seed, the lowest of equals, until there is none."""
    frames, k = valid.shape
    out = np.full((frames, k), -1)
    for start in range(k):
        now = start if valid[0, start] else -1
        out[0, start] = now
        members = [e[0, start]]
        for t in range(1, frames):
            if now < 0 or not valid[t].any():
                break
            sought = sum(members[1:], members[0]) / len(members) if link_by == "mean" else members[-1]
            d2 = [((sought - e[t, s]) ** 2).sum() if valid[t, s] else np.inf for s in range(k)]
            now = int(np.argmin(d2))
            members.append(e[t, now])
            out[t, start] = now
    return out


def test_equation_9_by_hand() -> None:
    # frame 0: 0 10 20; frame 1: 19 1 9; frame 2: 0 0 30. 0 -> 1 (seed 1) -> the first 0; 10 -> 9 (seed 2), which is
    # nearer to 0 than to 30; 20 -> 19 (seed 0), 11 from 30 and 19 from 0: seed 2
    e = torch.tensor([[0.0, 10.0, 20.0], [19.0, 1.0, 9.0], [0.0, 0.0, 30.0]])[..., None]
    assert F.link_tracks(make_seeds(e), link_by="last").tolist() == [[0, 1, 2], [1, 2, 0], [0, 0, 2]]


def test_equation_9_with_the_mean_of_the_track_by_hand() -> None:
    # 0 -> 4 (10 is further); from there 6 is 2 and 1 is 3 away, but from the mean (0 + 4) / 2 = 2 they are 4 and 1
    # away. 10 -> 10 -> 6 either way
    seeds = make_seeds(torch.tensor([[0.0, 10.0], [4.0, 10.0], [6.0, 1.0]])[..., None])
    assert F.link_tracks(seeds, link_by="last").tolist() == [[0, 1], [0, 1], [0, 0]]
    assert F.link_tracks(seeds, link_by="mean").tolist() == [[0, 1], [0, 1], [1, 0]]
    assert torch.equal(F.link_tracks(seeds), F.link_tracks(seeds, link_by="mean"))


def test_tracks_begin_and_end_with_the_seeds_by_hand() -> None:
    # seed 1 of frame 0 is missing; in frame 1 only seed 1 is there; frame 2 has none, so frame 3 has no member either
    e = torch.tensor([[0.0, 5.0], [9.0, 5.0], [0.0, 5.0], [0.0, 5.0]])[..., None]
    valid = torch.tensor([[True, False], [False, True], [False, False], [True, True]])
    assert F.link_tracks(make_seeds(e, valid)).tolist() == [[0, -1], [1, -1], [-1, -1], [-1, -1]]


@pytest.mark.parametrize("frames", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("k", [1, 6])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("link_by", ["mean", "last"])
def test_tracks_against_a_loop(frames: int, k: int, ties: bool, link_by: str, generator: torch.Generator) -> None:
    for trial in range(4):
        e = torch.randn(frames, k, 3, generator=generator, dtype=torch.float64)
        e = e.round() if ties else e
        valid = torch.rand(frames, k, generator=generator) < 0.7
        valid[:, 0] |= trial < 3  # mostly tracks that go on; in the last trial they may end
        seeds = make_seeds(e, valid)
        expected = brute_tracks(seeds.embedding.numpy(), valid.numpy(), link_by)
        np.testing.assert_array_equal(F.link_tracks(seeds, link_by=link_by).numpy(), expected)


def test_equation_10_by_hand() -> None:
    # track 0, seeds 0 and 1: both (0.5 * 1 + 1 * 0.5) / 2 = 0.5, motion (1 + 0.5) / 2 = 0.75, objectness the same
    # track 1: seeds 1, 1: both (0.2 * 0 + 0.5) / 2 = 0.25, motion 0.25, objectness 0.6
    # track 2 ends after frame 0, seed 0: 0.5, 1, 0.5; track 3 never began
    tracks = torch.tensor([[0, 1, 0, -1], [1, 1, -1, -1]])
    o = torch.tensor([[0.5, 0.2, 0.0, 0.0], [0.9, 1.0, 0.0, 0.0]])
    m = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.1, 0.5, 0.0, 0.0]])
    expected = {
        "both": [0.5, 0.25, 0.5, -torch.inf],
        "motion": [0.75, 0.25, 1.0, -torch.inf],
        "objectness": [0.75, 0.6, 0.5, -torch.inf],
    }
    for rank_by, scores in expected.items():
        torch.testing.assert_close(F.track_scores(tracks, o, m, rank_by=rank_by), torch.tensor(scores))
    assert torch.equal(F.track_scores(tracks, o, m), F.track_scores(tracks, o, m, rank_by="both"))


def test_scores_against_a_loop(generator: torch.Generator) -> None:
    frames, k = 7, 5
    tracks = torch.randint(-1, k, (frames, k), generator=generator)
    tracks[:, 2] = -1
    o, m = (torch.rand(frames, k, generator=generator, dtype=torch.float64) for _ in range(2))
    for rank_by in ("both", "motion", "objectness"):
        found = F.track_scores(tracks, o, m, rank_by=rank_by)
        for j in range(k):
            members = [(t, int(tracks[t, j])) for t in range(frames) if tracks[t, j] >= 0]
            values = [{"both": o[p] * m[p], "motion": m[p], "objectness": o[p]}[rank_by].item() for p in members]
            expected = sum(values) / len(values) if values else -np.inf
            np.testing.assert_allclose(found[j].item(), expected, rtol=1e-12)


def test_best_track_by_hand() -> None:
    tracks = torch.tensor([[0, 1, 2], [2, 0, 0]])
    assert F.best_track(tracks, torch.tensor([0.1, 0.9, 0.9])).tolist() == [1, 0]  # the first of equals
    never = torch.full((2, 3), -1)
    assert F.best_track(never, torch.full((3,), -torch.inf)).tolist() == [-1, -1]


def test_leading_dimensions_and_strides(generator: torch.Generator) -> None:
    e = torch.randn(3, 2, 5, 6, 4, generator=generator).transpose(0, 1)  # [2, 3, T, K, D]
    valid = torch.rand(2, 3, 5, 6, generator=generator) < 0.8
    o, m = (torch.rand(2, 3, 6, 5, generator=generator).transpose(-1, -2) for _ in range(2))
    tracks = F.link_tracks(make_seeds(e, valid))
    score = F.track_scores(tracks, o, m)
    best = F.best_track(tracks, score)
    for i in range(2):
        for j in range(3):
            one = F.link_tracks(make_seeds(e[i, j].contiguous(), valid[i, j]))
            assert torch.equal(tracks[i, j], one)
            one_score = F.track_scores(one, o[i, j], m[i, j])
            assert torch.equal(score[i, j], one_score)
            assert torch.equal(best[i, j], F.best_track(one, one_score))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types(dtype: torch.dtype, generator: torch.Generator) -> None:
    e = torch.randn(4, 6, 3, generator=generator).to(dtype)
    assert torch.equal(F.link_tracks(make_seeds(e)), F.link_tracks(make_seeds(e.float())))
    # a sum of 2,000 eighths in bfloat16 would stop at 32 and make the mean 0.016
    tracks, ones = torch.zeros(2000, 1, dtype=torch.int64), torch.full((2000, 1), 0.125, dtype=dtype)
    assert F.track_scores(tracks, ones, torch.ones_like(ones)).item() == 0.125


def test_bad_input_names_the_argument() -> None:
    seeds = make_seeds(torch.zeros(2, 3, 4))
    with pytest.raises(InputError, match=r"^seeds:"):
        F.link_tracks(seeds.embedding)
    with pytest.raises(InputError, match=r"^seeds\.embedding:"):
        F.link_tracks(seeds._replace(embedding=torch.zeros(2, 3, 4, dtype=torch.int64)))
    with pytest.raises(InputError, match=r"^seeds\.valid:"):
        F.link_tracks(seeds._replace(valid=seeds.valid[:, :2]))
    tracks, values = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3)
    with pytest.raises(InputError, match=r"^link_by:.*'mean'"):
        F.link_tracks(make_seeds(torch.zeros(2, 2, 1)), link_by="first")
    with pytest.raises(InputError, match=r"^rank_by:.*'both'"):
        F.track_scores(tracks, values, values, rank_by="size")
    with pytest.raises(InputError, match=r"^tracks:"):
        F.track_scores(values, values, values)
    with pytest.raises(InputError, match=r"^objectness:"):
        F.track_scores(tracks, values[:1], values)
    with pytest.raises(InputError, match=r"^saliency:"):
        F.track_scores(tracks, values, values[:, :2])
    with pytest.raises(InputError, match=r"^score:"):
        F.best_track(tracks, torch.zeros(2))
