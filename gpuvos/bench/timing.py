"""Clocks, peak memory and the copy bandwidth of a device."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

_FLUSH_BYTES = 256 << 20  # more than any L2 cache
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FEWEST = 3
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


class Spread(NamedTuple):
    """Median and quartiles of some rounds."""

    median: float
    q1: float
    q3: float
    rounds: int


class Timing(NamedTuple):
    """Seconds of a call, and the most memory that it held beyond what was there before it."""

    seconds: Spread
    peak_bytes: int | None


def spread(values: list[float]) -> Spread:
    """Median and quartiles.

    Example:
        >>> spread([1.0, 2.0, 3.0, 4.0, 9.0])
        Spread(median=3.0, q1=2.0, q3=4.0, rounds=5)
    """
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], 1)
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, q1, q3, len(values))


def measure(
    function: Callable[[], object],
    device: torch.device,
    *,
    rounds: int = 7,
    max_seconds: float = float("inf"),
    clock: str = "wall",
    warm: bool = True,
) -> Timing:
    """Times ``function`` after one call that does not count.

    On a GPU events enclose each call, behind a write of 256 MB that empties the L2 cache; on the CPU the caches stay
    as the round before left them. Rounds end early, three at the least, once ``max_seconds`` are spent. The peak is of
    the first round: later ones may find memory of those before that the allocator has kept and cannot use.

    Args:
        function: what is measured; its results are dropped.
        device: where it runs.
        rounds: timed calls.
        max_seconds: of all timed calls together.
        clock: ``wall``, or ``processor`` for the processor time of all threads, which other programs on the machine
            disturb less; events count on a GPU in either case.
        warm: False leaves out the call that does not count, where the caller has made it.
    """
    stopwatch = _DeviceClock(device) if device.type == "cuda" else _HostClock(CLOCKS[clock])
    if warm:
        function()
    stopwatch.reset_peak()
    start = time.perf_counter()
    seconds = [stopwatch.time(function)]
    peak = stopwatch.peak()
    while len(seconds) < rounds and (len(seconds) < _FEWEST or time.perf_counter() - start < max_seconds):
        seconds.append(stopwatch.time(function))
    return Timing(spread(seconds), peak)


def memory_method(device: torch.device) -> str:
    """How ``measure`` finds the peak, in words."""
    if device.type == "cuda":
        return "torch.cuda.max_memory_allocated less what was allocated before"
    if _CLEAR.exists():
        return "high-water mark of the resident set (VmHWM, reset before the rounds) less the set before"
    return "not measured: the system has no /proc/self/clear_refs"


class _HostClock:
    """A clock of the host, and the high-water mark of the resident set that Linux keeps."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.before: int | None = None

    def time(self, function: Callable[[], object]) -> float:
        start = self.now()
        function()
        return self.now() - start

    def reset_peak(self) -> None:
        gc.collect()
        try:
            ctypes.CDLL(None).malloc_trim(0)  # freed memory that the allocator keeps would hide a peak
            _CLEAR.write_text("5")  # resets VmHWM
            self.before = resident_bytes()
        except (OSError, AttributeError):
            self.before = None

    def peak(self) -> int | None:
        return None if self.before is None else max(resident_bytes("VmHWM") - self.before, 0)


def resident_bytes(field: str = "VmRSS") -> int:
    """Resident memory of this process as Linux tells it, now or at its high-water mark (``VmHWM``)."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) << 10


class _DeviceClock:
    """CUDA events and the caching allocator's count."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.flush = torch.empty(_FLUSH_BYTES, dtype=torch.uint8, device=device)
        self.start: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self.end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self.before = 0

    def time(self, function: Callable[[], object]) -> float:
        self.flush.zero_()
        self.start.record()
        function()
        self.end.record()
        self.end.synchronize()
        return float(self.start.elapsed_time(self.end)) / 1e3

    def reset_peak(self) -> None:
        torch.cuda.synchronize(self.device)
        self.before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int:
        return int(torch.cuda.max_memory_allocated(self.device) - self.before)


def copy_bandwidth(device: torch.device, *, size: int | None = None, rounds: int = 7, clock: str = "wall") -> float:
    """Bytes a second of a copy from one buffer to another, read and write counted, median of the rounds.

    Args:
        device: whose memory.
        size: bytes of a buffer; by default 1 GiB on a GPU and 256 MiB elsewhere, more than caches hold.
        rounds: copies.
        clock: as in ``measure``.
    """
    size = size or ((1 << 30) if device.type == "cuda" else (256 << 20))
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    timing = measure(lambda: target.copy_(source), device, rounds=rounds, clock=clock)
    return 2 * size / timing.seconds.median


@torch.no_grad()
def convolution_peak(device: torch.device, *, rounds: int = 7, clock: str = "wall", size: int = 160) -> float:
    """Operations a second of a convolution that suits every device, median of the rounds: 128 channels, float32.

    Args:
        device: where to run.
        rounds: calls.
        clock: as in ``measure``.
        size: rows and columns of the map.
    """
    count, channels = (16 if device.type == "cuda" else 1), 128
    maps = torch.zeros(count, channels, size, size, device=device).contiguous(memory_format=torch.channels_last)
    weight = torch.zeros(channels, channels, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
    call = partial(torch.nn.functional.conv2d, maps, weight, padding=1)
    return 2 * 9 * channels**2 * size**2 * count / measure(call, device, rounds=rounds, clock=clock).seconds.median


def available_bytes(device: torch.device) -> int | None:
    """Memory that is free on the device, where the system tells."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")), None)
