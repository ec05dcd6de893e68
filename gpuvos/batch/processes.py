"""The local engine on all cores: videos side by side, each in a process of one thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from threading import Thread

from gpuvos.batch.jobs import Job
from gpuvos.batch.worker import FAILED, Outcome, RunOptions, SegmentVideo, Worker, finished_outcome
from gpuvos.cli.signals import Raising

_MEMORY = 4 * 2**30  # of one process, where their number is chosen
_worker: Worker | None = None  # of this process


def default_workers(memory: int = _MEMORY) -> int:
    """One worker a core that this process may use and 4 GiB of memory, at least one.

    Args:
        memory: bytes for each worker, where it is not 4 GiB.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    names = getattr(os, "sysconf_names", {})
    room = cores
    if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names):
        room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // memory
    return max(1, min(cores, room))


def run_processes(
    jobs: Sequence[Job], open_segmenter: Callable[[], SegmentVideo], options: RunOptions, workers: int
) -> Iterator[Outcome]:
    """Outcomes as they become known, one a job.

    A process computes with one thread, so that results are the same bits for any number of workers. Where one is
    killed, which the system does when memory runs out, the videos that are left go on one at a time.

    Args:
        jobs: what to segment.
        open_segmenter: builds what segments a video, in every process; can be pickled.
        options: of the run.
        workers: number of processes.
    """
    waiting = {str(job.output): job for job in jobs}
    others = multiprocessing.active_children()
    silent = 0  # pools that broke, one after another, without an outcome
    while waiting and silent <= 1 + options.retries:
        pool = ProcessPoolExecutor(
            min(workers, len(waiting)),
            mp_context=multiprocessing.get_context("spawn"),  # threads of torch do not survive a fork
            initializer=_open,
            initargs=(open_segmenter, options),
        )
        try:
            for future in as_completed([pool.submit(_segment, job) for job in waiting.values()]):
                outcome = future.result()
                del waiting[outcome.output]
                silent = 0
                yield outcome
        except BrokenProcessPool:
            workers, silent = 1, silent + 1
        finally:
            if waiting:
                for child in multiprocessing.active_children():
                    if child not in others:
                        child.terminate()
            pool.shutdown(cancel_futures=True)
    for job in waiting.values():
        killed = Outcome(str(job.video), str(job.output), FAILED, error="its process was killed again and again")
        yield finished_outcome(job, options) or killed


def _open(open_segmenter: Callable[[], SegmentVideo], options: RunOptions) -> None:
    import torch

    from gpuvos.cli.memory import keep_freed_memory

    global _worker
    signal.signal(signal.SIGTERM, _leave)
    end_with_parent()
    keep_freed_memory()
    torch.set_num_threads(1)
    _worker = Worker(open_segmenter(), options)


def end_with_parent() -> None:
    """Sends this process SIGTERM when the one that started it is gone: a pool's would wait for videos for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=watch, daemon=True).start()


class _Leave(SystemExit):
    """SIGTERM, which ends the video that is being segmented as an error does: nothing half-written is left."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def _leave(*_: object) -> None:
    raise _Leave


def _segment(job: Job) -> Outcome:
    assert _worker is not None
    try:
        with Raising({signal.SIGTERM: _Leave}):
            return _worker(job)
    except SystemExit as end:  # which the pool would take for an error of this video, and begin the next one
        os._exit(int(end.code or 0))
