"""Video without an end: one frame in, one mask out, in memory that does not grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gpuvos import functional as F
from gpuvos.config import Config
from gpuvos.errors import check_count, check_tensor, check_values, fail
from gpuvos.features.base import FrontEnd
from gpuvos.features.pairwise import PairwiseFeatures
from gpuvos.pipeline import steps
from gpuvos.pipeline.chunked import explain_memory
from gpuvos.pipeline.memory_bank import Window
from gpuvos.pipeline.result import build_result, first_video, join_frames, one_frame
from gpuvos.pipeline.rules import RULES
from gpuvos.pipeline.segment import check_mask_of_frames
from gpuvos.pipeline.video import VideoSegmenter
from gpuvos.types import Features, Motion, Regions, Segmentation


class _Waiting(NamedTuple):
    """What a frame needs until its mask is out."""

    number: int
    frame: Tensor | None  # [1, 3, h, w], for the CRF
    features: Features  # [1, ...]
    regions: Regions
    motion: Motion


class StreamingSegmenter(nn.Module):
    """``VideoSegmenter`` one frame at a time, causal but for ``latency`` frames.

    What is kept of the last ``history`` frames, the window, is their seeds: tracks (Eq. 9-10) are ranked over it and
    begin at its oldest frame, and the votes of the robust rule are taken among ``config.smoothing_frames`` evenly
    spaced frames of it. Of the last ``latency`` frames the features are kept as well. So memory and the time a frame
    takes do not depend on how many have gone by.

    With ``history=None`` and ``latency=None`` every mask comes from ``flush`` and equals that of ``VideoSegmenter`` bit
    for bit; so it is with numbers that no clip exceeds.

    A frame has its flow to the next one, for which a latency of 1 is needed; with ``latency=0`` it is minus the flow to
    the frame before (as that of the last frame of a clip always is). Either is computed once, and a front end that
    comes with the library sees every frame once; see ``gpuvos.features.pairwise`` for others.

    ``last_features`` are those of the frames that came out last.

    Args:
        front_end: the source of features, see ``VideoSegmenter``.
        config: parameters of the method; ``Config()`` where it is absent.
        crf: refines probabilities, see ``VideoSegmenter``. Frames are then kept until their masks have been returned.
        history: frames whose seeds are kept, more than ``latency``; None: all.
        latency: frames between a frame and its mask: ``push`` of frame t returns frame ``t - latency``. None: all masks
            come from ``flush``.

    Raises:
        InputError: a history or a latency out of its range.

    Example:
        >>> segmenter = StreamingSegmenter(history=8, latency=1)
        >>> frame = torch.zeros(3, 32, 48, dtype=torch.uint8)
        >>> segmenter.push(frame) is None
        True
        >>> segmenter.push(frame).mask.shape, segmenter.flush().mask.shape
        (torch.Size([1, 32, 48]), torch.Size([1, 32, 48]))
    """

    def __init__(
        self,
        front_end: FrontEnd | None = None,
        config: Config | None = None,
        *,
        crf: nn.Module | None = None,
        history: int | None = 32,
        latency: int | None = 8,
    ) -> None:
        super().__init__()
        if latency is not None:
            check_count("latency", latency, 0)
        if history is not None:
            check_count("history", history)
            if latency is None or latency >= history:
                raise fail("history", f"{history} with latency {latency}", "more frames than the latency, or None")
        self.segmenter = VideoSegmenter(front_end, config, crf=crf)
        if self.config.softness:
            raise fail("config.softness", str(self.config.softness), "0", "a stream is not trained through")
        self.history, self.latency = history, latency
        self._seen = PairwiseFeatures(self.segmenter.front_end, self.segmenter.features)
        self.reset()

    @property
    def config(self) -> Config:
        """Parameters of the method."""
        return self.segmenter.config

    def reset(self) -> None:
        """Forgets every frame; the next one begins a new video, of any size."""
        self.last_features: Features | None = None  # of the Segmentation returned last
        self._seen.clear()
        self._first_mask: Tensor | None = None
        self._window = Window(self.config, self.history)
        self._waiting: deque[_Waiting] = deque()
        self._source: tuple[Tensor, Tensor, Tensor] | None = None  # seeds and sets that serve until renewed

    @torch.no_grad()
    @explain_memory("frame")
    def push(self, frame: Tensor, *, first_mask: Tensor | None = None, validate: bool = True) -> Segmentation | None:
        """Takes the next frame; returns the Segmentation of the frame ``latency`` before it.

        Args:
            frame: ``[3, H, W]`` uint8, or floating point in [0, 1]; all of a video are of one size, dtype and device.
            first_mask: ``[H, W]`` bool, the object in this frame, the first: semi-supervised mode (A.1).
            validate: look for values out of range, which reads back from the device.

        Returns:
            Segmentation of one frame (T = 1), or None while there is none yet. Its tracks are those that began at the
            oldest frame of the window.

        Raises:
            InputError: the frame does not fit; nothing has changed then, nor where the front end raises anything.
            OutOfMemoryError: memory does not suffice; ``reset`` comes before another frame.
        """
        last = self._seen.last
        _check_frame(frame, last, first_mask, validate)
        with self._seen.kept_unless_done():
            self._seen.add(frame)
            features = self._seen.newest() if self.latency == 0 else None if last is None else self._seen.previous()
        if last is None and first_mask is not None:
            self._first_mask = first_mask.clone()
        if features is not None:
            self._learn(features, None if self.latency == 0 else last)
        if self.latency is None or len(self._waiting) < max(1, self.latency):
            return None
        return self._emit(1)

    @torch.no_grad()
    @explain_memory("frames")
    def flush(self) -> Segmentation | None:
        """Returns the Segmentation of the frames that still wait, all together, and resets.

        Returns:
            Segmentation of at most ``latency`` frames, None where none waits.
        """
        last = self._seen.last
        if last is not None and self.latency != 0:
            self._learn(self._seen.newest())
        result = self._emit(len(self._waiting)) if self._waiting else None
        features = self.last_features
        self.reset()
        self.last_features = None if result is None else features
        return result

    def stream(
        self, frames: Iterable[Tensor], *, first_mask: Tensor | None = None, validate: bool = True
    ) -> Iterator[Segmentation]:
        """Segments the frames of an iterable as they come: one Segmentation (T = 1) for each, in their order.

        Args:
            frames: each ``[3, H, W]``, for example of ``gpuvos.data.iterate_video``; read only as far as needed.
            first_mask: the object in the first frame, see ``push``.
            validate: whether to look at the values, see ``push``.

        Example:
            >>> frames = torch.zeros(5, 3, 32, 48, dtype=torch.uint8)
            >>> sum(int(one.mask.shape[0]) for one in StreamingSegmenter(latency=2).stream(frames))
            5
        """
        self.reset()
        for frame in frames:
            result = self.push(frame, first_mask=first_mask, validate=validate)
            first_mask = None
            if result is not None:
                yield result
        rest, features = self.flush(), self.last_features
        if rest is not None and features is not None:
            for number in range(rest.mask.shape[0]):
                self.last_features = Features(*(value[number : number + 1] for value in features))
                yield one_frame(rest, number)

    def _learn(self, features: Features, frame: Tensor | None = None) -> None:
        """Puts a frame whose features are known into the window, the last one where it is not named."""
        config = self.config
        batch = Features(*(value[None] for value in features))
        regions = steps.regions(batch, None, config)
        motion = steps.motion(batch, regions, config)
        if self._first_mask is not None and self._window.known == 0:
            self._source = steps.mask_sets(batch.embedding, regions.forest.label, self._first_mask[None], config)
        frame = self._seen.last if frame is None else frame
        kept = None if self.segmenter.crf is None or frame is None else frame[None]
        self._waiting.append(_Waiting(self._window.known, kept, features, regions, motion))
        self._window.add(regions.seeds, motion)

    def _emit(self, count: int) -> Segmentation:
        """Segmentation of the frames that have waited longest."""
        frames = [self._waiting.popleft() for _ in range(count)]
        regions = join_frames([frame.regions for frame in frames])
        motion = join_frames([frame.motion for frame in frames])
        first = frames[0].number - self._window.first
        place = slice(first, first + count)
        labels = RULES[self.config.rule].label_stream(self._window, place, regions, motion, self.config)
        if self._first_mask is not None and self._source is not None:
            picked = tuple(value.expand(-1, count, *value.shape[2:]) for value in self._source)
            labels = labels._replace(foreground=picked[1], background=picked[2])
        else:
            picked = self._renewed([frame.number for frame in frames], (regions.seeds.embedding, *labels[:2]))
        self.last_features = Features._make(map(torch.cat, zip(*(frame.features for frame in frames), strict=True)))
        probability = F.foreground_probability(
            self.last_features.embedding[None], *picked, temperature=self.config.temperature
        )
        last = self._seen.last
        size = None if last is None else (last.shape[-2], last.shape[-1])
        result = first_video(build_result(probability, regions, motion, labels, self.config, size))
        kept = [frame.frame for frame in frames if frame.frame is not None]
        return self.segmenter.refine(result, torch.cat(kept), validate=False) if kept else result

    def _renewed(self, numbers: list[int], values: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Seeds and seed sets that serve frames of these numbers, out of their own; renewed every ``adapt_every``."""
        first = numbers[0]
        kept = values if self._source is None else self._source
        sources = []  # 0: the sets kept from before; n + 1: those of the n-th of these frames
        for number in numbers:
            source = self.config.source_frame(number)
            sources.append(max(0, source - first + 1) if source >= first else 0)
        joined = [torch.cat((old[:, :1], new), 1) for old, new in zip(kept, values, strict=True)]
        picked = tuple(value[:, sources] for value in joined)
        self._source = (picked[0][:, -1:], picked[1][:, -1:], picked[2][:, -1:])
        return picked


def _check_frame(frame: Tensor, last: Tensor | None, first_mask: Tensor | None, validate: bool) -> None:
    check_tensor("frame", frame, "3 H W", kind="frames", filled=True)
    if first_mask is not None:
        check_mask_of_frames(first_mask, frame, validate=validate)
    if validate:
        check_values("frame", frame, low=0, high=1)
    if last is None:
        return
    if first_mask is not None:
        raise fail("first_mask", "a mask of a later frame", "one with the first frame", "call reset() before")
    if (frame.shape, frame.dtype, frame.device) != (last.shape, last.dtype, last.device):
        raise fail(
            "frame",
            f"shape {tuple(frame.shape)}, {frame.dtype}, {frame.device}",
            f"shape {tuple(last.shape)}, {last.dtype}, {last.device} like the frame before",
            "call reset() before another video",
        )
