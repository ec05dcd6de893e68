"""Time of every stage of the method, of all of it after the networks, and of frames -> masks.

The same stages and workloads as ``gpuvos bench``, under pytest-benchmark: ``pytest benchmarks --benchmark-only``, and
``-k stage``, ``-k method`` or ``-k frames`` for a part. Files that ``--benchmark-save`` keeps can be compared.
"""

from __future__ import annotations

from typing import Any

import pytest

from gpuvos.bench.stages import STAGES, Stage
from gpuvos.bench.workload import Inputs


def named(*names: str) -> list[Stage]:
    return [stage for stage in STAGES if stage.name in names]


METHOD = named("whole method, paper", "whole method, robust")
FRAMES = named("features", "frames -> masks")
SINGLE = [stage for stage in STAGES if stage not in METHOD + FRAMES]


@pytest.mark.benchmark(group="stages")
@pytest.mark.parametrize("stage", SINGLE, ids=lambda stage: stage.name)
def test_stage(timed: Any, inputs: Inputs, stage: Stage) -> None:
    timed(lambda: stage.run(inputs), inputs.workload.frames)


@pytest.mark.benchmark(group="whole method after the networks")
@pytest.mark.parametrize("stage", METHOD, ids=lambda stage: stage.name)
def test_method(timed: Any, inputs: Inputs, stage: Stage) -> None:
    timed(lambda: stage.run(inputs), inputs.workload.frames)


@pytest.mark.benchmark(group="frames to masks")
@pytest.mark.parametrize("stage", FRAMES, ids=lambda stage: stage.name)
def test_frames(timed: Any, inputs: Inputs, stage: Stage) -> None:
    timed(lambda: stage.run(inputs), inputs.workload.frames)
