"""Looks for races of Triton kernels in the interpreter, which alone never shows one.

The interpreter runs the programs of a launch one after another, and an operation on a block as one piece. ``watched``
notes who touched which four bytes and reports pairs that the language leaves unordered:

* ``between`` programs of one launch: a byte that one of them writes, and another one reads or writes. Two atomics are
  no pair, nor are two writes of one value;
* ``inside`` a program: a byte touched by two of its lanes with no ``tl.debug_barrier()`` in between, at least once by a
  write. Lanes are elements of a block: the same element of two blocks of one shape is taken for one thread.

``reordered`` runs a function with programs or their lanes in another order, for a comparison of results: programs
``reversed``, ``shuffled`` or ``interleaved`` (a change of program at every access of memory); or lanes that may read
what stood there before other lanes wrote since the last barrier (``stale``), or since the last reduction or scan too
(``late``: those wait for most threads, if not for all).

What the inputs do not bring about is not seen, nor are caches and what compilers move. Of the accesses of a place the
last write and the last reads are remembered, so one of several conflicts at a place may go unreported.
"""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import triton
from triton.runtime import interpreter

ORDERS = ("reversed", "shuffled", "interleaved", "stale", "late")
READ, WRITE, ATOMIC = "read", "write", "atomic"
MANY = -2  # lanes or programs
_LIBRARY = (str(Path(triton.__file__).parent), __file__, "<")


class Site(NamedTuple):
    """A place in a kernel's source."""

    file: str
    function: str
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.function} {self.kind}"


class Finding(NamedTuple):
    """Two unordered accesses of the same bytes, in the order in which the interpreter made them."""

    kernel: str
    scope: str  # "between" or "inside"
    first: Site
    second: Site

    def __str__(self) -> str:
        return f"{self.kernel.lstrip('_')}, {self.scope}: {self.first}, {self.second}"


class _Access(NamedTuple):
    site: Site
    program: int
    epoch: int  # barriers before it
    unit: np.ndarray  # addresses in four bytes
    lane: np.ndarray
    value: np.ndarray  # bits


class _Recorder:
    """Patches the interpreter: writes accesses down, runs programs in another order, lets loads be stale."""

    def __init__(self, order: str | None, seed: int, mutate: bool) -> None:
        self.order, self.mutate = order, mutate
        self.random = np.random.default_rng(seed)
        self.builder = interpreter.interpreter_builder
        self.findings: Counter[Finding] = Counter()
        self.missed: dict[Site, set[Finding]] = {}  # by barrier: what only its absence leaves unordered
        self.passed: dict[int, list[Site]] = {}  # by program: the barriers of the launch, in the order they were met
        self.log: list[_Access] = []
        self.shapes: dict[tuple[int, ...], int] = {}
        self.before: dict[tuple[int, ...], dict[int, tuple[bytes, int]]] = {}  # by address: old bytes, lane that wrote
        self.switch: Callable[[], None] = lambda: None

    @contextmanager
    def installed(self) -> Iterator[None]:
        builder = type(self.builder)
        with ExitStack() as stack:

            def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
                original = getattr(owner, name)
                stack.enter_context(patch.object(owner, name, lambda *a, **k: around(original, *a, **k)))

            wrap(builder, "create_masked_load", self.load)
            wrap(builder, "create_masked_store", self.store)
            wrap(builder, "create_atomic_rmw", self.atomic)
            wrap(builder, "create_barrier", self.barrier)
            wrap(interpreter.ReduceOps, "apply_impl", self.exchange)
            wrap(interpreter.ScanOps, "apply_impl", self.exchange)
            wrap(interpreter.GridExecutor, "__call__", self.launch)
            yield

    # What a program does.

    def load(self, run: Any, builder: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
        self.switch()
        result = run(builder, pointers, mask, *rest)
        self.note(READ, pointers.data, mask.data, result.data)
        before = self.before.get(self.builder.grid_idx)
        if before:
            flat, lanes = result.data.reshape(-1), self.lanes(pointers.data)
            chosen = np.flatnonzero(np.broadcast_to(mask.data, pointers.data.shape).reshape(-1))
            for i in chosen[self.random.random(len(chosen)) < 0.5]:
                old, writer = before.get(int(pointers.data.reshape(-1)[i]), (b"", MANY))
                if len(old) == flat.itemsize and writer != lanes[i]:
                    flat[i] = np.frombuffer(old, flat.dtype)[0]
        return result

    def store(self, run: Any, builder: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        self.switch()
        self.note(WRITE, pointers.data, mask.data, value.data)
        self.remember(pointers.data, mask.data, value.data)
        return run(builder, pointers, value, mask, *rest)

    def atomic(self, run: Any, builder: Any, kind: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        self.switch()
        self.note(ATOMIC, pointers.data, mask.data, value.data)
        self.remember(pointers.data, mask.data, value.data)
        return run(builder, kind, pointers, value, mask, *rest)

    def barrier(self, run: Any, *rest: Any) -> Any:
        if self.order is None:
            self.passed.setdefault(self.program(), []).append(self.site("barrier"))
        self.before.pop(self.builder.grid_idx, None)
        return run(*rest)

    def exchange(self, run: Any, *rest: Any) -> Any:
        if self.order == "stale":
            self.before.pop(self.builder.grid_idx, None)
        return run(*rest)

    def remember(self, pointers: np.ndarray, mask: np.ndarray, value: np.ndarray) -> None:
        if self.order not in ("stale", "late"):
            return
        before = self.before.setdefault(self.builder.grid_idx, {})
        size, flat, lanes = value.dtype.itemsize, pointers.reshape(-1), self.lanes(pointers)
        old = interpreter._interpreter.load(pointers, mask, np.zeros(pointers.shape, value.dtype), value.dtype)
        for i in np.flatnonzero(np.broadcast_to(mask, pointers.shape).reshape(-1)):
            place = int(flat[i])
            if place in before:  # several lanes wrote: whoever reads may be late
                before[place] = (before[place][0], before[place][1] if before[place][1] == lanes[i] else MANY)
            else:
                before[place] = (old.reshape(-1)[i : i + 1].tobytes()[:size], int(lanes[i]))

    def lanes(self, pointers: np.ndarray) -> np.ndarray:
        if pointers.size == 1:  # a number is read by every thread and written by one of them
            return np.full(1, -10 - len(self.log))
        return np.arange(pointers.size) + (self.shapes.setdefault(pointers.shape, len(self.shapes)) << 32)

    def note(self, kind: str, pointers: np.ndarray, mask: np.ndarray, value: np.ndarray) -> None:
        if self.order is not None:
            return
        chosen = np.flatnonzero(np.broadcast_to(mask, pointers.shape).reshape(-1))
        bits = np.ascontiguousarray(np.broadcast_to(value, pointers.shape)).reshape(-1)[chosen]
        bits = bits.view(f"u{bits.dtype.itemsize}").astype("u8")
        place, lane = pointers.reshape(-1)[chosen].astype("i8"), self.lanes(pointers)[chosen]
        units = [place // 4] if value.dtype.itemsize <= 4 else [place // 4, place // 4 + 1]
        if value.dtype.itemsize < 4:  # parts of a word are not each other's business
            units = [place * 4 + (1 << 60)]
        program, site = self.program(), self.site(kind)
        for half, unit in enumerate(units):
            part = bits >> np.uint64(32 * half) & np.uint64(0xFFFFFFFF)
            self.log.append(_Access(site, program, len(self.passed.get(program, ())), unit, lane, part))

    def program(self) -> int:
        (x, y, z), (_, ny, nz) = self.builder.grid_idx, self.builder.grid_dim
        return (x * ny + y) * nz + z

    def site(self, kind: str) -> Site:
        frame: Any = inspect.currentframe()
        while frame.f_code.co_filename.startswith(_LIBRARY):
            frame = frame.f_back
        return Site(frame.f_code.co_filename, frame.f_code.co_name.lstrip("_"), frame.f_lineno, kind)

    # What a launch does.

    def launch(self, run: Any, executor: Any, *arguments: Any, **options: Any) -> None:
        body, programs = executor.fn, []

        def postponed(**given: Any) -> None:
            programs.append(tuple(self.builder.grid_idx))
            if len(programs) == np.prod(self.builder.grid_dim):
                self.run(programs, lambda: body(**given))

        postponed.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]
        stand_in = type(
            "Postponed", (), {"__call__": staticmethod(postponed), "__getattr__": lambda _, n: getattr(body, n)}
        )()
        stand_in.__signature__ = inspect.signature(body)
        self.log, self.passed, executor.fn = [], {}, stand_in
        run(executor, *arguments, **options)
        if self.log:
            whole = {Finding(body.__name__, *pair) for pair in _conflicts(self.log)}
            self.findings.update(whole)
            if self.mutate:
                self.leave_out(body.__name__, whole)
            self.log = []

    def leave_out(self, kernel: str, whole: set[Finding]) -> None:
        """Each barrier of the launch in turn; the interpreter runs the same without it, so the log is still right."""
        for site in sorted({site for passed in self.passed.values() for site in passed}):
            missed = self.missed.setdefault(site, set())
            if missed:
                continue
            kept = {
                program: np.cumsum([0, *(other != site for other in passed)]) for program, passed in self.passed.items()
            }
            log = [
                access._replace(epoch=int(kept[access.program][access.epoch])) if access.program in kept else access
                for access in self.log
            ]
            missed |= {Finding(kernel, *pair) for pair in _conflicts(log)} - whole

    def run(self, programs: list[tuple[int, ...]], body: Callable[[], None]) -> None:
        if self.order == "reversed":
            programs.reverse()
        elif self.order in ("shuffled", "interleaved"):
            self.random.shuffle(programs)
            programs = [tuple(map(int, index)) for index in programs]
        if self.order == "interleaved":
            self.take_turns(programs, body)
            return
        for index in programs:
            self.builder.grid_idx = index
            body()
            self.before.clear()

    def take_turns(self, programs: list[tuple[int, ...]], body: Callable[[], None]) -> None:
        """Up to eight programs at a time, each a thread that stops at every access of memory."""
        done, failed = threading.Event(), []
        turns: dict[tuple[int, ...], threading.Event] = {}

        def live(index: tuple[int, ...]) -> None:
            turns[index].wait()
            turns[index].clear()
            try:
                body()
            except BaseException as error:
                failed.append(error)
            del turns[index]
            done.set()

        def switch() -> None:
            mine = turns[self.builder.grid_idx]
            done.set()
            mine.wait()
            mine.clear()

        self.switch = switch
        while (programs or turns) and not failed:
            while programs and len(turns) < 8:
                index = programs.pop()
                turns[index] = threading.Event()
                threading.Thread(target=live, args=(index,), daemon=True).start()
            self.builder.grid_idx = list(turns)[self.random.integers(len(turns))]
            done.clear()
            turns[self.builder.grid_idx].set()
            done.wait()
        self.switch = lambda: None
        if failed:
            raise failed[0]


class _Last:
    """The last access of one kind to each place."""

    def __init__(self, places: int) -> None:
        self.program = np.full(places, -1, "i8")
        self.epoch, self.lane, self.site = (np.full(places, -1, "i8") for _ in range(3))
        self.value = np.zeros(places, "u8")
        self.atomic = np.zeros(places, bool)

    def set(self, place: np.ndarray, access: _Access, site: int) -> None:
        again = (self.program[place] == access.program) & (self.epoch[place] == access.epoch)
        several = again & (self.lane[place] != access.lane)
        self.lane[place] = np.where(several, MANY, access.lane)
        # another program's access is worth more to remember than this program's own
        self.program[place], self.epoch[place], self.site[place] = access.program, access.epoch, site
        self.value[place], self.atomic[place] = access.value, access.site.kind == ATOMIC


def _conflicts(log: list[_Access]) -> Iterator[tuple[str, Site, Site]]:
    """Scope and places of unordered pairs of a launch, each once."""
    units, places = np.unique(np.concatenate([access.unit for access in log]), return_inverse=True)
    reads, writes = _Last(len(units)), _Last(len(units))
    sites = sorted({access.site for access in log})
    numbers = {site: number for number, site in enumerate(sites)}
    found: set[tuple[str, int, int]] = set()
    begin = 0
    for access in log:
        place = places[begin : begin + len(access.unit)]
        begin += len(access.unit)
        number, kind = numbers[access.site], access.site.kind
        against = [writes] if kind == READ else [writes, reads]
        for last in against:
            known = last.program[place] >= 0
            same = last.program[place] == access.program
            harmless = np.zeros(len(place), bool)
            if last is writes and kind != READ:  # two atomics, or two writes of one value
                harmless = last.atomic[place] & (kind == ATOMIC)
                harmless |= ~last.atomic[place] & (kind == WRITE) & (last.value[place] == access.value)
            other_lane = (last.lane[place] != access.lane) & (last.epoch[place] == access.epoch)
            for scope, clash in (("inside", same & other_lane), ("between", ~same)):
                for site in np.unique(last.site[place][known & clash & ~harmless]):
                    found.add((scope, int(site), number))
        if kind == WRITE and len(np.unique(place)) < len(place):  # two lanes of one store
            order = np.lexsort((access.value, place))
            twice = (place[order][1:] == place[order][:-1]) & (access.value[order][1:] != access.value[order][:-1])
            if twice.any():
                found.add(("inside", number, number))
        (reads if kind == READ else writes).set(place, access, number)
    for scope, one, two in sorted(found):
        yield scope, sites[one], sites[two]


@contextmanager
def watched(*, mutate: bool = False) -> Iterator[_Recorder]:
    """Collects in ``findings`` what all launches inside leave unordered.

    Args:
        mutate: also look, for every barrier in turn, at what leaving it out would add; ``missed`` has it by barrier.
    """
    recorder = _Recorder(None, 0, mutate)
    with recorder.installed():
        yield recorder


def reordered(order: str, call: Callable[[], Any], *, seed: int = 0) -> Any:
    """The result of a call whose launches run in one of ``ORDERS``."""
    with _Recorder(order, seed, mutate=False).installed():
        return call()
