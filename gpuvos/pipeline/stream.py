"""Video without an end: one frame in, one mask out, in memory that does not grow."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gpuvos.config import Config
from gpuvos.errors import check_count, fail
from gpuvos.features.base import FrontEnd
from gpuvos.pipeline.chunked import explain_memory
from gpuvos.pipeline.result import one_frame
from gpuvos.pipeline.stream_state import StreamState
from gpuvos.pipeline.video import VideoSegmenter
from gpuvos.types import Features, Segmentation


class StreamingSegmenter(nn.Module):
    """``VideoSegmenter`` one frame at a time, causal but for ``latency`` frames.

    What is kept of the last ``history`` frames, the window, is their seeds: tracks (Eq. 9-10) are ranked over it and
    begin at its oldest frame, and the votes of the robust rule are taken among ``config.smoothing_frames`` evenly
    spaced frames of it. Of the last ``latency`` frames the features are kept as well. So memory and the time a frame
    takes do not depend on how many have gone by. Of the frames after one, whose seed sets serve it as well
    (``config.adjacent_sets``), those count that its latency lets the stream know.

    With ``history=None`` and ``latency=None`` every mask comes from ``flush`` and equals that of ``VideoSegmenter`` bit
    for bit; so it is with numbers that no clip exceeds.

    A frame has its flow to the next one, for which a latency of 1 is needed; with ``latency=0`` it is minus the flow to
    the frame before (as that of the last frame of a clip always is). Either is computed once, and a front end that
    comes with the library sees every frame once; see ``gpuvos.features.pairwise`` for others.

    ``last_features`` are those of the frames that came out last.

    Args:
        front_end: the source of features, see ``VideoSegmenter``.
        config: parameters of the method; ``Config()`` where it is absent.
        refinement: refines probabilities, see ``VideoSegmenter``. Frames are then kept until their masks have
            been returned.
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
        refinement: nn.Module | None = None,
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
        self.segmenter = VideoSegmenter(front_end, config, refinement=refinement)
        if self.config.softness:
            raise fail("config.softness", str(self.config.softness), "0", "a stream is not trained through")
        self.history, self.latency = history, latency
        self._options: dict[str, Any] | None = None  # of torch.compile
        self.reset()

    @property
    def config(self) -> Config:
        """Parameters of the method."""
        return self.segmenter.config

    def reset(self) -> None:
        """Forgets every frame; the next one begins a new video, of any size."""
        self.last_features: Features | None = None  # of the Segmentation returned last
        self._own = self._state()

    def compile(self, **options: Any) -> None:
        """Compiles what every frame goes through: the networks, and the method up to the motion of its regions.

        These are three graphs, made at the first frames of a size. What the frames of the window decide together is
        bookkeeping over a few seeds, and stays in plain torch. Use it in place of ``torch.compile(segmenter.push)``,
        which leaves a stream as it is. It resets.

        Args:
            options: of ``torch.compile``.

        Example:
            >>> from gpuvos.features.appearance import AppearanceFeatures
            >>> segmenter = StreamingSegmenter(AppearanceFeatures(), latency=0)
            >>> segmenter.compile(backend="eager")
            >>> segmenter.push(torch.zeros(3, 32, 48, dtype=torch.uint8)).mask.shape
            torch.Size([1, 32, 48])
        """
        self._options = options
        self.reset()

    def _state(self) -> StreamState:
        return StreamState(self.segmenter, self.history, self.latency, self._options)

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
        if torch.compiler.is_compiling():  # what is kept between frames would be a new graph for every one of them
            plain: Callable[..., Segmentation | None] = torch.compiler.disable(  # type: ignore[no-untyped-call]
                StreamingSegmenter.push
            )
            return plain(self, frame, first_mask=first_mask, validate=validate)
        result = self._own.push(frame, first_mask, validate)
        if result is not None:
            self.last_features = self._own.last_features
        return result

    @torch.no_grad()
    @explain_memory("frames")
    def flush(self) -> Segmentation | None:
        """Returns the Segmentation of the frames that still wait, all together, and resets.

        Returns:
            Segmentation of at most ``latency`` frames, None where none waits.
        """
        result, features = self._own.flush(), self._own.last_features
        self.reset()
        self.last_features = None if result is None else features
        return result

    def stream(
        self, frames: Iterable[Tensor], *, first_mask: Tensor | None = None, validate: bool = True
    ) -> Iterator[Segmentation]:
        """Segments the frames of an iterable as they come: one Segmentation (T = 1) for each, in their order.

        What the stream remembers is its own: several may run at a time, and ``push`` knows of none of them.

        Args:
            frames: each ``[3, H, W]``, for example of ``gpuvos.data.iterate_video``; read only as far as needed.
            first_mask: the object in the first frame, see ``push``.
            validate: whether to look at the values, see ``push``.

        Example:
            >>> frames = torch.zeros(5, 3, 32, 48, dtype=torch.uint8)
            >>> sum(int(one.mask.shape[0]) for one in StreamingSegmenter(latency=2).stream(frames))
            5
        """
        state = self._state()
        for frame in frames:
            result = self._step(functools.partial(state.push, frame, first_mask, validate))
            first_mask = None
            if result is not None:
                self.last_features = state.last_features
                yield result
        rest, features = self._step(state.flush), state.last_features
        if rest is not None and features is not None:
            for number in range(rest.mask.shape[0]):
                self.last_features = Features(*(value[number : number + 1] for value in features))
                yield one_frame(rest, number)

    @torch.no_grad()
    @explain_memory("frame")
    def _step(self, run: Callable[[], Segmentation | None]) -> Segmentation | None:
        return run()
