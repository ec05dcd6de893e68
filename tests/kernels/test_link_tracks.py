"""Eq. 9 by hand: the reference of the op."""

from __future__ import annotations

import torch

from gpuvos.kernels.link_tracks import link_tracks


def test_by_hand() -> None:
    # seed 0 at (0, 0): the squared distances 18, 1 and 1 make it number 1, the lower; then (0, 0), number 0, is nearer
    # than (5, 4). seed 1 at (3, 4): 1, 18 and 34 make it number 0; then (5, 4), number 1, is nearer both to (3, 3), 5
    # against 18, and to the mean (3, 3.5), 4.25 against 21.25. seed 2 is not there
    frames = [
        [[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]],
        [[3.0, 3.0], [0.0, 1.0], [0.0, -1.0]],
        [[0.0, 0.0], [5.0, 4.0], [0.0, 0.0]],
    ]
    valid = torch.tensor([[True, True, False], [True, True, True], [True, True, False]])
    for to_mean in (True, False):
        found = link_tracks(torch.tensor(frames)[None], valid[None], to_mean)
        assert found.tolist() == [[[0, 1, -1], [1, 0, -1], [0, 1, -1]]]


def test_a_frame_without_seeds_ends_the_tracks_of_its_video_alone() -> None:
    embedding = torch.zeros(2, 4, 2, 1)
    valid = torch.ones(2, 4, 2, dtype=torch.bool)
    valid[1, 2] = False
    found = link_tracks(embedding, valid, True)
    assert found[0].tolist() == [[0, 1], [0, 0], [0, 0], [0, 0]]
    assert found[1].tolist() == [[0, 1], [0, 0], [-1, -1], [-1, -1]]


def test_small_distances_far_from_the_origin_keep_their_digits() -> None:
    # squares of 3000 are known to 0.5 in float32, so products alone could not tell 1/16, 1/64 and 9/64 (roots 1/4, 1/8,
    # 3/8)
    rows = torch.tensor([[3000.0, 3000.25, 3000.5], [3000.25, 3000.125, 3000.375]])[None, :, :, None]
    valid = torch.ones(1, 2, 3, dtype=torch.bool)
    # 3000: 1/4, 1/8, 3/8 away: number 1. 3000.25: 0, number 0. 3000.5: 1/4, 3/8, 1/8: number 2
    for to_mean in (True, False):
        assert link_tracks(rows, valid, to_mean)[0, 1].tolist() == [1, 0, 2]
