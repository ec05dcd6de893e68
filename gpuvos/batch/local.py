"""The local engine: one video after another in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gpuvos.batch.jobs import Job
from gpuvos.batch.worker import Outcome, RunOptions, SegmentVideo, Worker


def run_local(
    jobs: Sequence[Job], open_segmenter: Callable[[], SegmentVideo], options: RunOptions
) -> Iterator[Outcome]:
    """Outcomes in the order of the jobs, each when it is known."""
    yield from map(Worker(open_segmenter(), options), jobs)
