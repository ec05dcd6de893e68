"""Time of the method's stages on an H200, estimated from compiled code and counted launches with no GPU at hand."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch

import gpuvos
from gpuvos.bench import factors
from gpuvos.bench.factors import Case, Numbers
from gpuvos.bench.launches import MULTIPROCESSORS, Given, Launch, noted_launches
from gpuvos.bench.sass import Code, flops, parse
from gpuvos.kernels.static import Usage, Variant, call_variant, compile_variant, disassembled, usage

CHANNELS = 64  # of the embedding, in bfloat16
ARCHITECTURE = 90
EDGES, SEEDS, FOREST = "edge weights, edge map, candidates", "seeds", "minimax forest"
REGIONS, CAMERA, VOTE, PROBABILITY, OTHER = "region means", "camera motion", "vote", "probability", "other operators"
_STAGES = {
    "grid_edges": EDGES, "edge_candidates": EDGES, "functional.edges": EDGES, "farthest_points": SEEDS,
    "functional.seeds": SEEDS, "minimax_forest": FOREST, "region_sum": REGIONS, "functional.regions": REGIONS,
    "residual_flow": CAMERA, "functional.camera": CAMERA, "functional.motion": CAMERA, "neighbor_mean": VOTE,
    "functional.voting": VOTE, "link_tracks": VOTE, "functional.tracks": VOTE, "foreground_probability": PROBABILITY,
}  # fmt: skip


COUNTED = {
    "barriers": r"BAR\.SYNC",
    "reductions": r"REDG?\.",  # atomics whose result nobody waits for
    "atomics": "ATOM",
    "constant_loads": r"LDG\..*CONSTANT",  # through a cache that does not see what is written meanwhile
    "spill_moves": "LDL|STL",
}


class Compiled(NamedTuple):
    """A kernel as a call compiles it."""

    usage: Usage
    variant: Variant
    code: Code

    @property
    def numbers(self) -> dict[str, Any]:
        """Resources and counts of instructions, for a report."""
        counts = {name: self.code.count(pattern) for name, pattern in COUNTED.items()}
        return {
            **self.usage._asdict(), "instructions": len(self.code.instructions), **counts,
            "barriers_asked": self.code.barriers_asked(),
        }  # fmt: skip


class Cost(NamedTuple):
    """What a launch takes, in seconds by what bounds it."""

    name: str
    programs: int
    instructions: float  # of a warp, loops turned as often as ``factors`` assumes
    issue: float  # all instructions at the rate that schedulers reach
    products: float  # of tensor cores
    memory: float
    alone: float  # of one program after another where there are too few to hide what each waits for

    @property
    def seconds(self) -> float:
        """The largest of the bounds, and the launch itself."""
        return max(self.issue, self.products, self.memory, self.alone) + factors.LAUNCH

    @property
    def bound(self) -> str:
        """The name of the largest."""
        parts = {"instructions": self.issue, "products": self.products, "bytes": self.memory, "latency": self.alone}
        return max(parts, key=lambda name: parts[name])


def launches_of_method(case: Case, **config: Any) -> list[Launch]:
    """What ``gpuvos.segment`` launches on a video of a case."""
    t, h, w, *_ = case
    with noted_launches() as noting:
        embedding = torch.empty(t, CHANNELS, h, w, device="cuda", dtype=torch.bfloat16)
        objectness, flow = (torch.empty(t, *c, h, w, device="cuda") for c in ((), (2,)))
        gpuvos.segment(embedding, objectness, flow, config=gpuvos.Config(**config), validate=False)
    return noting.launched


class Compiler:
    """Compiles kernels as calls do, each variant once."""

    def __init__(self) -> None:
        self.known: dict[str, Compiled] = {}

    def __call__(self, launch: Launch) -> Compiled:
        """The code of a launch."""
        variant = call_variant(launch.kernel, launch.arguments, launch.options)
        key = repr((launch.name, *variant[1:]))
        if key not in self.known:
            made = compile_variant(variant, ARCHITECTURE)
            code = parse(disassembled(made.asm["cubin"]))
            self.known[key] = Compiled(usage(launch.place, variant, ARCHITECTURE, made), variant, code)
        return self.known[key]


def cost(launch: Launch, compiled: Compiled, case: Case) -> Cost:
    """What a launch of a kernel is estimated to take."""
    numbers: Numbers = {
        name: float(value) for name, value in launch.arguments.items() if isinstance(value, int | float)
    }

    def turns(statement: str) -> float:
        turn = factors.TURNS.get(statement)
        return factors.ONCE if turn is None else turn(case, numbers)

    times = compiled.code.executed(turns)
    executed, warps = sum(times), compiled.variant.num_warps
    clock, schedulers = factors.CLOCK, MULTIPROCESSORS * factors.SCHEDULERS
    work = sum(flops(one) * count for one, count in zip(compiled.code.instructions, times, strict=True))
    resident = _resident(compiled)
    waves = math.ceil(launch.programs / (MULTIPROCESSORS * resident))
    waits = _waits(compiled.code, times)
    moved = sum(
        value.numel * value.dtype.itemsize * factors.moved(launch.name, name, case)
        for name, value in launch.arguments.items()
        if isinstance(value, Given)
    )
    return Cost(
        launch.name,
        launch.programs,
        executed,
        launch.programs * warps * executed / (schedulers * clock * factors.ISSUED),
        launch.programs * warps * work / factors.TENSOR,
        moved / factors.BANDWIDTH,
        waves * max(executed * warps / factors.SCHEDULERS, executed * factors.ALONE + waits) / clock,
    )


def _resident(compiled: Compiled) -> int:
    """Programs that share a multiprocessor."""
    warps = compiled.variant.num_warps
    registers = max(1, math.ceil(compiled.usage.registers / 8) * 8 * 32 * warps)
    rooms = (factors.REGISTERS // registers, factors.SHARED // (compiled.usage.shared + 1024), factors.WARPS // warps)
    return max(1, min(*rooms, 32))


def _waits(code: Code, times: Sequence[float]) -> float:
    """Cycles that a program alone waits: one way to L2 for the code outside loops and for each turn that loads."""
    cycles = factors.AWAY
    for one, count in zip(code.instructions, times, strict=True):
        if one.name.startswith("BAR.SYNC"):
            cycles += factors.BARRIER * count
    for loop in code.loops:
        inside = code.instructions[loop.first : loop.last + 1]
        inner = any(other.first > loop.first and other.last < loop.last for other in code.loops)
        if not inner and any(one.name.startswith(("LDG.", "ATOM")) for one in inside):
            cycles += (factors.NEAR if loop.statement in factors.FROM_L1 else factors.AWAY) * times[loop.last]
    return cycles


class Row(NamedTuple):
    """A stage."""

    stage: str
    launches: int
    milliseconds: float
    bound: str  # of its longest launch


def stages(launches: Iterable[Launch], compiler: Compiler, case: Case) -> tuple[list[Row], list[Cost]]:
    """Estimates by stage, and those of every kernel's launch."""
    total: dict[str, float] = defaultdict(float)
    count: dict[str, int] = defaultdict(int)
    longest: dict[str, tuple[float, str]] = {}
    costs = []
    for launch in launches:
        stage = _STAGES.get(launch.place, OTHER)
        if launch.kernel is None:
            seconds, words = launch.bytes / factors.BANDWIDTH + launch.times * factors.LAUNCH, launch.name
        else:
            found = cost(launch, compiler(launch), case)
            costs.append(found)
            seconds, words = found.seconds, f"{found.name.lstrip('_')}: {found.bound}"
        total[stage] += seconds
        count[stage] += launch.times
        longest[stage] = max(longest.get(stage, (0.0, "")), (seconds, words))
    order = (EDGES, SEEDS, FOREST, CAMERA, REGIONS, VOTE, PROBABILITY, OTHER)
    rows = [Row(name, count[name], 1e3 * total[name], longest[name][1]) for name in order if name in total]
    return rows, costs
