"""Many videos: which of them are done, who segments the others, and what became of each."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gpuvos.batch.jobs import Job
from gpuvos.batch.worker import DONE, FAILED, Outcome, RunOptions
from gpuvos.cli.progress import progress
from gpuvos.data.atomic import atomic_file, lock_path
from gpuvos.data.locks import lock_file
from gpuvos.errors import fail, printable

Engine = Callable[[Sequence[Job]], Iterator[Outcome]]

_LOOKUPS = 16  # records that are read at once, as a file system of the network answers slowly


class Summary(NamedTuple):
    """What became of the videos of a run."""

    done: int
    skipped: int
    failures: tuple[Outcome, ...]
    frames: int  # of those done now


def run_jobs(jobs: Sequence[Job], engine: Engine, options: RunOptions, report: Path) -> Summary:
    """Segments what is not done yet.

    Args:
        jobs: one a video.
        engine: gives one outcome a job.
        options: of the run.
        report: file that lists the videos that failed; it is removed where none did.
    """
    with ThreadPoolExecutor(_LOOKUPS) as pool:
        finished = list(pool.map(partial(_finished, options), jobs))
    waiting = [job for job, there in zip(jobs, finished, strict=True) if not there]
    done, frames, failures = 0, 0, []
    for parent in {job.output.parent for job in waiting}:
        try:
            parent.mkdir(parents=True, exist_ok=True)  # here, so that no process removes what another needs
        except OSError as error:
            raise fail("--output", f"'{parent}' ({error.strerror})", "a folder that can be written to") from error
    try:
        with progress(len(waiting), len(jobs) - len(waiting), unit="video") as advance:
            for outcome in engine(waiting) if waiting else ():
                done += outcome.status == DONE
                frames += outcome.frames if outcome.status == DONE else 0
                if outcome.status == FAILED:
                    failures.append(outcome)
                    print(printable(f"{outcome.video}: {outcome.error}"), file=sys.stderr, flush=True)
                advance(printable(Path(outcome.video).name))
    finally:
        for job in waiting:
            _clean(options, job)
        with suppress(OSError):  # not empty while another run goes on
            options.scratch.rmdir()
    _write_report(report, failures)
    return Summary(done, len(jobs) - done - len(failures), tuple(failures), frames)


def _finished(options: RunOptions, job: Job) -> bool:
    """Whether a job is done, and nobody who writes it, or was killed then, left a lock."""
    return options.finished(job) and not lock_path(job.output).exists()


def _clean(options: RunOptions, job: Job) -> None:
    """Deletes the work folders of a job, unless another run is at it."""
    folders = options.work_folders(job)
    if folders.is_dir():
        with suppress(OSError), lock_file(lock_path(job.output), wait=False) as held:
            if held:
                shutil.rmtree(folders, ignore_errors=True)


def _write_report(report: Path, failures: Sequence[Outcome]) -> None:
    if not failures:
        report.unlink(missing_ok=True)
        return
    rows = [
        {"video": row.video, "output": row.output, "attempts": row.attempts, "error": row.error} for row in failures
    ]
    with atomic_file(report) as file:
        file.write_text(json.dumps({"failures": rows}, indent=1) + "\n", encoding="utf-8")
