"""Time and peak memory against frames, pixels, channels and seeds."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from gpuvos.bench.environment import write_record
from gpuvos.bench.runner import time_stage, times
from gpuvos.bench.stages import STAGES, Stage
from gpuvos.bench.timing import available_bytes
from gpuvos.bench.workload import SIZES, Inputs, Workload
from gpuvos.data.atomic import atomic_file
from gpuvos.viz.charts import Series, line_chart
from gpuvos.viz.maps import save_png

_METHOD = (
    "edge weights, edge map, candidates",
    "seeds",
    "minimax forest",
    "probability",
    "whole method, paper",
    "whole method, robust",
)
_EVERYTHING = "frames -> masks"
_CALLS = 4  # of a point: one that does not count and three rounds
_TITLES = {
    "frames": "frames T",
    "pixels": "pixels of the grid",
    "channels": "channels D",
    "seeds": "seeds K of a frame",
}
Axes = dict[str, list[Workload]]


def default_axes(base: Workload) -> Axes:
    """The workloads of every axis around a base: T to 160, 240p to 2160p at stride 4 and 1, D to 256, K to 400."""
    one = base._replace(frames=1)
    pixels = [one._replace(height=h, width=w, stride=s) for s in (4, 1) for h, w in SIZES.values()]
    seeds = (25, 50, 100, 200, 400)
    return {
        "frames": [base._replace(frames=n) for n in (1, 2, 4, 8, 16, 32, 64, 128, 160)],
        "pixels": sorted(pixels, key=lambda workload: workload.pixels),
        "channels": [base._replace(channels=n) for n in (16, 32, 64, 128, 256)],
        "seeds": [base._replace(seeds=n, robust_seeds=n) for n in seeds],
    }


def place(axis: str, workload: Workload) -> int:
    """Where a workload lies on an axis.

    Example:
        >>> place("pixels", Workload(height=480, width=854, stride=4))
        25680
    """
    return int(getattr(workload, axis))


@torch.no_grad()
def measure_curves(
    axes: Axes,
    *,
    point_seconds: float = 20.0,
    rounds: int = 5,
    clock: str = "wall",
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Times the stages at every point of every axis, each axis from its smallest workload on.

    From the point before, in proportion to the place on the axis, follow the time and the memory of the next; a point
    is left out where it would take more than ``point_seconds`` or more than half of the memory that is free.

    Args:
        axes: workloads in ascending order.
        point_seconds: of one stage at one point.
        rounds: timed calls, fewer (three at the least) where they take too long.
        clock: as in ``measure``.
        progress: told what comes next.

    Returns:
        ``curves`` of a record; times in milliseconds a frame.
    """
    points = []
    for axis, workloads in axes.items():
        last: dict[str, dict[str, Any]] = {}
        for workload in workloads:
            progress(f"{axis} {place(axis, workload)}")
            inputs = Inputs(workload)
            for stage in STAGES:
                if not _belongs(stage, axis, workload):
                    continue
                reason = _too_large(axis, workload, last.get(stage.name), point_seconds)
                timing, error = None, reason
                if reason is None:
                    options = {"rounds": rounds, "max_seconds": 0.75 * point_seconds, "clock": clock}
                    timing, error = time_stage(stage, inputs, options)
                point = {
                    "axis": axis,
                    "stage": stage.name,
                    "workload": workload._asdict(),
                    **times(timing, workload.frames),
                    "left_out": error,
                }
                points.append(point)
                if timing is not None:
                    last[stage.name] = point
    return points


def _belongs(stage: Stage, axis: str, workload: Workload) -> bool:
    if stage.name == _EVERYTHING:  # the network chooses channels and stride itself
        return axis in ("frames", "pixels") and workload.stride == 4
    return stage.name in _METHOD


def _too_large(axis: str, workload: Workload, last: dict[str, Any] | None, seconds: float) -> str | None:
    """Why a point is left out, judged by the last point of the same curve that was measured."""
    free = available_bytes(torch.device(workload.device))
    features = workload.frames * workload.pixels * (workload.channels + 3)
    needed = features * workload.element + workload.pixels * workload.channels * 8  # and one frame's noise
    if last is not None:
        before = Workload(**last["workload"])
        growth = place(axis, workload) / place(axis, before)
        call = growth * last["median"] * before.frames / 1e3
        if _CALLS * call > seconds:
            return f"about {call:.2g} s a call"
        needed += int(growth * (last["peak_bytes"] or 0))
    if free is not None and needed > free / 2:
        return f"about {needed / 2**30:.2g} GiB of the {free / 2**30:.2g} that are free"
    return None


def write_curves(folder: Path, name: str, record: dict[str, Any]) -> list[Path]:
    """Writes ``NAME.json``, ``NAME.csv`` and, of every axis, ``NAME-AXIS-time.png`` and ``NAME-AXIS-memory.png``.

    Args:
        folder: where to.
        name: of the files.
        record: with ``curves``.

    Returns:
        The files.
    """
    points = record["curves"]
    files = [folder / f"{name}.json", folder / f"{name}.csv"]
    write_record(files[0], record)
    with atomic_file(files[1]) as path, path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        sizes, values = list(Workload._fields), ("median", "q1", "q3", "rounds", "peak_bytes", "left_out")
        writer.writerow(["axis", "stage", *sizes, *values])
        for point in points:
            cells = [point["workload"][size] for size in sizes] + [point[value] for value in values]
            writer.writerow([point["axis"], point["stage"], *("" if cell is None else cell for cell in cells)])
    where = f"{record['device']['name']}, {record['threads']} thread(s)"
    for axis in dict.fromkeys(point["axis"] for point in points):
        for kind, draw in (("time", _milliseconds), ("memory", _mebibytes)):
            files.append(folder / f"{name}-{axis}-{kind}.png")
            save_png(files[-1], _chart([point for point in points if point["axis"] == axis], kind, draw, where))
    return files


def _milliseconds(point: dict[str, Any]) -> float | None:
    """Of the whole call."""
    return None if point["median"] is None else point["median"] * point["workload"]["frames"]


def _mebibytes(point: dict[str, Any]) -> float | None:
    """Peak beyond the inputs; what is below a tenth of a MiB cannot be told from nothing."""
    return max(point["peak_bytes"] / 2**20, 0.1) if point["peak_bytes"] is not None else None


def _chart(
    points: Sequence[dict[str, Any]],
    kind: str,
    draw: Callable[[dict[str, Any]], float | None],
    where: str,
) -> torch.Tensor:
    axis = points[0]["axis"]
    found: dict[str, dict[int, float | None]] = {}
    for point in points:
        found.setdefault(point["stage"], {})[place(axis, Workload(**point["workload"]))] = draw(point)
    places = sorted({number for curve in found.values() for number in curve})
    series = [Series(_label(stage), [curve.get(number) for number in places]) for stage, curve in found.items()]
    title, unit = {"time": ("Time", "ms of a call"), "memory": ("Peak memory", "MiB")}[kind]
    return line_chart(f"{title}: {where}", places, series, x_title=_TITLES[axis], y_title=unit, log=True)


def _label(stage: str) -> str:
    return {
        "edge weights, edge map, candidates": "edges",
        "minimax forest": "forest",
        "whole method, paper": "paper",
        "whole method, robust": "robust",
    }.get(stage, stage)
