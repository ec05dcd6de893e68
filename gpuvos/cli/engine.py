"""One video or many, here or on a cluster: the options of ``gpuvos segment`` for it, and the run."""

from __future__ import annotations

import hashlib
import secrets
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from gpuvos.batch.jobs import Job, plan_jobs
from gpuvos.batch.local import on_cores, run_local
from gpuvos.batch.processes import default_workers, run_processes
from gpuvos.batch.ray import RayOptions, run_ray
from gpuvos.batch.run import Engine, run_jobs
from gpuvos.batch.worker import RunOptions, SegmentVideo, Worker
from gpuvos.cli.common import pick_device
from gpuvos.data.atomic import lock_path
from gpuvos.data.side_files import read_bytes
from gpuvos.errors import fail, printable

# What results do not depend on; every other argument of the command is in the record.
_OPERATION = {
    "command",
    "video",
    "output",
    "overwrite",
    "device",
    "engine",
    "retries",
    "workers",
    "ray_address",
}
_THREAD_MEMORY = 2**30  # of one thread of a video, where their number is chosen: twice what it takes
OpenSegmenter = Callable[..., SegmentVideo]  # called with the arguments, and with threads= for those of one video


def run_engine(arguments: Namespace, open_segmenter: OpenSegmenter) -> int:
    """Segments every video that is not done yet; returns the exit status, 1 where a video failed."""
    jobs = plan_jobs(arguments.video, arguments.output)
    if arguments.first_mask is not None and len(jobs) > 1:
        raise fail("--first-mask", f"{len(jobs)} videos", "one video")
    single = arguments.engine == "local" and [Path(text).absolute() for text in arguments.video] == [jobs[0].video]
    root = jobs[0].output.parent if single or arguments.output is None else arguments.output.absolute()
    options = RunOptions(
        settings(arguments),
        secrets.token_hex(4),
        root / ".gpuvos-work",
        arguments.retries,
        arguments.overwrite,
    )
    if arguments.overwrite:
        _check_kept(arguments, jobs)
    if single:
        return _run_single(arguments, jobs[0], open_segmenter, options)
    summary = run_jobs(jobs, _engine(arguments, open_segmenter, options), options, root / "failures.json")
    print(
        f"{summary.done} videos segmented ({summary.frames} frames), {summary.skipped} were there already, "
        f"{len(summary.failures)} failed"
    )
    if summary.failures:
        print(
            f"gpuvos: {root / 'failures.json'} says what failed; run the same command to try again",
            file=sys.stderr,
        )
    return int(bool(summary.failures))


def _run_single(arguments: Namespace, job: Job, open_segmenter: OpenSegmenter, options: RunOptions) -> int:
    """One video here, on a CPU its frames in several threads: its errors are those of the command."""
    output = printable(str(job.output))
    there = options.finished(job) and not lock_path(job.output).exists()
    if not there:
        threads, cores = 1, None
        if pick_device(arguments.device).type == "cpu":
            threads = arguments.workers or default_workers(_THREAD_MEMORY)
            cores = 1 if threads == 1 else None
        with on_cores(cores):
            there = Worker(open_segmenter(arguments, threads=threads), options).attempt(job) is None
    if there:
        print(f"{output} is there already, with these settings; --overwrite makes it again")
        return 0
    report = "" if arguments.no_report else ", report.html"
    arrays = "" if arguments.no_arrays else ", result-*.npz"
    print(f"{output}: masks/*.png, overlay.mp4, sheet.png{report}{arrays}")
    return 0


def _check_kept(arguments: Namespace, jobs: Sequence[Job]) -> None:
    """Raises InputError where a folder that is to be replaced holds what a job of this run reads."""
    replaced = {job.output.resolve(): job.output for job in jobs}
    kept = [("video", job.video) for job in jobs]
    kept += [
        (option, path)
        for option in ("first-mask", "weights")
        if (path := getattr(arguments, option.replace("-", "_"))) is not None
    ]
    for option, path in kept:
        whole = path.resolve()
        for folder in (whole, *whole.parents):
            if folder in replaced:
                got = f"'{replaced[folder]}', which would be deleted with '{path}' in it"
                raise fail("--output", got, f"a folder without the {option} of this run")


def _engine(arguments: Namespace, open_segmenter: OpenSegmenter, options: RunOptions) -> Engine:
    if arguments.engine == "local":
        on_cpu = pick_device(arguments.device).type == "cpu"
        workers = arguments.workers or default_workers() if on_cpu else 1
        if workers == 1:  # on a CPU with the bits of any number of workers
            here = partial(open_segmenter, arguments)
            return partial(run_local, open_segmenter=here, options=options, cores=1 if on_cpu else None)
        open_segmenter(arguments)  # what is wrong shows here, not in every process
        apart = Namespace(**{**vars(arguments), "engine": "processes"})
        return partial(run_processes, open_segmenter=partial(open_segmenter, apart), options=options, workers=workers)
    if ":" in arguments.device:
        raise fail("--device", arguments.device, "auto, cpu or cuda", "Ray chooses the GPU of each actor")
    open_segmenter(Namespace(**{**vars(arguments), "device": "cpu"}))  # what is wrong shows here, not in every actor
    absolute = {name: value.absolute() if isinstance(value, Path) else value for name, value in vars(arguments).items()}
    return partial(
        run_ray,
        open_segmenter=partial(open_segmenter, Namespace(**absolute)),
        options=options,
        where=RayOptions(arguments.ray_address, arguments.workers, arguments.device),
    )


def settings(arguments: Namespace) -> Mapping[str, object]:
    """What the results of ``gpuvos segment`` depend on besides the video; files by the hash of their contents."""
    import gpuvos

    chosen: dict[str, object] = {"gpuvos": gpuvos.__version__}
    for name, value in sorted(vars(arguments).items()):
        if name not in _OPERATION:
            chosen[name] = _digest(name, value) if isinstance(value, Path) else value
    return chosen


def _digest(name: str, path: Path) -> str:
    return hashlib.sha256(read_bytes("--" + name.replace("_", "-"), path, "a file that can be read")).hexdigest()
