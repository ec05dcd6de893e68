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
from gpuvos.functional.tracks import compose_tracks, following_seeds
from gpuvos.functional.voting import share_of_neighbors, take_vote
from gpuvos.segmenter import (
    FrontEnd,
    VideoSegmenter,
    _Choice,
    _first_video,
    _initial,
    _Motion,
    _motion,
    _neighbors,
    _regions,
    _result,
    _seed_sets,
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
    embedding: Tensor  # [1, 1, D, H, W]
    weights: EdgeWeights
    forest: Forest
    past: _Past


class _Panel(NamedTuple):
    """The frames that are looked at for neighbours, and which of their seeds are confident (robust rule)."""

    embedding: Tensor  # [A, K, D]
    confident: Tensor  # [A, K]
    valid: Tensor  # [A, K]


class StreamingSegmenter(nn.Module):
    """``VideoSegmenter`` one frame at a time, causal but for ``latency`` frames.

    What is kept of the last ``window`` frames is their seeds: tracks (Eq. 9-10) are ranked over the window and begin at
    its oldest frame, and the votes of the robust rule are taken among ``config.smoothing_frames`` evenly spaced frames
    of it, renewed each time that the window has moved by their spacing. Of the last ``latency`` frames the
    features are kept as well. So memory and the time a frame takes do not depend on how many have gone by.

    With ``window=None`` and ``latency=None`` every mask comes from ``flush`` and equals that of ``VideoSegmenter`` bit
    for bit; so it is with numbers that no clip exceeds.

    The front end sees pairs of frames, so that a frame has its flow to the next one, for which a latency of 1 is
    needed; one with the methods ``appearance`` and ``complete`` (see ``LearnedFeatures``) sees every frame once. With
    ``latency=0`` a frame is shown as the last of its pair, whose flow is minus the flow to the frame before (as that
    of the last frame of a clip always is).

    Args:
        front_end: as of ``VideoSegmenter``.
        config: as of ``VideoSegmenter``.
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
        window: int | None = 64,
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
        self.segmenter = VideoSegmenter(front_end, config)
        self.window, self.latency = window, latency
        self.reset()

    @property
    def config(self) -> Config:
        """Parameters of the method."""
        return self.segmenter.config

    def reset(self) -> None:
        """Forgets every frame; the next one begins a new video, of any size."""
        self._last: Tensor | None = None  # frame
        self._appearance: tuple[Tensor, Tensor] | None = None  # of the last frame
        self._tail: Features | None = None  # features of the last frame as if no other came
        self._known = 0  # frames whose features are known
        self._past: deque[_Past] = deque(maxlen=self.window)
        self._waiting: deque[_Waiting] = deque()
        self._panel: _Panel | None = None
        self._panel_due = 0
        self._source: tuple[Tensor, Tensor, Tensor] | None = None  # seeds and sets that serve until renewed

    @torch.no_grad()
    def push(self, frame: Tensor, *, validate: bool = True) -> Segmentation | None:
        """Takes the next frame; returns the Segmentation of the frame ``latency`` before it.

        Args:
            frame: ``[3, H, W]`` uint8, or floating point in [0, 1]; all of a video are of one size, dtype and device.
            validate: look for values out of range, which reads back from the device.

        Returns:
            Segmentation of one frame (T = 1), or None while there is none yet. Its tracks are those that began at the
            oldest frame of the window.

        Raises:
            InputError: the frame does not fit; nothing has changed then.
        """
        check_tensor("frame", frame, "3 H W", kind="frames")
        last = self._last
        if last is not None and (frame.shape, frame.dtype, frame.device) != (
            last.shape,
            last.dtype,
            last.device,
        ):
            raise fail(
                "frame", f"shape {tuple(frame.shape)}, {frame.dtype}, {frame.device}",
                f"shape {tuple(last.shape)}, {last.dtype}, {last.device} like the frame before",
                "call reset() before another video",
            )  # fmt: skip
        features, appearance = self._features(frame, validate)
        self._appearance = appearance
        self._last = frame.clone()  # the caller may reuse its memory
        self._tail = Features(*(value[-1:] for value in features))
        if self.latency == 0:
            self._learn(self._tail)
        elif last is not None:
            self._learn(Features(*(value[:1] for value in features)))
        if self.latency is None or len(self._waiting) < max(1, self.latency):
            return None
        return self._emit(1)

    @torch.no_grad()
    def flush(self) -> Segmentation | None:
        """Returns the Segmentation of the frames that still wait, all together, and resets.

        Returns:
            Segmentation of at most ``latency`` frames, None where none waits.
        """
        if self._tail is not None and self.latency != 0:
            self._learn(self._tail)
        result = self._emit(len(self._waiting)) if self._waiting else None
        self.reset()
        return result

    def stream(self, frames: Iterable[Tensor]) -> Iterator[Segmentation]:
        """Segments the frames of an iterable as they come: one Segmentation (T = 1) for each, in their order.

        Args:
            frames: each ``[3, H, W]``, for example from a ``gpuvos.data.VideoReader``; read only as far as needed.

        Example:
            >>> frames = torch.zeros(5, 3, 32, 48, dtype=torch.uint8)
            >>> sum(int(one.mask.shape[0]) for one in StreamingSegmenter(latency=2).stream(frames))
            5
        """
        self.reset()
        for frame in frames:
            result = self.push(frame)
            if result is not None:
                yield result
        rest = self.flush()
        if rest is not None:
            for number in range(rest.mask.shape[0]):
                yield one_frame(rest, number)

    def _features(self, frame: Tensor, validate: bool) -> tuple[Features, tuple[Tensor, Tensor] | None]:
        """Features of the last frame, if there is one, and of this one; and what can be kept for the next call."""
        clip = frame[None] if self._last is None else torch.stack((self._last, frame))
        front: Any = self.segmenter.front_end
        if not all(hasattr(front, name) for name in ("appearance", "flow", "complete")):
            return self.segmenter.features(clip, validate=validate), None
        if validate:
            check_values("frames", frame, low=0, high=1)
        new = front.appearance(frame[None])
        both = (
            new
            if self._appearance is None
            else tuple(map(torch.cat, zip(self._appearance, new, strict=True)))
        )
        flow = front.flow(clip, size=(new[1].shape[-2], new[1].shape[-1]))
        return front.complete(*both, flow), new

    def _learn(self, features: Features) -> None:
        """Puts a frame whose features are known into the window."""
        config = self.config
        embedding, objectness, flow = (value[None] for value in features)
        present = torch.ones((1, 1), dtype=torch.bool, device=embedding.device)
        seeds, weights, forest = _regions(embedding, objectness, present, config)
        motion = _motion(flow, objectness, seeds, forest, config)
        before = self._past[-1].seeds if self._past else seeds
        past = _Past(seeds, motion, following_seeds(before.embedding, seeds.embedding, seeds.valid))
        self._past.append(past)
        self._waiting.append(_Waiting(self._known, embedding, weights, forest, past))
        self._known += 1

    def _emit(self, count: int) -> Segmentation:
        """Segmentation of the frames that have waited longest."""
        frames = [self._waiting.popleft() for _ in range(count)]
        seeds, motion, following = _joined([frame.past for frame in frames])
        weights, forest = (
            _joined([getattr(frame, name) for frame in frames]) for name in ("weights", "forest")
        )
        del following
        window = _joined(list(self._past))
        tracks = compose_tracks(window.following[:, 1:], window.seeds.valid)
        score = F.track_scores(
            tracks, window.seeds.objectness, window.motion.saliency, rank_by=self.config.rank_by
        )
        first = frames[0].number - (self._known - len(self._past))  # place in the window
        place = slice(first, first + count)
        seed = F.best_track(tracks, score)[:, place]
        initial = _initial(seeds, weights, forest, motion, seed, self.config)
        if self.config.rule == "robust":
            chosen = self._vote(window, place)
            sets = chosen, seeds.valid & ~chosen
        else:
            sets = _seed_sets(seeds, forest, motion, seed, initial, self.config)
        probability = self._adapt(frames, seeds, *sets)
        choice = _Choice(tracks[:, place], score, seed, initial, *sets)
        last = self._last
        size = None if last is None else (last.shape[-2], last.shape[-1])
        return _first_video(_result(probability, seeds, forest, motion, choice, size))

    def _vote(self, window: _Past, place: slice) -> Tensor:
        """Foreground seeds of the robust rule, of the frames at a place of the window."""
        config, (seeds, motion, _) = self.config, window
        length = seeds.valid.shape[1]
        options = {
            **_neighbors(config),
            "frames": config.smoothing_frames,
            "confident_share": config.confident_share,
        }
        if place == slice(0, length):  # the whole video at once: what segment does
            vote = take_vote(seeds.embedding, motion.evidence, seeds.valid, **options)
            return (vote.share > config.vote_threshold) & seeds.valid
        if self._panel is None or self._known >= self._panel_due:
            count = min(config.smoothing_frames, length)
            chosen = [number * length // count for number in range(count)]
            among = [value[0, chosen] for value in (seeds.embedding, motion.evidence, seeds.valid)]
            vote = take_vote(*among, **options)
            self._panel = _Panel(among[0], vote.confident.to(vote.share.dtype), among[2])
            self._panel_due = self._known + length // count
        valid = seeds.valid[0, place]
        share = share_of_neighbors(seeds.embedding[0, place], valid, *self._panel, **_neighbors(config))
        return ((share > config.vote_threshold) & valid)[None]

    def _adapt(self, frames: list[_Waiting], seeds: Seeds, foreground: Tensor, background: Tensor) -> Tensor:
        """Eq. 13-15 with seed sets renewed every ``adapt_every`` frames."""
        every, first = self.config.adapt_every, frames[0].number
        values = (seeds.embedding, foreground, background)
        kept = values if self._source is None else self._source
        sources = []  # 0: the sets kept from before; n + 1: those of the n-th of these frames
        for frame in frames:
            source = 0 if every is None else frame.number - frame.number % every
            sources.append(max(0, source - first + 1) if source >= first else 0)
        joined = [torch.cat((old[:, :1], new), 1) for old, new in zip(kept, values, strict=True)]
        picked = [value[:, sources] for value in joined]
        self._source = (picked[0][:, -1:], picked[1][:, -1:], picked[2][:, -1:])
        embedding = torch.cat([frame.embedding for frame in frames], 1)
        return F.foreground_probability(
            embedding, picked[0], picked[1], picked[2], temperature=self.config.temperature
        )


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
