"""The workload of the suites: ``pytest benchmarks --benchmark-only --size 720p --stride 1 --bench-frames 2``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from gpuvos.bench.environment import environment
from gpuvos.bench.workload import SIZES, Inputs, Workload

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Timed = Callable[[Callable[[], object], int], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("workload of the benchmarks")
    group.addoption("--size", default="480p", choices=tuple(SIZES), help="of the frames")
    group.addoption("--stride", type=int, default=4, help="of the grid")
    group.addoption("--bench-frames", type=int, default=80 if DEVICE.type == "cuda" else 8)
    group.addoption("--channels", type=int, default=64)
    group.addoption("--seeds", type=int, default=100)
    group.addoption("--rounds", type=int, default=5)


@pytest.fixture(scope="session")
def inputs(request: pytest.FixtureRequest) -> Inputs:
    option = request.config.getoption
    height, width = SIZES[option("--size")]
    return Inputs(
        Workload(
            height=height,
            width=width,
            stride=option("--stride"),
            frames=option("--bench-frames"),
            channels=option("--channels"),
            seeds=option("--seeds"),
            dtype="bfloat16" if DEVICE.type == "cuda" else "float32",
            device=str(DEVICE),
        )
    )


@pytest.fixture
def timed(benchmark: Any, inputs: Inputs, request: pytest.FixtureRequest) -> Iterator[Timed]:
    """Times a call over so many frames, with what it ran on beside the result."""

    def run(function: Callable[[], object], frames: int) -> None:
        def call() -> None:
            function()
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()

        facts = environment(DEVICE, "wall", ())
        kept = {name: facts[name] for name in ("commit", "dirty", "device", "threads", "versions")}
        benchmark.extra_info.update(frames=frames, workload=inputs.workload._asdict(), **kept)
        benchmark.pedantic(call, rounds=request.config.getoption("--rounds"), warmup_rounds=1)

    with torch.no_grad():
        yield run
