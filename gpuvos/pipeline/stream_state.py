"""What one stream of frames holds, from its first frame to its last mask."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gpuvos.config import Config
from gpuvos.errors import check_tensor, check_values, fail
from gpuvos.features.pairwise import PairwiseFeatures, as_it_is
from gpuvos.pipeline import steps
from gpuvos.pipeline.memory_bank import Window
from gpuvos.pipeline.result import build_result, first_video, join_frames
from gpuvos.pipeline.rules import RULES
from gpuvos.pipeline.segment import check_mask_of_frames
from gpuvos.pipeline.video import VideoSegmenter
from gpuvos.types import Features, Labels, Motion, Regions, SeedSets, Segmentation, plain_tensor


class _Waiting(NamedTuple):
    """What a frame needs until its mask is out."""

    number: int
    frame: Tensor | None  # [1, 3, h, w], for the CRF
    features: Features  # [1, ...]
    regions: Regions
    motion: Motion


class StreamState:
    """Frames of one video that are still of use. Several may share a segmenter; none knows of the others.

    Args:
        segmenter: its front end, config and CRF.
        history: as of ``StreamingSegmenter``.
        latency: as of ``StreamingSegmenter``.
        options: of ``torch.compile``, for what every frame goes through; None: nothing is compiled.
    """

    def __init__(
        self,
        segmenter: VideoSegmenter,
        history: int | None,
        latency: int | None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.segmenter, self.latency = segmenter, latency
        compiled = as_it_is if options is None else partial(Compiled, options=options)
        self._observe = compiled(_observe)
        self.last_features: Features | None = None  # of the Segmentation returned last
        self._seen = PairwiseFeatures(segmenter.front_end, segmenter.features, compiled)
        self._first_mask: Tensor | None = None
        self._window = Window(segmenter.config, history)
        self._waiting: deque[_Waiting] = deque()
        self._first: SeedSets | None = None  # of the first mask
        self._sets: dict[int, SeedSets] = {}  # of frames whose masks are out, by number, that serve frames to come

    @property
    def config(self) -> Config:
        """Parameters of the method, as the segmenter has them now."""
        return self.segmenter.current_config()

    def push(self, frame: Tensor, first_mask: Tensor | None, validate: bool) -> Segmentation | None:
        """Takes the next frame; see ``StreamingSegmenter.push``."""
        frame = plain_tensor(frame)
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

    def flush(self) -> Segmentation | None:
        """Segmentation of the frames that still wait, all together, None where none waits. The stream is at its end."""
        last = self._seen.last
        if last is not None and self.latency != 0:
            self._learn(self._seen.newest())
        return self._emit(len(self._waiting)) if self._waiting else None

    def _learn(self, features: Features, frame: Tensor | None = None) -> None:
        """Puts a frame whose features are known into the window, the last one where it is not named."""
        config = self.config
        regions, motion = self._observe(features, config)
        if self._first_mask is not None and self._window.known == 0:
            self._first = steps.mask_sets(
                features.embedding[None], regions.forest.label, self._first_mask[None], config
            )
        frame = self._seen.last if frame is None else frame
        kept = None if self.segmenter.refinement is None or frame is None else frame[None]
        self._waiting.append(_Waiting(self._window.known, kept, features, regions, motion))
        self._window.add(regions.seeds, motion)

    def _emit(self, count: int) -> Segmentation:
        """Segmentation of the frames that have waited longest."""
        frames = [self._waiting.popleft() for _ in range(count)]
        self.last_features = Features._make(map(torch.cat, zip(*(frame.features for frame in frames), strict=True)))
        regions, motion = _joined(frames)
        labels, sets = self._labelled(frames, regions, motion)
        one_for_all = self._renewal().adapt_every is None
        ahead = [] if one_for_all else list(islice(self._waiting, self.config.adjacent_sets))
        later = self._labelled(ahead, *_joined(ahead))[1] if ahead else None
        probability = self._probability([frame.number for frame in frames], sets, later)
        last = self._seen.last
        size = None if last is None else (last.shape[-2], last.shape[-1])
        result = first_video(build_result(probability, regions, motion, labels, self.config, size))
        kept = [frame.frame for frame in frames if frame.frame is not None]
        return self.segmenter.refine(result, torch.cat(kept), validate=False) if kept else result

    def _labelled(self, frames: list[_Waiting], regions: Regions, motion: Motion) -> tuple[Labels, SeedSets]:
        """Labels and seed sets of frames that follow each other, by what is known now."""
        first = frames[0].number - self._window.first
        place = slice(first, first + len(frames))
        labels = RULES[self.config.rule].label_stream(self._window, place, regions, motion, self.config)
        if self._first is not None:
            return steps.sets_under_mask(regions.seeds, labels, self._first, self.config)
        return labels, SeedSets(regions.seeds.embedding, *labels[:2])

    def _probability(self, numbers: list[int], sets: SeedSets, later: SeedSets | None) -> Tensor:
        """Eq. 13-15 of the frames of ``last_features``: their numbers, their own sets and those of the frames after."""
        assert self.last_features is not None
        embedding = self.last_features.embedding[None]
        new = sets if later is None else SeedSets(*map(_along_time, zip(sets, later, strict=True)))
        count = new.foreground.shape[1]
        known = self._sets | {numbers[0] + n: SeedSets(*(value[:, n : n + 1] for value in new)) for n in range(count)}
        place = {number: n for n, number in enumerate(known)}
        sources = [[place[number] for number in row] for row in self._sources(numbers, numbers[0] + count - 1)]
        joined = SeedSets(*map(_along_time, zip(*known.values(), strict=True)))
        found = steps.probability_under(embedding, joined, self.config, torch.tensor(sources, device=embedding.device))
        end = numbers[-1] + 1
        oldest = self._sources([end], end)[0][0]
        self._sets = {number: known[number] for number in known if oldest <= number < end and self._serves(number)}
        return found

    def _sources(self, numbers: list[int], last: int) -> list[list[int]]:
        """The frames whose seed sets serve frames of these numbers together."""
        found: list[list[int]] = self._renewal().source_frames(torch.tensor(numbers, device="cpu"), last).tolist()
        return found

    def _serves(self, number: int) -> bool:
        """Whether the seed sets of this frame serve any: within a period only those of its first frame do."""
        return self._renewal().source_frame(number) == number

    def _renewal(self) -> Config:
        """The config, with the period in which seed sets are renewed."""
        return self.config if self._first is None else steps.config_under_mask(self.config)


def _joined(frames: Sequence[_Waiting]) -> tuple[Regions, Motion]:
    return join_frames([frame.regions for frame in frames]), join_frames([frame.motion for frame in frames])


def _along_time(values: Sequence[Tensor]) -> Tensor:
    return torch.cat(tuple(values), 1)


class Compiled:
    """A function that ``torch.compile`` makes faster at its first call, and that can be pickled.

    Args:
        function: what is compiled.
        options: of ``torch.compile``.

    Example:
        >>> Compiled(torch.neg, {"backend": "eager"})(torch.ones(1))
        tensor([-1.])
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.function, self.options = function, options
        self._run: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any, **given: Any) -> Any:
        """What the function gives."""
        if self._run is None:
            self._run = torch.compile(self.function, **self.options)
        return self._run(*arguments, **given)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None}


def _observe(features: Features, config: Config) -> tuple[Regions, Motion]:
    """What a frame's features ``[1, ...]`` say before others are asked."""
    batch = Features(*(value[None] for value in features))
    regions = steps.regions(batch, None, config)
    return regions, steps.motion(batch, regions, config)


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
