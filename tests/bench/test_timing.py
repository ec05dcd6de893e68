"""Clocks and peak memory; nothing here depends on how fast the machine is."""

from __future__ import annotations

import sys

import pytest
import torch

from gpuvos.bench.timing import Spread, convolution_peak, copy_bandwidth, measure, spread

CPU = torch.device("cpu")


def test_quartiles_by_hand() -> None:
    assert spread([4.0, 1.0, 2.0, 3.0, 9.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert spread([1.0, 2.0]) == Spread(1.5, 1.25, 1.75, 2)
    assert spread([5.0]) == Spread(5.0, 5.0, 5.0, 1)


@pytest.mark.slow
def test_calls_are_counted() -> None:
    calls: list[int] = []
    assert measure(lambda: calls.append(1), CPU, rounds=5).seconds.rounds == 5
    assert len(calls) == 6  # one does not count
    measure(lambda: calls.append(1), CPU, rounds=5, warm=False)
    assert len(calls) == 11


@pytest.mark.slow
def test_rounds_end_early_but_never_below_three() -> None:
    assert measure(lambda: None, CPU, rounds=50, max_seconds=0.0).seconds.rounds == 3
    assert measure(lambda: None, CPU, rounds=2, max_seconds=0.0).seconds.rounds == 2


@pytest.mark.slow
def test_either_clock_gives_ordered_quartiles() -> None:
    for clock in ("wall", "processor"):
        seconds = measure(lambda: sum(range(20000)), CPU, rounds=4, clock=clock).seconds
        assert 0 < seconds.q1 <= seconds.median <= seconds.q3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark is Linux's")
def test_peak_memory_is_that_of_the_call() -> None:
    kept = torch.ones(64 << 20, dtype=torch.uint8)  # there before: it does not count
    peak = measure(lambda: torch.ones(96 << 20, dtype=torch.uint8), CPU, rounds=2).peak_bytes
    assert peak is not None
    assert 90 << 20 < peak < 160 << 20
    assert len(kept) == 64 << 20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark is Linux's")
def test_peak_memory_is_of_the_first_round() -> None:
    sizes = iter([8, 32, 96])  # MiB: of the call that does not count, and of two rounds
    peak = measure(lambda: torch.ones(next(sizes) << 20, dtype=torch.uint8), CPU, rounds=2).peak_bytes
    assert peak is not None
    assert 28 << 20 < peak < 64 << 20


@pytest.mark.slow
def test_peak_of_a_convolution_is_positive() -> None:
    assert convolution_peak(CPU, rounds=3, size=8) > 0


@pytest.mark.slow
def test_copy_bandwidth_is_positive() -> None:
    assert copy_bandwidth(CPU, size=1 << 20, rounds=3) > 0
