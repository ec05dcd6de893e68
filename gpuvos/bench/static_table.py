"""What ``gpuvos bench --static`` prints: resources of the kernels, and estimates beside floors and aims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from gpuvos.bench import factors
from gpuvos.bench.estimate import (
    CAMERA,
    CHANNELS,
    EDGES,
    FOREST,
    PROBABILITY,
    REGIONS,
    SEEDS,
    VOTE,
    Compiler,
    Row,
    launches_of_method,
    stages,
)
from gpuvos.bench.factors import Case
from gpuvos.kernels.static import Usage

WHOLE = "whole method"
_D = CHANNELS
# Bytes of a frame that must move, inputs once and results once.
_FLOORS: dict[str, Callable[[Case], float]] = {
    EDGES: lambda case: case.pixels * (2 * _D + 9),
    SEEDS: lambda case: case.pixels + case.candidates * (2 * _D + 4),
    FOREST: lambda case: case.pixels * 20 + case.seeds**2 * 4,
    CAMERA: lambda case: case.pixels * 20,
    REGIONS: lambda case: case.pixels * (8 + 4 * 5),
    VOTE: lambda case: case.seeds * (2 * _D + 16),
    PROBABILITY: lambda case: case.pixels * (2 * _D + 4),
}
# Milliseconds for 80 frames at 480 x 854 and at 120 x 214, by the number of seeds.
_AIMS: dict[str, dict[int, tuple[float, float]]] = {
    EDGES: {300: (1.3, 0.1)},
    SEEDS: {100: (0.5, 0.1), 300: (1.5, 0.3)},
    FOREST: {300: (3.0, 0.3)},
    CAMERA: {300: (0.3, 0.1)},
    REGIONS: {300: (0.3, 0.1)},
    VOTE: {300: (1.0, 1.0)},
    PROBABILITY: {100: (1.5, 0.15), 300: (2.5, 0.3)},
    WHOLE: {300: (12.0, 4.0)},
}
FAR = 1.5  # times its aim: then a stage has a sentence
_STOPS: dict[str, str] = {
    EDGES: "the embedding is read once, at the rate of a copy.",
    SEEDS: (
        "every step depends on the one before, so a frame has one multiprocessor: a step waits for two reductions over "
        "16 warps and for each tile that catches up (four of 48 at 480 x 854), and nine tenths of all distances are "
        "still taken, 1.5 MB of rows a frame being more than a multiprocessor holds."
    ),
    FOREST: (
        "every round of a tile is a proposal to L2 and back; the table of seeds grows in K dependent steps of one "
        "program a frame."
    ),
    CAMERA: "24 of its launches are operators of torch on small tensors; one program a frame fits in eight rounds.",
    REGIONS: (
        "a tile takes a round for each region that it meets; at K = 300 the sums of 512 regions leave registers for 2 "
        "channels, so that three programs (flow, what is left of it, objectness) go over each tile."
    ),
    VOTE: (
        "the radius of each of 24,000 rows is found by bisection of 4,800 distances in registers, 22 steps of two "
        "instructions a distance; what the neighbours of the confident seeds say takes the products once more."
    ),
    PROBABILITY: (
        "the distances to the two seeds of a pixel are taken from the differences, without cancellation, which is more "
        "than a third of the instructions at K = 100; a seed costs three (product and offset, group, minimum), and two "
        "barriers stand in a step of 64 seeds, for Triton has no index into shared memory that would keep all of them."
    ),
    WHOLE: "seeds, vote and probability, see there.",
}
_CONFIGS: dict[int, tuple[int, dict[str, Any]]] = {  # window of Eq. 5 and options, by seeds
    300: (5, {}),
    100: (9, {"num_seeds": 100, "window": 9}),
}


class Estimate(NamedTuple):
    """A stage of a case."""

    seeds: int
    height: int
    width: int
    stage: str
    launches: int
    floor: float | None  # milliseconds, like the next two
    estimate: float
    aim: float | None
    bound: str  # the longest launch and what bounds it

    @property
    def far(self) -> bool:
        """Whether the estimate is more than FAR times the aim."""
        return self.aim is not None and self.estimate > FAR * self.aim


def estimates(
    *, seeds: Sequence[int] = (300, 100), notice: Callable[[str], object] = str
) -> tuple[list[Estimate], list[dict[str, Any]]]:
    """Estimates of all stages at both sizes, with 100 seeds of those that have an aim there; the compiled kernels."""
    compiler, found = Compiler(), []
    for number in seeds:
        window, options = _CONFIGS[number]
        for size, case in enumerate(factors.cases(number, window)):
            notice(f"{case.height} x {case.width}, K = {number}")
            rows, _ = stages(launches_of_method(case, **options), compiler, case)
            found += [_estimate(row, case, size) for row in [*rows, _sum(rows)]]
    kept = [row for row in found if row.seeds == 300 or row.aim is not None]
    return kept, [compiled.numbers for compiled in compiler.known.values()]


def _sum(rows: Sequence[Row]) -> Row:
    longest = max(rows, key=lambda row: row.milliseconds)
    return Row(WHOLE, sum(row.launches for row in rows), sum(row.milliseconds for row in rows), longest.stage)


def _estimate(row: Row, case: Case, size: int) -> Estimate:
    floor = _FLOORS.get(row.stage)
    milliseconds = None if floor is None else 1e3 * case.frames * floor(case) / factors.BANDWIDTH
    if row.stage == WHOLE:
        milliseconds = sum(1e3 * case.frames * part(case) / factors.BANDWIDTH for part in _FLOORS.values())
    aim = _AIMS.get(row.stage, {}).get(case.seeds)
    return Estimate(
        case.seeds, case.height, case.width, row.stage, row.launches, milliseconds, row.milliseconds,
        None if aim is None else aim[size], row.bound,
    )  # fmt: skip


def estimate_table(rows: Sequence[Estimate]) -> str:
    """A Markdown table, both sizes side by side, with what was assumed and what stops the stages that are far off."""
    lines = [
        "An estimate for an H200, 80 frames, D = 64 in bfloat16, milliseconds; nothing of it is measured. Launches are",
        "counted and instructions are those of the code that a call compiles for sm_90; assumed are",
        f"{factors.CLOCK / 1e9:g} GHz, {factors.ISSUED:g} of the instructions that schedulers could issue, "
        f"{factors.BANDWIDTH / 1e12:g} TB/s,",
        f"{factors.TENSOR / 1e12:g} TFLOP/s, {factors.LAUNCH * 1e6:g} us a launch (in a CUDA graph), {factors.AWAY:g} "
        "cycles to L2 and back,",
        f"{factors.ALONE:g} cycles an instruction where one warp has a scheduler, and the turns of loops that",
        "`gpuvos/bench/factors.py` lists.",
        "",
        "| stage | K | launches | 480 x 854: floor | estimate | aim | 120 x 214: floor | estimate | aim | longest |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    together: dict[tuple[int, str], list[Estimate]] = {}
    for row in rows:
        together.setdefault((row.seeds, row.stage), []).append(row)
    for (seeds, stage), both in together.items():
        cells = " | ".join(_cells(row) for row in both)
        lines.append(f"| {stage} | {seeds} | {both[0].launches} | {cells} | {both[0].bound} |")
    stops = [f"- {stage}: {_STOPS[stage]}" for stage in dict.fromkeys(row.stage for row in rows if row.far)]
    return "\n".join([*lines, "", *(["What stops the stages above 1.5 times their aim:", ""] if stops else []), *stops])


def _cells(row: Estimate) -> str:
    floor, aim = ("-" if value is None else f"{value:.3g}" for value in (row.floor, row.aim))
    return f"{floor} | {'**' * row.far}{row.estimate:.3g}{'**' * row.far} | {aim}"


def call_table(calls: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of the kernels as the calls of the estimates compile them."""
    lines = [
        "The kernels as those calls compile them for sm_90, for sizes that 16 divides and strides of 1:",
        "",
        "| op | kernel | warps | registers | spilled | shared | instructions | barriers | reductions | atomics |",
        "|---|---|" + "---:|" * 8,
    ]
    names = ("num_warps", "registers", "spilled", "shared", "instructions", "barriers", "reductions", "atomics")
    rows = (f"| {call['op']} | {call['kernel']} | {' | '.join(str(call[name]) for name in names)} |" for call in calls)
    return "\n".join([*lines, *dict.fromkeys(rows)])


def usage_table(rows: Sequence[Usage]) -> str:
    """A Markdown table, one row a kernel and variant, its architectures side by side."""
    architectures = sorted({row.architecture for row in rows})
    heads = " | ".join(f"sm_{number}" for number in architectures)
    lines = [
        f"triton {version('triton')}; registers of a thread / bytes spilled / bytes of shared memory",
        "",
        f"| op | kernel | variant | warps | {heads} |",
        f"|---|---|---|---:|{'---:|' * len(architectures)}",
    ]
    together: dict[tuple[str, str, str, int], dict[int, Usage]] = {}
    for row in rows:
        together.setdefault((row.op, row.kernel, row.note, row.num_warps), {})[row.architecture] = row
    for (op, kernel, note, warps), found in together.items():
        cells = " | ".join(
            f"{found[number].registers} / {found[number].spilled} / {found[number].shared}" for number in architectures
        )
        lines.append(f"| {op} | {kernel} | {note} | {warps} | {cells} |")
    return "\n".join(lines)
