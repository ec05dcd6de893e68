"""Video without an end: one frame in, one mask out, in memory that does not grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gpuvos import functional as F
from gpuvos.config import Config
from gpuvos.errors import check_positive, check_tensor, check_values, fail
from gpuvos.features.pairwise import PairwiseFeatures
from gpuvos.functional.tracks import compose_tracks, following_seeds
from gpuvos.functional.voting import take_vote
from gpuvos.labels import Labels, labels_of_paper, labels_of_vote, vote_options
from gpuvos.memory import explain_memory
from gpuvos.panel import Ballot, Panel
from gpuvos.segmenter import (
    FrontEnd,
    VideoSegmenter,
    _check_first_mask,
    _Choice,
    _first_video,
    _initial,
    _mask_sets,
    _Motion,
    _motion,
    _regions,
    _result,
)
from gpuvos.types import EdgeWeights, Features, Forest, Seeds, Segmentation


class _Past(NamedTuple):
    """What a frame of the window is remembered by: its seeds. Every tensor is ``[1, 1, K, ...]``."""

    seeds: Seeds
    motion: _Motion
    following: Tensor  # int64, which of these seeds follows each one of the frame before


class _Waiting(NamedTuple):
    """What a frame needs until its mask is out."""

    number: int
    frame: Tensor | None  # [1, 3, h, w], for the CRF
    features: Features  # [1, ...]
    weights: EdgeWeights
    forest: Forest
    past: _Past


class StreamingSegmenter(nn.Module):
    """``VideoSegmenter`` one frame at a time, causal but for ``latency`` frames.

    What is kept of the last ``window`` frames is their seeds: tracks (Eq. 9-10) are ranked over the window and begin at
    its oldest frame, and the votes of the robust rule are taken among ``config.smoothing_frames`` evenly spaced frames
    of it. Of the last ``latency`` frames the features are kept as well. So memory and the time a frame takes do not
    depend on how many have gone by.

    With ``window=None`` and ``latency=None`` every mask comes from ``flush`` and equals that of ``VideoSegmenter`` bit
    for bit; so it is with numbers that no clip exceeds.

    A frame has its flow to the next one, for which a latency of 1 is needed; with ``latency=0`` it is minus the flow to
    the frame before (as that of the last frame of a clip always is). Either is computed once, and a front end that
    comes with the library sees every frame once; see ``gpuvos.features.pairwise`` for others.

    ``features`` are those of the frames that came out last.

    Args:
        front_end: as of ``VideoSegmenter``.
        config: as of ``VideoSegmenter``.
        crf: as of ``VideoSegmenter``; frames are then kept until their masks are out.
        window: frames whose seeds are kept, more than ``latency``; None: all.
        latency: frames between a frame and its mask: ``push`` of frame t returns frame ``t - latency``. None: all masks
            come from ``flush``.

    Raises:
        InputError: a window or a latency out of its range.

    Example:
        >>> segmenter = StreamingSegmenter(window=8, latency=1)
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
        window: int | None = 32,
        latency: int | None = 8,
    ) -> None:
        super().__init__()
        if latency is not None:
            check_positive("latency", latency, zero=True)
        if window is not None:
            check_positive("window", window)
            if latency is None or latency >= window:
                raise fail(
                    "window", f"{window} with latency {latency}", "more frames than the latency, or None"
                )
        self.segmenter = VideoSegmenter(front_end, config, crf=crf)
        if self.config.softness:
            raise fail("config.softness", str(self.config.softness), "0", "a stream is not trained through")
        self.window, self.latency = window, latency
        self._seen = PairwiseFeatures(self.segmenter.front_end, self.segmenter.features)
        self.reset()

    @property
    def config(self) -> Config:
        """Parameters of the method."""
        return self.segmenter.config

    def reset(self) -> None:
        """Forgets every frame; the next one begins a new video, of any size."""
        self.features: Features | None = None  # of the Segmentation returned last
        self._seen.clear()
        self._first_mask: Tensor | None = None
        self._known = 0  # frames whose features are known
        self._past: deque[_Past] = deque(maxlen=self.window)
        self._waiting: deque[_Waiting] = deque()
        self._panel = Panel(self.config)
        self._source: tuple[Tensor, Tensor, Tensor] | None = None  # seeds and sets that serve until renewed

    @torch.no_grad()
    @explain_memory("frame")
    def push(
        self, frame: Tensor, *, first_mask: Tensor | None = None, validate: bool = True
    ) -> Segmentation | None:
        """Takes the next frame; returns the Segmentation of the frame ``latency`` before it.

        Args:
            frame: ``[3, H, W]`` uint8, or floating point in [0, 1]; all of a video are of one size, dtype and device.
            first_mask: ``[h, w]`` bool, the object in this frame, the first: semi-supervised mode (A.1).
            validate: look for values out of range, which reads back from the device.

        Returns:
            Segmentation of one frame (T = 1), or None while there is none yet. Its tracks are those that began at the
            oldest frame of the window.

        Raises:
            InputError: the frame does not fit; nothing has changed then.
            OutOfMemoryError: memory does not suffice; ``reset`` comes before another frame.
        """
        last = self._seen.last
        _check_frame(frame, last, first_mask, validate)
        self._seen.add(frame)
        if last is None and first_mask is not None:
            self._first_mask = first_mask.clone()
        if self.latency == 0:
            self._learn(self._seen.newest())
        elif last is not None:
            self._learn(self._seen.previous(), last)
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
        features = self.features
        self.reset()
        self.features = None if result is None else features
        return result

    def stream(self, frames: Iterable[Tensor], *, first_mask: Tensor | None = None) -> Iterator[Segmentation]:
        """Segments the frames of an iterable as they come: one Segmentation (T = 1) for each, in their order.

        Args:
            frames: each ``[3, H, W]``, for example of ``gpuvos.data.iterate_video``; read only as far as needed.
            first_mask: as of ``push``, for the first one.

        Example:
            >>> frames = torch.zeros(5, 3, 32, 48, dtype=torch.uint8)
            >>> sum(int(one.mask.shape[0]) for one in StreamingSegmenter(latency=2).stream(frames))
            5
        """
        self.reset()
        for frame in frames:
            result = self.push(frame, first_mask=first_mask)
            first_mask = None
            if result is not None:
                yield result
        rest, features = self.flush(), self.features
        if rest is not None and features is not None:
            for number in range(rest.mask.shape[0]):
                self.features = Features(*(value[number : number + 1] for value in features))
                yield one_frame(rest, number)

    def _learn(self, features: Features, frame: Tensor | None = None) -> None:
        """Puts a frame whose features are known into the window, the last one where it is not named."""
        config = self.config
        embedding, objectness, flow = (value[None] for value in features)
        present = torch.ones((1, 1), dtype=torch.bool, device=embedding.device)
        seeds, weights, forest = _regions(embedding, objectness, present, config)
        motion = _motion(flow, objectness, seeds, forest, config)
        before = self._past[-1].seeds if self._past else seeds
        past = _Past(seeds, motion, following_seeds(before.embedding, seeds.embedding, seeds.valid))
        if self._first_mask is not None and self._known == 0:
            self._source = _mask_sets(embedding, forest.label, self._first_mask[None], config)
        frame = self._seen.last if frame is None else frame
        kept = None if self.segmenter.crf is None or frame is None else frame[None]
        self._past.append(past)
        self._waiting.append(_Waiting(self._known, kept, features, weights, forest, past))
        self._known += 1

    def _emit(self, count: int) -> Segmentation:
        """Segmentation of the frames that have waited longest."""
        frames = [self._waiting.popleft() for _ in range(count)]
        seeds, motion = (_joined([getattr(f.past, name) for f in frames]) for name in ("seeds", "motion"))
        weights, forest = (_joined([getattr(f, name) for f in frames]) for name in ("weights", "forest"))
        first = frames[0].number - (self._known - len(self._past))  # place in the window
        place = slice(first, first + count)
        tracks, score = self._tracks()
        seed = F.best_track(tracks, score)[:, place]
        initial = _initial(seeds, weights, forest, motion, seed, self.config)
        if self.config.rule == "robust":
            labels = self._vote(place)
        else:
            labels = labels_of_paper(initial, seeds, forest, motion.saliency, seed, motion.start, self.config)
        if self._first_mask is not None and self._source is not None:
            picked = tuple(value.expand(-1, count, *value.shape[2:]) for value in self._source)
            labels = labels._replace(foreground=picked[1], background=picked[2])
        else:
            picked = self._renewed([frame.number for frame in frames], (seeds.embedding, *labels[:2]))
        self.features = Features._make(
            map(torch.cat, zip(*(frame.features for frame in frames), strict=True))
        )
        probability = F.foreground_probability(
            self.features.embedding[None], *picked, temperature=self.config.temperature
        )
        choice = _Choice(tracks[:, place], score, seed, initial, labels)
        last = self._seen.last
        size = None if last is None else (last.shape[-2], last.shape[-1])
        result = _first_video(_result(probability, seeds, forest, motion, choice, size))
        kept = [frame.frame for frame in frames if frame.frame is not None]
        return self.segmenter.refine(result, torch.cat(kept)) if kept else result

    def _tracks(self) -> tuple[Tensor, Tensor]:
        """Tracks through the window and their scores, Eq. 9-10."""
        past = list(self._past)
        valid, objectness = (
            torch.cat([getattr(p.seeds, name) for p in past], 1) for name in ("valid", "objectness")
        )
        following = torch.cat([p.following for p in past], 1)
        tracks = compose_tracks(following[:, 1:], valid)
        saliency = torch.cat([p.motion.saliency for p in past], 1)
        return tracks, F.track_scores(tracks, objectness, saliency, rank_by=self.config.rank_by)

    def _vote(self, place: slice) -> Labels:
        """Labels by the robust rule, of the frames at a place of the window."""
        length, config = len(self._past), self.config
        ballot = self._ballot(range(length)[place])
        if place == slice(0, length):  # the whole video at once: what segment does
            vote = take_vote(*ballot, **vote_options(config))
        else:
            first = self._known - length
            self._panel.follow(
                self._known, length, lambda numbers: self._ballot([number - first for number in numbers])
            )
            vote = self._panel.vote(ballot.embedding, ballot.valid)
        return Labels(*(value[None] for value in labels_of_vote(vote, ballot.valid, config)))

    def _ballot(self, places: Iterable[int]) -> Ballot:
        """What frames of the window vote with."""
        past = [self._past[place] for place in places]
        return Ballot(
            torch.cat([p.seeds.embedding[0] for p in past]),
            torch.cat([p.motion.evidence[0] for p in past]),
            torch.cat([p.seeds.valid[0] for p in past]),
        )

    def _renewed(self, numbers: list[int], values: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Seeds and seed sets that serve frames of these numbers, out of their own; renewed every ``adapt_every``."""
        every, first = self.config.adapt_every, numbers[0]
        kept = values if self._source is None else self._source
        sources = []  # 0: the sets kept from before; n + 1: those of the n-th of these frames
        for number in numbers:
            source = 0 if every is None else number - number % every
            sources.append(max(0, source - first + 1) if source >= first else 0)
        joined = [torch.cat((old[:, :1], new), 1) for old, new in zip(kept, values, strict=True)]
        picked = tuple(value[:, sources] for value in joined)
        self._source = (picked[0][:, -1:], picked[1][:, -1:], picked[2][:, -1:])
        return picked


def _check_frame(frame: Tensor, last: Tensor | None, first_mask: Tensor | None, validate: bool) -> None:
    check_tensor("frame", frame, "3 H W", kind="frames", filled=True)
    if first_mask is not None:
        _check_first_mask(first_mask, "", {}, frame)
    if validate:
        check_values("frame", frame, low=0, high=1)
    if last is None:
        return
    if first_mask is not None:
        raise fail("first_mask", "a mask of a later frame", "one with the first frame", "call reset() before")
    if (frame.shape, frame.dtype, frame.device) != (last.shape, last.dtype, last.device):
        raise fail(
            "frame", f"shape {tuple(frame.shape)}, {frame.dtype}, {frame.device}",
            f"shape {tuple(last.shape)}, {last.dtype}, {last.device} like the frame before",
            "call reset() before another video",
        )  # fmt: skip


def one_frame(result: Segmentation, number: int) -> Segmentation:
    """One frame of a Segmentation, as a Segmentation of T = 1.

    Example:
        >>> whole = VideoSegmenter()(torch.zeros(3, 3, 32, 48, dtype=torch.uint8))
        >>> one_frame(whole, 2).mask.shape
        torch.Size([1, 32, 48])
    """
    t = result.mask.shape[0]
    if not 0 <= number < t:
        raise fail("number", str(number), f"a frame in [0, {t - 1}]")
    parts: dict[str, Any] = {}
    for name, value in result._asdict().items():
        if name == "track_score":
            parts[name] = value
        elif isinstance(value, Tensor):
            parts[name] = value[number : number + 1]
        else:
            parts[name] = type(value)(*(part[number : number + 1] for part in value))
    return Segmentation(**parts)


def _joined(frames: list[Any]) -> Any:
    """Tuples of tensors ``[1, 1, ...]`` joined along T; also tuples of such tuples."""
    columns = zip(*frames, strict=True)
    return type(frames[0])(
        *(
            torch.cat(column, 1) if isinstance(column[0], Tensor) else _joined(list(column))
            for column in columns
        )
    )
