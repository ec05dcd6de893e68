"""What one process does with one video: skip what is there, try again, leave all or nothing."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import gpuvos
from gpuvos.batch.jobs import Job
from gpuvos.batch.manifest import RECORD, count_files, input_hash, read_record, settings_hash, write_record
from gpuvos.data.atomic import atomic_folder, check_outside, lock_target
from gpuvos.errors import InputError, OutOfMemoryError, fail, printable

SegmentVideo = Callable[[Path, Path], int]  # video, folder to fill -> number of frames

DONE, SKIPPED, FAILED = "done", "skipped", "failed"


class Outcome(NamedTuple):
    """What became of a video."""

    video: str
    output: str
    status: str  # done, skipped or failed
    attempts: int = 0  # that began, those of killed processes included
    frames: int = 0
    error: str = ""


@dataclass(frozen=True)
class RunOptions:
    """What all processes of a run share.

    Args:
        settings: everything that results depend on besides the video, as JSON can hold it.
        run: name of this run, another for every run.
        scratch: folder of the work folders, on the file system of the results.
        retries: how often a video is tried again after an error or a killed process. Bad input is not tried again.
        overwrite: make again what is there, and replace what was made of another input or with other settings.
    """

    settings: Mapping[str, object]
    run: str
    scratch: Path
    retries: int = 2
    overwrite: bool = False
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", settings_hash(self.settings))

    def work_folders(self, job: Job) -> Path:
        """Where the work folders of a job lie: no other job's do."""
        return self.scratch / hashlib.sha256(str(job.output).encode()).hexdigest()[:24]

    def finished(self, job: Job) -> bool:
        """Whether results are there, all of them, that this run would make again just so, or has made itself."""
        record = read_record(job.output)
        if record is None or (self.overwrite and record["run"] != self.run):
            return False
        return self.difference(job, record) is None

    def difference(self, job: Job, record: Mapping[str, object]) -> str | None:
        """What tells results, by their record, from those that this run would make; None: nothing."""
        if record["settings_hash"] != self.key:
            return "made with other settings"
        now = input_hash(job.video)
        if now is None:
            return f"made of '{job.video}', which is no longer there"
        if record.get("input_hash") != now:
            return "made of another input, or of this one before it changed"
        files = record.get("files")
        if not isinstance(files, int) or count_files(job.output) < files:
            return "not all there any more"
        return None


class Worker:
    """Segments videos one after another.

    The folder of results is locked meanwhile: of two runs, the second waits and finds what the first made.

    A video is tried ``1 + retries`` times in all. Every attempt fills a work folder named RUN-NUMBER, so that a
    process that takes over after another was killed knows how many attempts began, and deletes what they left. A
    folder of results appears by one rename with the record inside: where there is a record, there is all.

    Args:
        segment: fills a folder with the results of a video and returns the number of its frames.
        options: of the run.
    """

    def __init__(self, segment: SegmentVideo, options: RunOptions) -> None:
        self.segment, self.options = segment, options

    def __call__(self, job: Job) -> Outcome:
        """Segments a video unless that is done; errors are in the outcome."""
        try:
            with lock_target(job.output, waiting=lambda: _say_waiting(job)) as locked:
                return self._locked(job, locked)
        except InputError as wrong:  # its folder cannot be written to
            return Outcome(str(job.video), str(job.output), FAILED, error=str(wrong))

    def _locked(self, job: Job, locked: bool) -> Outcome:
        video, output, options = str(job.video), str(job.output), self.options
        done = finished_outcome(job, options)  # by another run, or an attempt killed before it could say so
        if done is not None:
            return done
        folders = options.work_folders(job)
        attempt, error = _begun(folders, options.run, locked), "the process was killed"
        try:
            while attempt <= options.retries:
                attempt += 1
                try:
                    frames = self._attempt(job, attempt, folders / f"{options.run}-{attempt}")
                except InputError as wrong:
                    error = str(wrong)
                    if not isinstance(wrong, OutOfMemoryError):  # others may leave more of it the next time
                        return Outcome(video, output, FAILED, attempt, error=error)
                except Exception as wrong:  # whatever it is, the other videos go on
                    error = f"{type(wrong).__name__}: {wrong}"
                else:
                    return Outcome(video, output, DONE, attempt, frames)
            return Outcome(video, output, FAILED, attempt, error=error)
        finally:
            with suppress(OSError):
                folders.rmdir()

    def attempt(self, job: Job) -> int | None:
        """One attempt, whose errors are raised; returns the number of frames, None where they were there already."""
        with lock_target(job.output, waiting=lambda: _say_waiting(job)):
            return None if self.options.finished(job) else self._attempt(job)

    def _attempt(self, job: Job, number: int = 1, work: Path | None = None) -> int:
        options = self.options
        record = read_record(job.output)
        if not options.overwrite and record is not None:
            got = f"'{job.output}', which was {options.difference(job, record)}"
            raise fail("--output", got, "a new folder", "choose another one, or replace it with --overwrite")
        if options.overwrite:
            check_outside("--output", job.video, job.output)
            if record is None and job.output.is_dir() and any(job.output.iterdir()):
                got = f"'{job.output}' without a {RECORD} of gpuvos"
                raise fail("--output", got, "a new folder or one of results, which --overwrite replaces")
        begin = time.monotonic()
        inputs = input_hash(job.video)  # before it is read: what changes meanwhile is made again the next time
        with atomic_folder(job.output, overwrite=options.overwrite, work=work, locked=True) as folder:
            frames = self.segment(job.video, folder)
            write_record(
                folder,
                gpuvos=gpuvos.__version__,
                video=str(job.video),
                frames=frames,
                files=count_files(folder),
                attempts=number,
                seconds=round(time.monotonic() - begin, 3),
                run=options.run,
                input_hash=inputs,
                settings_hash=options.key,
                settings=dict(options.settings),
            )
        return frames


def finished_outcome(job: Job, options: RunOptions) -> Outcome | None:
    """The outcome of a job whose results are there, None where they are not."""
    if not options.finished(job):
        return None
    record = read_record(job.output)
    if record is None:  # deleted this moment
        return None
    status = DONE if record["run"] == options.run else SKIPPED
    return Outcome(str(job.video), str(job.output), status, record["attempts"], record["frames"])


def _say_waiting(job: Job) -> None:
    print(f"another run is writing {printable(str(job.output))}: waiting for it", file=sys.stderr, flush=True)


def _begun(folders: Path, run: str, locked: bool) -> int:
    """How many attempts of this run began, all of whose processes are gone; deletes what they left, or any run did."""
    begun = 0
    for left in list(folders.iterdir()) if folders.is_dir() else []:
        name, _, number = left.name.rpartition("-")
        if name == run and number.isdigit():
            begun = max(begun, int(number))
        elif not locked:  # where there are no locks it may be of a run that goes on
            continue
        shutil.rmtree(left, ignore_errors=True)
    return begun
