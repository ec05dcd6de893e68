"""What a stream remembers: the seeds of the frames of its window, and those among them that vote (robust rule)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from gpuvos.config import Config
from gpuvos.functional.voting import Vote, confident_seeds, means_of_neighbors, take_vote
from gpuvos.pipeline.rules.robust import neighbor_options, vote_options
from gpuvos.pipeline.tracking import track_seeds
from gpuvos.types import Motion, Seeds, Tracks

_RENEWALS = 4  # votes among all members while the window moves by its length


class Evidence(NamedTuple):
    """What the seeds of frames vote with."""

    embedding: Tensor  # [A, K, D]
    evidence: Tensor  # [A, K]
    valid: Tensor  # [A, K] bool


class MemoryBank:
    """Evenly spaced frames of a window, whose seeds vote on those of every frame.

    They follow the window: it moves by the distance of two of them, one leaves and one joins. The evidence of a member
    is smoothed over its neighbours in the bank when it joins, and that of all of them each time that the window has
    moved by a quarter, which takes as long as if all had joined.

    Args:
        config: parameters of the method, among them those of the vote.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.numbers: list[int] = []  # of the frames, ascending
        self.members: Evidence | None = None
        self.smoothed: Tensor | None = None  # [A, K]
        self.confident: Tensor | None = None  # [A, K], 1 or 0
        # the number of known frames at which members are chosen, and all smoothed
        self._due = self._all_due = 0

    def follow(self, known: int, length: int, evidence_of: Callable[[list[int]], Evidence]) -> None:
        """Keeps up with a window of the newest ``length`` of ``known`` frames.

        Args:
            known: frames of the video so far.
            length: the number of these frames that are in the window.
            evidence_of: gives the evidence of the frames with the given numbers.
        """
        if self.members is not None and known < self._due:
            return
        count = min(self.config.smoothing_frames, length)
        numbers = [known - length + n * length // count for n in range(count)]
        kept = {} if known >= self._all_due else {number: n for n, number in enumerate(self.numbers)}
        members = evidence_of(numbers)
        joined = [n for n, number in enumerate(numbers) if number not in kept]
        smoothed = members.evidence.new_zeros(members.evidence.shape)
        if joined:
            (smoothed[joined],) = self._means(
                members.embedding[joined], members.valid[joined], members, [members.evidence]
            )
        for n, number in enumerate(numbers):
            if number in kept and self.smoothed is not None:
                smoothed[n] = self.smoothed[kept[number]]
        confident = confident_seeds(smoothed, members.valid, confident_share=self.config.confident_share)
        self.numbers, self.members = numbers, members
        self.smoothed, self.confident = smoothed, confident.to(smoothed.dtype)
        self._due = known + max(1, length // self.config.smoothing_frames)
        if not kept:
            self._all_due = known + max(1, length // _RENEWALS)

    def vote(self, embedding: Tensor, valid: Tensor) -> Vote:
        """The vote on seeds ``[R, K, D]`` of frames that need not be members; ``follow`` comes before.

        Returns:
            Vote, each ``[R, K]``.
        """
        members, smoothed, confident = self.members, self.smoothed, self.confident
        assert members is not None
        assert smoothed is not None
        assert confident is not None
        own, agree = self._means(embedding, valid, members, [members.evidence, confident])
        share = self.config.confident_share
        return Vote(own, confident_seeds(own, valid, confident_share=share, largest=smoothed.amax()), agree)

    def _means(self, embedding: Tensor, valid: Tensor, members: Evidence, labels: list[Tensor]) -> list[Tensor]:
        return means_of_neighbors(
            embedding, valid, members.embedding, labels, members.valid, **neighbor_options(self.config)
        )


class Remembered(NamedTuple):
    """What a frame of the window is remembered by. Every tensor is ``[1, 1, K, ...]``."""

    seeds: Seeds
    motion: Motion


class Window:
    """The newest frames of a stream, as their seeds: what rules ask tracks and votes of.

    Args:
        config: parameters of the method.
        history: frames that are kept; None: all.
    """

    def __init__(self, config: Config, history: int | None) -> None:
        self.config = config
        self.known = 0  # frames of the video so far
        self.frames: deque[Remembered] = deque(maxlen=history)
        self.bank = MemoryBank(config)

    def add(self, seeds: Seeds, motion: Motion) -> None:
        """Remembers the next frame, and forgets the oldest one where the window is full."""
        self.frames.append(Remembered(seeds, motion))
        self.known += 1

    @property
    def first(self) -> int:
        """Number of the oldest frame of the window."""
        return self.known - len(self.frames)

    def tracks(self, place: slice) -> Tracks:
        """Tracks through the window and their scores, Eq. 9-10; index and foreground seed of the frames at a place."""
        seeds = Seeds(*(torch.cat(part, 1) for part in zip(*(frame.seeds for frame in self.frames), strict=True)))
        saliency = torch.cat([frame.motion.saliency for frame in self.frames], 1)
        tracks = track_seeds(seeds, saliency, self.config)
        return Tracks(tracks.index[:, place], tracks.score, tracks.foreground_seed[:, place])

    def vote(self, place: slice) -> Vote:
        """The vote on the seeds of the frames at a place of the window."""
        length = len(self.frames)
        asking = self._evidence(range(length)[place])
        if place == slice(0, length):  # the whole video at once: what segment does
            vote = take_vote(asking.embedding, asking.evidence, asking.valid, **vote_options(self.config))
        else:
            self.bank.follow(
                self.known, length, lambda numbers: self._evidence([number - self.first for number in numbers])
            )
            vote = self.bank.vote(asking.embedding, asking.valid)
        return Vote(*(value[None] for value in vote))

    def _evidence(self, places: Iterable[int]) -> Evidence:
        """What frames of the window vote with."""
        frames = [self.frames[place] for place in places]
        return Evidence(
            torch.cat([frame.seeds.embedding[0] for frame in frames]),
            torch.cat([frame.motion.evidence[0] for frame in frames]),
            torch.cat([frame.seeds.valid[0] for frame in frames]),
        )
