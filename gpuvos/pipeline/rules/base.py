"""What a rule is, and the reasons that rules give."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from torch import Tensor

from gpuvos.config import Config
from gpuvos.functional.voting import Vote
from gpuvos.types import Features, Labels, Motion, Regions, Seeds, SeedSets, Segmentation, Tracks


class Reason(IntEnum):
    """Why a seed is what it is. The paper's rule gives the second group, the robust rule the third."""

    NONE = 0
    """Neither foreground nor background, or no seed at all."""
    EDITED = 1
    """Not what the rule says: somebody changed it, see ``relabel``."""

    TRACK = 2
    """Foreground: the member of the best track, Eq. 10."""
    COVERED = 3
    """Foreground: the initial foreground covers its region, Eq. 11."""
    LOW_OBJECTNESS = 4
    """Background, Eq. 12."""
    LOW_SALIENCY = 5
    """Background, Eq. 12, with enough objectness."""
    INITIAL = 6
    """Background: an initial one, where Eq. 12 gives none."""

    CONFIDENT = 7
    """Foreground: its smoothed score is high, and enough of its neighbours agree."""
    VOTED = 8
    """Foreground by its neighbours alone."""
    OUTVOTED = 9
    """Background by its neighbours alone."""
    QUIET = 10
    """Background: neither its smoothed score nor its neighbours speak for it."""


class StreamWindow(Protocol):
    """What a stream remembers, as far as rules ask for it. A place is a slice of the frames of the window."""

    def tracks(self, place: slice) -> Tracks:
        """Tracks through the whole window; index and foreground seed of the frames at a place."""
        ...

    def vote(self, place: slice) -> Vote:
        """The vote of the remembered seeds on those of the frames at a place."""
        ...


class Rule(Protocol):
    """A way to label seeds. Tensors have leading dimensions ``[B, T]``."""

    def saliency(self, features: Features, regions: Regions, config: Config) -> tuple[Tensor, Tensor, Tensor]:
        """Mean flow ``[T, K, 2]`` of the regions, motion saliency ``[T, K]``, Eq. 7-8, and this rule's evidence."""
        ...

    def label(self, features: Features, regions: Regions, motion: Motion, config: Config) -> Labels:
        """Foreground and background seeds of whole videos."""
        ...

    def label_stream(
        self, window: StreamWindow, place: slice, regions: Regions, motion: Motion, config: Config
    ) -> Labels:
        """Foreground and background seeds of the frames at a place of a stream's window; regions are theirs."""
        ...

    def under_mask(self, seeds: Seeds, labels: Labels, sets: SeedSets, config: Config) -> Tensor | None:
        """Which seeds ``[B, T, K]`` are foreground where the object of frame 0 is given; None: only frame 0's count.

        Args:
            seeds: of every frame.
            labels: what the rule says of them without the mask.
            sets: seeds and seed sets of frame 0 under its mask, for every frame.
            config: parameters of the method.
        """
        ...

    def soft_weights(self, labels: Labels, regions: Regions, motion: Motion, config: Config) -> tuple[Tensor, Tensor]:
        """How much seeds are foreground and background with ``config.softness`` above 0: twice ``[T, K]`` in [0, 1]."""
        ...

    def reasons(self, result: Segmentation, config: Config) -> Tensor:
        """The ``Reason`` of every seed of one video, ``[T, K]`` int64."""
        ...
