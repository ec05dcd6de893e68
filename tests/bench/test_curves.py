"""Cost curves: what is measured, what is left out, what is written."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from gpuvos.bench import curves as module
from gpuvos.bench.curves import default_axes, measure_curves, place, write_curves
from gpuvos.bench.environment import environment, read_record
from gpuvos.bench.workload import Workload

TINY = Workload(height=48, width=64, frames=2, channels=4, seeds=5, robust_seeds=6)


def test_axes_span_what_they_should() -> None:
    axes = default_axes(Workload())
    places = {axis: [place(axis, workload) for workload in found] for axis, found in axes.items()}
    assert (places["frames"][0], places["frames"][-1]) == (1, 160)
    assert (places["pixels"][0], places["pixels"][-1]) == (60 * 107, 2160 * 3840)
    assert (places["channels"][0], places["channels"][-1]) == (16, 256)
    assert (places["seeds"][0], places["seeds"][-1]) == (25, 400)
    assert all(found == sorted(found) for found in places.values())
    assert all(workload.robust_seeds == workload.seeds for workload in axes["seeds"])


@pytest.mark.slow
def test_points_are_measured_and_written(tmp_path: Path) -> None:
    axes = {
        "seeds": [TINY._replace(seeds=n, robust_seeds=n) for n in (3, 6)],
        "pixels": [TINY._replace(stride=2)],
    }
    points = measure_curves(axes, rounds=1)
    assert {point["stage"] for point in points} == set(module._METHOD)  # no network at stride 2
    assert all(point["left_out"] is None and point["median"] > 0 for point in points)
    record = {**environment(torch.device("cpu"), "wall", []), "curves": points}
    files = write_curves(tmp_path, "curves", record)
    assert sorted(file.name for file in files) == sorted(file.name for file in tmp_path.iterdir())
    assert read_record(tmp_path / "curves.json")["curves"] == points
    rows = list(csv.DictReader((tmp_path / "curves.csv").open()))
    assert len(rows) == len(points)
    assert {row["seeds"] for row in rows if row["axis"] == "seeds"} == {"3", "6"}
    assert {file.name for file in files if file.suffix == ".png"} == {
        f"curves-{axis}-{kind}.png" for axis in axes for kind in ("time", "memory")
    }


def test_points_that_would_take_too_long_are_left_out() -> None:
    last = {"workload": TINY._asdict(), "median": 500.0, "peak_bytes": 0}  # 2 frames: a second a call
    larger = TINY._replace(frames=6)
    assert module._too_large("frames", larger, last, 11.9) == "about 3 s a call"
    assert module._too_large("frames", larger, last, 12.1) is None
    assert module._too_large("frames", larger, None, 0.1) is None  # nothing is known of the first point


def test_points_that_would_not_fit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda _device: 4 << 30)
    last = {"workload": TINY._asdict(), "median": 1.0, "peak_bytes": 1 << 30}
    assert module._too_large("frames", TINY, last, 60) is None
    reason = module._too_large("frames", TINY._replace(frames=6), last, 60)
    assert reason == "about 3 GiB of the 4 that are free"
