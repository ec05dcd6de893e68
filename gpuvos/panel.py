"""The frames of a stream among whose seeds it votes (robust rule)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from gpuvos.config import Config
from gpuvos.functional.voting import Vote, confident_seeds, means_of_neighbors

_RENEWALS = 4  # votes among all members while the window moves by its length


class Ballot(NamedTuple):
    """What the seeds of frames vote with."""

    embedding: Tensor  # [A, K, D]
    evidence: Tensor  # [A, K]
    valid: Tensor  # [A, K] bool


class Panel:
    """Evenly spaced frames of a window, whose seeds vote on those of every frame.

    They follow the window: it moves by the distance of two of them, one leaves and one joins. The evidence of a member
    is smoothed over its neighbours in the panel when it joins, and that of all of them each time that the window has
    moved by a quarter, which takes as long as if all had joined.

    Args:
        config: numbers of the vote.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.numbers: list[int] = []  # of the frames, ascending
        self.ballot: Ballot | None = None
        self.smoothed: Tensor | None = None  # [A, K]
        self.confident: Tensor | None = None  # [A, K], 1 or 0
        self._due = self._all_due = (
            0  # the number of known frames at which members are chosen, and all smoothed
        )

    def follow(self, known: int, length: int, ballot_of: Callable[[list[int]], Ballot]) -> None:
        """Keeps up with a window of the newest ``length`` of ``known`` frames.

        Args:
            known: frames of the video so far.
            length: of these in the window.
            ballot_of: what frames of these numbers vote with.
        """
        if self.ballot is not None and known < self._due:
            return
        count = min(self.config.smoothing_frames, length)
        numbers = [known - length + n * length // count for n in range(count)]
        kept = {} if known >= self._all_due else {number: n for n, number in enumerate(self.numbers)}
        ballot = ballot_of(numbers)
        joined = [n for n, number in enumerate(numbers) if number not in kept]
        smoothed = ballot.evidence.new_zeros(ballot.evidence.shape)
        if joined:
            (smoothed[joined],) = self._means(
                ballot.embedding[joined], ballot.valid[joined], ballot, [ballot.evidence]
            )
        for n, number in enumerate(numbers):
            if number in kept and self.smoothed is not None:
                smoothed[n] = self.smoothed[kept[number]]
        confident = confident_seeds(smoothed, ballot.valid, confident_share=self.config.confident_share)
        self.numbers, self.ballot = numbers, ballot
        self.smoothed, self.confident = smoothed, confident.to(smoothed.dtype)
        self._due = known + max(1, length // self.config.smoothing_frames)
        if not kept:
            self._all_due = known + max(1, length // _RENEWALS)

    def vote(self, embedding: Tensor, valid: Tensor) -> Vote:
        """The vote on seeds ``[R, K, D]`` of frames that need not be members; ``follow`` comes before.

        Returns:
            Vote, each ``[R, K]``.
        """
        ballot, smoothed, confident = self.ballot, self.smoothed, self.confident
        assert ballot is not None
        assert smoothed is not None
        assert confident is not None
        own, agree = self._means(embedding, valid, ballot, [ballot.evidence, confident])
        share = self.config.confident_share
        return Vote(own, confident_seeds(own, valid, confident_share=share, largest=smoothed.amax()), agree)

    def _means(self, embedding: Tensor, valid: Tensor, ballot: Ballot, labels: list[Tensor]) -> list[Tensor]:
        return means_of_neighbors(
            embedding, valid, ballot.embedding, labels, ballot.valid,
            neighbors=self.config.smoothing_neighbors, largest_share=self.config.smoothing_share,
        )  # fmt: skip
