"""One video on several cores: threads that each see some of its frames, with the bits of one thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gpuvos.errors import check_count, fail
from gpuvos.features.base import accepted
from gpuvos.flow.inference import InferenceModule
from gpuvos.pipeline.video import VideoSegmenter
from gpuvos.types import Features, Progress

_FLOW_PART = 15  # frames whose flow a thread computes at a time; with the one beside them as many as fill a core


class ThreadedFeatures(InferenceModule):
    """A front end on the CPU that sees the frames of a clip in several threads, without gradients.

    Operators of torch share their own work among the cores less well than threads share frames. So the networks see one
    frame at a time, each on one core, while another thread computes the flow of some others. The features are, bit for
    bit, those of one thread, whatever their number. On other devices the front end is called as it is.

    Args:
        front_end: one with ``encode``, ``flow`` and ``complete``, as all of the library.
        threads: how many; each takes some 0.4 GB for frames of 480 x 854 pixels.

    Raises:
        InputError: a front end without these methods, or no thread.

    Example:
        >>> from gpuvos.features.appearance import AppearanceFeatures
        >>> frames = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
        >>> found = ThreadedFeatures(AppearanceFeatures(), threads=2)(frames)
        >>> torch.equal(found.flow, AppearanceFeatures()(frames).flow)
        True
    """

    def __init__(self, front_end: nn.Module, *, threads: int) -> None:
        super().__init__()
        if not all(hasattr(front_end, name) for name in ("encode", "flow", "complete")):
            raise fail("front_end", type(front_end).__name__, "a front end with encode, flow and complete")
        check_count("threads", threads)
        self.front_end: Any = front_end
        self.threads = threads
        self.eval()

    @property
    def flow(self) -> nn.Module:
        """That of the front end, which a stream calls itself."""
        flow: nn.Module = self.front_end.flow
        return flow

    def forward(self, frames: Tensor, *, validate: bool = True, progress: Progress | None = None) -> Features:
        """Computes the features of a clip; result and errors are those of the front end.

        Args:
            frames: ``[T, 3, h, w]`` uint8, or floating point in [0, 1].
            validate: whether the flow looks at the values of the frames.
            progress: called with ``"network"`` or ``"flow"``, the frames that are done and all of them.
        """
        if _is_for_others(frames):
            features: Features = self.front_end(
                frames, **accepted(self.front_end, validate=validate, progress=progress)
            )
            return features
        count = len(frames)
        encoded: list[Future[tuple[Tensor, Tensor]]] = []
        flows: list[Future[Tensor]] = []
        stages: dict[Future[Any], tuple[str, int]] = {}
        length = min(_FLOW_PART, -(-count // self.threads))
        with _one_core_each(self.threads) as pool:

            def run(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
                return pool.submit(_without_gradients, function, *arguments)

            def look(stop: int) -> None:
                for number in range(len(encoded), min(stop, count)):
                    encoded.append(run(self.front_end.encode, frames[number : number + 1]))
                    stages[encoded[-1]] = ("network", 1)

            look(self.threads)
            # a flow among networks: two flows side by side, all small operations, wait for each other
            for part in (range(first, min(first + length, count)) for first in range(0, count, length)):
                flows.append(run(self._flow, frames, part, encoded[0], validate))
                stages[flows[-1]] = ("flow", len(part))
                look(part.stop)
            _watch(stages, count, progress)
        embedding, objectness = (torch.cat([one.result()[place] for one in encoded]) for place in (0, 1))
        return self.complete(embedding, objectness, torch.cat([one.result() for one in flows]))

    def encode(self, frames: Tensor, *, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """That of the front end, in this thread: a stream asks for a frame at a time."""
        found: tuple[Tensor, Tensor] = self.front_end.encode(
            frames, **accepted(self.front_end.encode, progress=progress)
        )
        return found

    def complete(self, embedding: Tensor, objectness: Tensor, flow: Tensor) -> Features:
        """Features from ``encode`` and the flow of the clip."""
        features: Features = self.front_end.complete(embedding, objectness, flow)
        return features

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"threads={self.threads}"

    def _flow(self, frames: Tensor, part: range, first: Future[tuple[Tensor, Tensor]], validate: bool) -> Tensor:
        """Flow of a part of the frames, for which it needs the one beside them, on the grid of the first frame."""
        stop = min(part.stop + 1, len(frames))
        start = part.start if stop - part.start > 1 else max(0, part.start - 1)
        size = tuple(first.result()[1].shape[-2:])
        flow: Tensor = self.flow(frames[start:stop], size=size, **accepted(self.flow, validate=validate))
        return flow[part.start - start : part.stop - start]


class ThreadedRefinement(nn.Module):
    """A refinement on the CPU that sees the frames of a clip in several threads, one each, without gradients.

    Bits and other devices are as of ``ThreadedFeatures``. A single frame is refined in the thread of the caller.

    Args:
        refinement: a module called with probability and image, to which frames mean nothing to one another, as of all
            of the library.
        threads: how many.

    Raises:
        InputError: no thread.

    Example:
        >>> from gpuvos.nn import GuidedFilter
        >>> refine = ThreadedRefinement(GuidedFilter(), threads=2)
        >>> refine(torch.rand(3, 24, 32), torch.rand(3, 3, 24, 32)).shape
        torch.Size([3, 24, 32])
    """

    def __init__(self, refinement: nn.Module, *, threads: int) -> None:
        super().__init__()
        check_count("threads", threads)
        self.refinement, self.threads = refinement, threads

    def forward(self, probability: Tensor, image: Tensor, *, validate: bool = True) -> Tensor:
        """Probability ``[T, H, W]`` of the foreground given ``probability [T, H, W]`` and ``image [T, 3, H, W]``."""
        refine = partial(self.refinement, **accepted(self.refinement, validate=validate))
        if _is_for_others(image) or probability.ndim != 3 or len(image) != len(probability) or len(image) == 1:
            refined: Tensor = refine(probability, image)
            return refined
        with _one_core_each(self.threads) as pool:
            pairs = zip(torch.split(probability, 1), torch.split(image, 1), strict=True)
            futures = [pool.submit(_without_gradients, refine, *pair) for pair in pairs]
            return torch.cat([future.result() for future in futures])

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"threads={self.threads}"


def in_threads(segmenter: VideoSegmenter, threads: int) -> VideoSegmenter:
    """The same segmenter with its front end and its refinement in several threads; it shares their weights.

    Args:
        segmenter: with a front end as ``ThreadedFeatures`` takes.
        threads: how many; 1 gives the same bits.

    Raises:
        InputError: as of ``ThreadedFeatures``.

    Example:
        >>> frames = torch.zeros(3, 3, 32, 48, dtype=torch.uint8)
        >>> in_threads(VideoSegmenter(), 2)(frames).mask.shape
        torch.Size([3, 32, 48])
    """
    front_end: Any = segmenter.front_end
    refinement = segmenter.refinement
    return VideoSegmenter(
        ThreadedFeatures(front_end, threads=threads),
        segmenter.config,
        refinement=None if refinement is None else ThreadedRefinement(refinement, threads=threads),
        chunk=segmenter.chunk,
    ).train(segmenter.training)


def _is_for_others(frames: Tensor) -> bool:
    """Whether frames are left to what is wrapped: on another device, in a trace, or none."""
    return torch.compiler.is_compiling() or frames.device.type != "cpu" or len(frames) == 0


@contextmanager
def _one_core_each(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool in whose threads operators of torch take one core. What waits is dropped where the block raises."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "frames", torch.set_num_threads, (1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # the number that later threads begin with; that of this one has not changed


@torch.no_grad()
def _without_gradients(function: Callable[..., Any], *arguments: Any) -> Any:
    """Gradients are switched off for each thread by itself."""
    return function(*arguments)


def _watch(stages: Mapping[Future[Any], tuple[str, int]], total: int, progress: Progress | None) -> None:
    """Waits for all, tells how many frames are through a stage, and raises what the first that fails does."""
    done: Counter[str] = Counter()
    for future in as_completed(stages):
        future.result()
        stage, frames = stages[future]
        done[stage] += frames
        if progress is not None:
            progress(stage, done[stage], total)
