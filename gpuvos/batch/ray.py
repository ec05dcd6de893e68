"""The Ray engine: a pool of actors segments videos on the machines of a Ray cluster, or on the cores of this one.

One task is one video. Decoding is no stage of its own: raw frames are hundreds of times as large as their file, and
would go through the object store, in order, to the one actor that holds the state of their video. Instead, a thread
of the actor decodes the next clip while the current one is segmented.

Ray starts a killed actor anew and gives it its task again; the record in the results, and the number of the attempt in
the name of the work folder, make that harmless and finite.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpuvos.batch.jobs import Job
from gpuvos.batch.worker import FAILED, Outcome, RunOptions, SegmentVideo, Worker, finished_outcome
from gpuvos.errors import fail

_MEMORY = 4 * 2**30  # of one actor, where their number is chosen
_TASKS = 10_000  # at most; of more videos each task takes several
_INIT_DEATHS = 3  # actors in a row that may die while they load the network


class RayOptions(NamedTuple):
    """Where to run, and on what.

    Args:
        address: of a running cluster, ``auto`` for the one of this machine, or ``local``: a Ray of its own.
        workers: number of actors; None: one a GPU, without GPUs one a core and 4 GiB of memory.
        device: ``auto``: on GPUs where the cluster has them; ``cuda`` or ``cpu``.
    """

    address: str = "local"
    workers: int | None = None
    device: str = "auto"


class Share(NamedTuple):
    """Number of actors, and what each of them takes."""

    actors: int
    cpus: float
    gpus: float


def share(resources: Mapping[str, float], options: RayOptions) -> Share:
    """Divides the CPUs, GPUs and memory (bytes) of a cluster among actors.

    Raises:
        InputError: if GPUs are asked for where there are none.

    Example:
        >>> share({"CPU": 32, "GPU": 8}, RayOptions())
        Share(actors=8, cpus=1.0, gpus=1.0)
        >>> share({"CPU": 32, "GPU": 8}, RayOptions(workers=12))
        Share(actors=12, cpus=1.0, gpus=0.5)
        >>> share({"CPU": 32, "memory": 64 * 2**30}, RayOptions())
        Share(actors=16, cpus=2.0, gpus=0.0)
    """
    cpus, gpus = resources.get("CPU", 1.0), int(resources.get("GPU", 0))
    if options.device == "cuda" and not gpus:
        raise fail("--device", "cuda, but the cluster has no GPU", "auto or cpu")
    if gpus and options.device != "cpu":
        actors = options.workers or gpus
        return Share(actors, min(1.0, cpus / actors), 1 / math.ceil(actors / gpus))
    room = resources.get("memory", cpus * _MEMORY) // _MEMORY
    actors = options.workers or max(1, int(min(cpus, room)))
    return Share(actors, float(cpus // actors) or cpus / actors, 0.0)


class SegmentActor:
    """One process of the pool: builds the segmenter once."""

    def __init__(self, open_segmenter: Callable[[], SegmentVideo], options: RunOptions) -> None:
        self.worker = Worker(open_segmenter(), options)

    def __call__(self, row: dict[str, str]) -> dict[str, Any]:
        """Row of a job to row of an outcome."""
        return self.worker(Job(Path(row["video"]), Path(row["output"])))._asdict()


def run_ray(
    jobs: Sequence[Job], open_segmenter: Callable[[], SegmentVideo], options: RunOptions, where: RayOptions
) -> Iterator[Outcome]:
    """Outcomes as they become known, one a job.

    Args:
        jobs: their paths must mean the same on every machine.
        open_segmenter: builds what segments a video, in every actor; can be pickled.
        options: of the run.
        where: the cluster.

    Raises:
        InputError: if Ray is not installed or cannot be reached, or has not what ``where`` asks for.
    """
    ray = _connect(where.address)
    waiting = {str(job.output): job for job in jobs}
    error = ""
    try:
        for row in _dataset(ray, jobs, open_segmenter, options, share(ray.cluster_resources(), where)).iter_rows():
            waiting.pop(row["output"])
            yield Outcome(**row)
    except ray.exceptions.RayError as lost:
        error = f": {lost}"
    finally:
        ray.shutdown()
    for job in waiting.values():
        yield finished_outcome(job, options) or Outcome(
            str(job.video), str(job.output), FAILED, error=f"Ray lost the task{error}"
        )


def _connect(address: str) -> Any:
    """The module, connected. A Ray of its own listens on the loopback interface alone and reports nothing."""
    local = address == "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if local:  # Ray's own switch for machines where it is to open no port; its name is older than this use
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
        import ray.data
    except ImportError as missing:
        remedy = "pip install 'gpuvos[ray]'"
        raise fail("--engine", f"ray, which cannot be imported ({missing})", "local", remedy) from missing
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    own = {"include_dashboard": False, "object_store_memory": 2**27} if local else {}
    try:
        ray.init(address=address, logging_level=logging.WARNING, **own)
    except (ConnectionError, ValueError, RuntimeError) as refused:
        remedy = "start it with ray start, or leave the option out"
        raise fail("--ray-address", f"'{address}' ({refused})", "a Ray cluster", remedy) from refused
    return ray


def _dataset(
    ray: Any,
    jobs: Sequence[Job],
    open_segmenter: Callable[[], SegmentVideo],
    options: RunOptions,
    each: Share,
) -> Any:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = -1  # a long video may take hours
    context.max_errored_blocks = -1  # what Ray gives up is reported, and the others go on
    context.max_consecutive_actor_init_deaths = _INIT_DEATHS
    rows = [{"video": str(job.video), "output": str(job.output)} for job in jobs]
    pool = ray.data.ActorPoolStrategy(size=min(each.actors, len(rows)), max_tasks_in_flight_per_actor=1)
    dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), _TASKS))
    # Killed actors are started anew and given their task again without limit: Ray Data's default. Worker has a limit.
    return dataset.map(
        SegmentActor,
        fn_constructor_args=(open_segmenter, options),
        compute=pool,
        num_cpus=each.cpus,
        num_gpus=each.gpus,
    )
