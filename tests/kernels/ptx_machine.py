"""Runs the PTX that kernels compile to, thread by thread in random order, on tensors of the CPU.

Inside ``emulated`` a launch compiles its kernel as a GPU would be given it (for sm_90) and runs every thread of every
program on its own: whose turn it is after each access of memory is drawn anew, some programs are under way at once, and
only a barrier, or lanes of a warp that exchange values, hold a thread up. Global memory is that of the tensors; what
lies outside of them, a barrier that not all threads reach and an unknown instruction raise. Shared memory and registers
begin with a pattern.

What it does not model: an access takes effect at once and for all (no caches, no memory that reorders: what a thread
has written is seen by the next one that looks, where a GPU promises so only after a barrier); the assembler, which
makes machine code of PTX; warps in step (every thread moves on its own, which allows more orders than a GPU takes);
tensor cores, asynchronous copies, clusters, and time.
"""

from __future__ import annotations

import bisect
import ctypes
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from ptx_code import POISON, translate
from torch import Tensor

from gpuvos.kernels.static import call_variant, compile_variant

WARP = 32
ALL = 0xFFFFFFFF
PROGRAMS = 3  # under way at once
PATIENCE = (1, 1, 2, 8, 1000)  # accesses of a turn
TURNS = 3_000_000  # of a launch, at most


class Bytes:
    """A range of memory."""

    def __init__(self, start: int, size: int, data: Any) -> None:
        self.start, self.size = start, size
        whole = memoryview(data).cast("B")
        self.views = {n: whole[: size // n * n].cast(kind) for n, kind in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))}

    def place(self, address: int, size: int) -> int:
        place, off = divmod(address - self.start, size)
        if off or not 0 <= address - self.start <= self.size - size:
            raise IndexError(f"{size} bytes at {address:#x}, not in {self.size} at {self.start:#x}")
        return place


class Memory:
    """The tensors of a launch."""

    def __init__(self, tensors: list[Tensor]) -> None:
        storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in tensors}
        found = sorted((start, size) for start, size in storages.items() if size)
        self.ranges = [Bytes(a, size, (ctypes.c_char * size).from_address(a)) for a, size in found]
        self.starts = [start for start, _ in found]

    def at(self, address: int) -> Bytes:
        number = bisect.bisect_right(self.starts, address) - 1
        if number < 0:
            raise IndexError(f"no tensor at {address:#x}")
        return self.ranges[number]

    def load(self, address: int, size: int) -> int:
        part = self.at(address)
        return int(part.views[size][part.place(address, size)])

    def store(self, address: int, size: int, value: int) -> None:
        part = self.at(address)
        part.views[size][part.place(address, size)] = value

    def atomic(self, address: int, size: int, value: int, kind: str, sign: str) -> int:
        old, half = self.load(address, size), 1 << 8 * size - 1
        one, two = ((old ^ half) - half, (value ^ half) - half) if sign == "s" else (old, value)
        new = {"min": min(one, two), "max": max(one, two), "add": one + two}[kind]
        self.store(address, size, new & (2 * half - 1))
        return old


class Thread:
    """Where a thread is: its generator, and what it is sent next."""

    def __init__(self, body: Iterator[Any], program: Program, number: int) -> None:
        self.body, self.program, self.lane = body, program, number % WARP
        self.warp = program.warps[number // WARP]
        self.got: int | None = None


class Program:
    """A program under way: its threads, and who waits for whom."""

    def __init__(self, kernel: Kernel, memory: Memory, params: list[int], number: int) -> None:
        size = max(kernel.shared, 16)
        shared = Bytes(0, size, bytearray((POISON.to_bytes(8, "little") * (size // 8 + 1))[:size]))

        def load(address: int, size: int) -> int:
            return int(shared.views[size][shared.place(address, size)])

        def store(address: int, size: int, value: int) -> None:
            shared.views[size][shared.place(address, size)] = value

        count = kernel.warps * WARP
        self.warps: list[dict[int, tuple[Thread, Any]]] = [{} for _ in range(kernel.warps)]
        self.waiting: list[Thread] = []
        self.live = count
        self.threads = [
            Thread(kernel.body(memory.load, memory.store, memory.atomic, load, store, params, tid, number), self, tid)
            for tid in range(count)
        ]

    def meet(self, thread: Thread, what: Any) -> list[Thread]:
        """A thread stops at a barrier or brings a value to its warp; who goes on."""
        if what == "bar":
            self.waiting.append(thread)
            going = self.waiting if len(self.waiting) == self.live else []
            if going:
                self.waiting = []
            return going
        arrived = thread.warp
        arrived[thread.lane] = (thread, what)
        if len(arrived) < WARP:
            return []
        if len({(kind, place, mask) for _, (kind, place, _, _, mask) in arrived.values()}) > 1 or what[4] != ALL:
            raise RuntimeError(f"lanes of a warp do not meet in one place: {what}")
        _exchange(arrived)
        going = [one for one, _ in arrived.values()]
        arrived.clear()
        return going


def _exchange(arrived: Mapping[int, tuple[Thread, Any]]) -> None:
    kind = arrived[0][1][0]
    values = [arrived[lane][1][2] for lane in range(WARP)]
    for lane, (thread, (_, _, value, other, _)) in arrived.items():
        if kind in ("bfly", "idx"):
            thread.got = values[lane ^ other if kind == "bfly" else other & 31]
        elif kind == "up":
            thread.got = values[lane - other] if lane >= other else value
        else:
            signed = [(one ^ 1 << 31) - (1 << 31) for one in values]
            thread.got = {"add": sum, "max": max, "min": min}[kind](signed) & ALL


class Kernel(NamedTuple):
    """Compiled code."""

    body: Callable[..., Iterator[Any]]
    warps: int
    shared: int


def run(kernel: Kernel, programs: int, memory: Memory, params: list[int], draw: random.Random) -> None:
    """All programs of a launch."""
    left = list(range(programs))
    draw.shuffle(left)
    ready: list[Thread] = []
    under_way = 0
    for _ in range(TURNS):
        if not (ready or left or under_way):
            return
        while left and under_way < PROGRAMS:
            ready += Program(kernel, memory, params, left.pop()).threads
            under_way += 1
        if not ready:
            raise RuntimeError("threads wait for some that have ended or wait elsewhere")
        place = int(draw.random() * len(ready))
        thread = ready[place]
        for _ in range(PATIENCE[int(draw.random() * len(PATIENCE))]):
            try:
                what = thread.body.send(thread.got)  # type: ignore[attr-defined]
            except StopIteration:
                what = "end"
            thread.got = None
            if what is None:
                continue
            ready[place] = ready[-1]
            ready.pop()
            program = thread.program
            if what == "end":
                program.live -= 1
                under_way -= program.live == 0
                if program.waiting or thread.warp:
                    raise RuntimeError("a thread ends where others wait for it")
            else:
                ready += program.meet(thread, what)
            break
    raise RuntimeError("the launch does not end")


class _Placed(NamedTuple):
    """A tensor as ``call_variant`` wants it."""

    dtype: torch.dtype
    offset: int


class Emulator:
    """Stands in for Triton's launches."""

    def __init__(self, seed: int, edit: Callable[[str], str]) -> None:
        self.draw, self.edit = random.Random(seed), edit
        self.compiled: dict[str, tuple[Kernel, list[str]]] = {}
        self.launched: list[str] = []

    def launch(self, kernel: Any, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> None:
        assert not warmup
        named = dict(zip(kernel.arg_names, args, strict=False))
        named |= {name: value for name, value in kwargs.items() if name in kernel.arg_names}
        options = {name: value for name, value in kwargs.items() if name not in kernel.arg_names}
        described = {
            name: _Placed(value.dtype, value.data_ptr()) if isinstance(value, Tensor) else value
            for name, value in named.items()
        }
        variant = call_variant(kernel, described, options)
        key = repr((kernel.fn.__name__, *variant[1:]))
        if key not in self.compiled:
            made = compile_variant(variant, 90)
            body = translate(self.edit(made.asm["ptx"]))
            code = Kernel(body, variant.num_warps, int(made.metadata.shared))
            self.compiled[key] = code, [name for name, kind in variant.signature.items() if kind != "constexpr"]
        code, names = self.compiled[key]
        values = [named[name] for name in names]
        params = [value.data_ptr() if isinstance(value, Tensor) else int(value) for value in values] + [0, 0]
        assert tuple(grid[1:]) in ((), (1,), (1, 1))
        self.launched.append(kernel.fn.__name__)
        run(code, grid[0], Memory([value for value in values if isinstance(value, Tensor)]), params, self.draw)


@contextmanager
def emulated(seed: int, *, edit: Callable[[str], str] = str) -> Iterator[Emulator]:
    """Launches inside are emulated, threads in an order drawn from ``seed``; ``edit`` may change the PTX first."""
    from triton.runtime.jit import JITFunction

    emulator = Emulator(seed, edit)
    with patch.object(JITFunction, "run", lambda kernel, *args, **kwargs: emulator.launch(kernel, *args, **kwargs)):
        yield emulator
