"""The local engine: one video after another in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from gpuvos.batch.jobs import Job
from gpuvos.batch.worker import Outcome, RunOptions, SegmentVideo, Worker


def run_local(
    jobs: Sequence[Job],
    open_segmenter: Callable[[], SegmentVideo],
    options: RunOptions,
    *,
    cores: int | None = None,
) -> Iterator[Outcome]:
    """Outcomes in the order of the jobs, each when it is known.

    Args:
        jobs: what to segment.
        open_segmenter: builds what segments a video.
        options: of the run.
        cores: see ``on_cores``.
    """
    with on_cores(cores):
        yield from map(Worker(open_segmenter(), options), jobs)


@contextmanager
def on_cores(count: int | None) -> Iterator[None]:
    """Lets an operation of torch take so many cores inside of the block; None: as many as before.

    Example:
        >>> with on_cores(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
