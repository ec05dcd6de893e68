"""Features of a video whose frames come one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from gpuvos.features.base import accepted
from gpuvos.types import Features

_Part = TypeVar("_Part", bound=Callable[..., Any])


def as_it_is(part: _Part) -> _Part:
    """The function itself: what ``PairwiseFeatures`` makes of its parts where nobody compiles them."""
    return part


class PairwiseFeatures:
    """What a front end sees in each frame, when no more than the frames beside it are known.

    A front end with the methods ``encode`` and ``complete`` and a module ``flow`` (see ``LearnedFeatures``) sees
    every frame once, and its flow is computed only in the direction that is asked for, if that module has ``pairs``
    (see ``DenseFlow``). Any other is shown every pair of neighbours as a clip of two.

    Args:
        front_end: from a clip to Features.
        compute: runs and checks it, as ``VideoSegmenter.features``.
        compiled: makes functions of tensors faster, such as ``torch.compile``: ``encode`` and ``complete``, or
            ``compute``.

    Example:
        >>> from gpuvos import VideoSegmenter
        >>> segmenter = VideoSegmenter()
        >>> seen = PairwiseFeatures(segmenter.front_end, segmenter.features)
        >>> for frame in torch.zeros(2, 3, 32, 48, dtype=torch.uint8):
        ...     seen.add(frame)
        >>> seen.previous().flow.shape, seen.newest().flow.shape
        (torch.Size([1, 2, 32, 48]), torch.Size([1, 2, 32, 48]))
    """

    def __init__(
        self,
        front_end: Callable[[Tensor], Features],
        compute: Callable[..., Features],
        compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = as_it_is,
    ) -> None:
        self._front: Any = front_end
        self._compute = compiled(compute)
        self._once = all(hasattr(front_end, name) for name in ("encode", "flow", "complete"))
        if self._once:
            front: Any = front_end
            self._encode, self._finish = compiled(front.encode), compiled(front.complete)
        self.clear()

    def clear(self) -> None:
        """Forgets every frame."""
        self._frames: tuple[Tensor, ...] = ()  # the last two, or fewer
        self._seen: tuple[Any, ...] = ()  # what encode gave, or Features of each

    @contextmanager
    def kept_unless_done(self) -> Iterator[None]:
        """Forgets what was added inside of the block should it raise."""
        before = self._frames, self._seen
        try:
            yield
        except BaseException:
            self._frames, self._seen = before
            raise

    @property
    def last(self) -> Tensor | None:
        """The frame added last."""
        return self._frames[-1] if self._frames else None

    def add(self, frame: Tensor) -> None:
        """Takes the next frame ``[3, h, w]``; where it raises, nothing has changed."""
        pair = (*self._frames[-1:], frame.clone())  # the caller may reuse its memory
        if self._once:
            self._seen = (*self._seen[-1:], self._encode(frame[None]))
        else:
            found = self._compute(torch.stack(pair), validate=False)
            self._seen = tuple(Features(*(v[n : n + 1] for v in found)) for n in range(len(pair)))
        self._frames = pair

    def previous(self) -> Features:
        """Of the frame before the last, T = 1: its flow is that to the last."""
        return self._complete(0) if self._once else self._seen[0]

    def newest(self) -> Features:
        """Of the last frame as the end of a clip, T = 1: its flow is minus that to the frame before."""
        return self._complete(-1) if self._once else self._seen[-1]

    def _complete(self, place: int) -> Features:
        encoded = self._seen[place]
        size = (encoded[1].shape[-2], encoded[1].shape[-1])
        flow = self._front.flow
        unchecked = accepted(flow, validate=False)  # whoever adds a frame looks at its values
        if len(self._frames) == 1:
            motion = flow(self._frames[0][None], size=size, **unchecked)
        else:
            here, there = self._frames[place], self._frames[-1 - place]
            if hasattr(flow, "pairs"):
                motion = flow.pairs(here[None], there[None], size=size, **accepted(flow.pairs, validate=False))
            else:
                motion = flow(torch.stack((here, there)), size=size, **unchecked)[:1]
            motion = motion if place == 0 else -motion
        features: Features = self._finish(*encoded, motion)
        return features
