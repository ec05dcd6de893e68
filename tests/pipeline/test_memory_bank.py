"""The frames of a stream that vote: which ones, and with what."""

from __future__ import annotations

import torch

from gpuvos import Config
from gpuvos.functional.voting import take_vote
from gpuvos.pipeline.memory_bank import Evidence, MemoryBank

CONFIG = Config(smoothing_frames=4, smoothing_neighbors=3, smoothing_share=1.0)


class Video:
    """Frames of six seeds; notes which ones it was asked for."""

    def __init__(self, frames: int = 40) -> None:
        g = torch.Generator().manual_seed(0)
        self.embedding, self.evidence = (
            torch.randn(frames, 6, 2, generator=g),
            torch.rand(frames, 6, generator=g),
        )
        self.valid = torch.rand(frames, 6, generator=g) < 0.8

    def __call__(self, numbers: list[int]) -> Evidence:
        return Evidence(self.embedding[numbers], self.evidence[numbers] * self.valid[numbers], self.valid[numbers])


def test_members_follow_the_window() -> None:
    bank, members = MemoryBank(CONFIG), []
    for known in range(1, 31):
        bank.follow(known, min(known, 12), Video())
        members.append(bank.numbers)
    assert members[:4] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]
    assert members[7] == [0, 2, 4, 6]  # of 8 frames; kept until 10 are known
    assert members[8] == members[7]
    assert members[20:24] == [[9, 12, 15, 18]] * 3 + [[12, 15, 18, 21]]  # every 12 / 4 frames one leaves and one joins


def test_smoothed_by_hand() -> None:
    """One seed a frame; each is smoothed over itself and its neighbour in the bank, as it is when the seed joins."""
    config = Config(smoothing_frames=8, smoothing_neighbors=2, smoothing_share=0.25, confident_share=0.5)
    place, evidence = (
        [0.0, 10.0, 1.0, 11.0, 2.0, 12.0, 0.5, 10.5, 20.0],
        [1.0, 0.0, 0.5, 0.0, 0.5, 0.0, 0.9, 0.6, 1.0],
    )

    def ballot(numbers: list[int]) -> Evidence:
        e, s = torch.tensor(place)[numbers, None, None], torch.tensor(evidence)[numbers, None]
        return Evidence(e, s, torch.ones(len(numbers), 1, dtype=torch.bool))

    bank = MemoryBank(config)
    bank.follow(8, 8, ballot)
    assert bank.smoothed is not None
    first = torch.tensor([0.95, 0.3, 0.7, 0.3, 0.5, 0.0, 0.8, 0.2])[:, None]  # 0.5 is as far from 0 as from 1
    torch.testing.assert_close(bank.smoothed, first)
    bank.follow(9, 8, ballot)
    assert bank.numbers == [1, 2, 3, 4, 5, 6, 7, 8]
    torch.testing.assert_close(bank.smoothed[:-1], first[1:])
    torch.testing.assert_close(bank.smoothed[-1], torch.tensor([0.5]))  # of 20 and 12
    bank.follow(10, 8, lambda numbers: ballot([n - 1 for n in numbers]))  # a quarter later: all of them anew
    anew = torch.tensor([0.3, 0.7, 0.3, 0.5, 0.0, 0.7, 0.2, 0.5])[:, None]  # 0.5 has lost 0
    torch.testing.assert_close(bank.smoothed, anew)


def test_the_vote_of_members_is_that_of_the_method() -> None:
    video, bank = Video(4), MemoryBank(CONFIG)
    bank.follow(4, 4, video)
    expected = take_vote(*video([0, 1, 2, 3]), neighbors=3, frames=4)
    for one, other in zip(bank.vote(video.embedding, video.valid), expected, strict=True):
        assert torch.equal(one, other)


def test_a_frame_that_is_no_member_against_brute_force() -> None:
    video, bank = Video(), MemoryBank(CONFIG)
    bank.follow(20, 20, video)
    assert bank.numbers == [0, 5, 10, 15]
    members, valid = video(bank.numbers), video.valid[17]
    vote = bank.vote(video.embedding[17:18], valid[None])
    inner = take_vote(*members, neighbors=3, frames=4)
    points = members.embedding[members.valid]
    near = torch.cdist(video.embedding[17], points).topk(3, largest=False).indices
    own = members.evidence[members.valid][near].mean(1) * valid
    torch.testing.assert_close(vote.smoothed[0], own)
    limit = 0.55 * torch.maximum(own.max(), 0.5 * inner.smoothed.max())
    assert torch.equal(vote.confident[0], (own > limit) & valid)
    torch.testing.assert_close(vote.share[0], inner.confident[members.valid].float()[near].mean(1) * valid)
