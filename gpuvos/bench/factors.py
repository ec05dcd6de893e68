"""What the estimates of ``gpuvos bench --static`` assume: of the device, and of loops whose turns depend on the data.

Counts of code and of launches are certain; these factors are not, and an estimate is no better than they are. Those of
the data are of smooth features as ``gpuvos bench`` makes them, or of frames of DAVIS where it says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

CLOCK = 1.755e9  # of an H200, cycles a second
BANDWIDTH = 4.3e12  # bytes a second, as a copy reaches
TENSOR = 790e12  # operations a second in half precision, as a large product reaches
SCHEDULERS = 4  # of a multiprocessor, each one instruction a cycle
ISSUED = 0.8  # share of the cycles in which a scheduler with enough warps issues one
ALONE = 2.5  # cycles an instruction of a warp that has a scheduler for itself
AWAY = 600.0  # cycles until a load from L2 or an atomic is back
NEAR = 80.0  # cycles of two loads from L1, one after the other
BARRIER = 30.0  # cycles at a barrier
LAUNCH = 1.5e-6  # seconds from a launch to the next one in a CUDA graph
REGISTERS, SHARED, WARPS = 65536, 227 << 10, 64  # of a multiprocessor


class Case(NamedTuple):
    """A video and the seeds of the rule that it is for."""

    frames: int
    height: int
    width: int
    seeds: int
    candidates: float  # of a frame

    @property
    def pixels(self) -> int:
        """Of a frame."""
        return self.height * self.width


def cases(seeds: int, window: int) -> tuple[Case, Case]:
    """80 frames at 480 x 854 and at 120 x 214; candidates as in frames of DAVIS, windows of 5 (measured) or 9."""
    share = 0.0295 if window == 5 else 0.0097
    return tuple(Case(80, h, w, seeds, share * h * w) for h, w in ((480, 854), (120, 214)))  # type: ignore[return-value]


Numbers = dict[str, float]  # of a kernel's arguments, by name
Turns = Callable[[Case, Numbers], float]


def _steps(count: Turns, size: Callable[[Numbers], float]) -> Turns:
    return lambda case, a: float(math.ceil(count(case, a) / size(a)))


def _held(case: Case, a: Numbers) -> bool:
    """Whether the rows of all candidates stay in registers."""
    return case.candidates <= a["HELD"] and not a["IN_PLACE"]


def _walked(case: Case, a: Numbers) -> float:
    return 0.0 if a["IN_PLACE"] or _held(case, a) else float(case.seeds)


def _tiles(case: Case, a: Numbers) -> float:
    return float(math.ceil(case.candidates / a["BLOCK_M"]))


def _late(case: Case, a: Numbers) -> float:
    """Tiles that catch up in a step: of a frame of DAVIS 4.0 of 48 tiles and 1.7 of 3, nine tenths of all work."""
    return min(4.0, 0.9 + 0.27 * _tiles(case, a))


def _region(case: Case, a: Numbers) -> float:
    """Pixels of a region that the forest merges."""
    return case.pixels / a["regions"]


def _nodes(case: Case, a: Numbers) -> float:
    """Slots of a region: 3.5 % of the pixels of tiles, a quarter of that a level higher, half as many again empty."""
    return 1.5 * 0.035 / 4 ** (a["HOPS"] - 1) * _region(case, a)


def _edges(case: Case, a: Numbers) -> float:
    """Edges of a region that still join two components: 0.8 a pixel after the tiles, a quarter of that a level higher.

    Their number falls from round to round; this is half of what a region begins with.
    """
    return 0.5 * 0.8 / 4 ** (a["HOPS"] - 1) * _region(case, a)


def _labels(case: Case, a: Numbers) -> float:
    """Regions that a tile meets, each as wide as it is high."""
    size = math.sqrt(case.pixels / case.seeds)
    return (1 + a["SIDE"] / size) * (1 + (a["BLOCK_P"] / a["SIDE"] - 1) / size)


def _listed(case: Case, a: Numbers) -> float:
    """Steps of a list, the mean of sets of 40 and 60 % of the seeds."""
    return sum(math.ceil(share * case.seeds / a["BLOCK_K"]) for share in (0.4, 0.6)) / 2


# Turns of the loops of kernels, by function and number. Those without an entry have ONCE.
TURNS: dict[str, Turns] = {
    "_grid_edges#0": lambda _, a: a["D"],
    "_gather#1": _steps(lambda case, a: case.candidates * a["CHUNK"] / case.pixels, lambda a: 2048 / a["BLOCK_D"]),
    "_sample#0": lambda case, a: 0 if a["IN_PLACE"] else math.ceil(case.seeds / a["BLOCK_M"]),
    "_sample#1": lambda case, a: 0 if a["IN_PLACE"] else math.ceil(case.candidates / a["BLOCK_M"]),
    "_walk_held#0": lambda case, a: float(case.seeds) if _held(case, a) else 0.0,
    "_walk#0": _walked,
    "_walk#1": _late,
    "_catch_up#0": lambda case, a: 0.9 * _tiles(case, a) / _late(case, a),
    "_walk_in_place#0": lambda *_: 0.0,  # no frame has so many candidates
    "_claim#0": _steps(lambda case, _: case.seeds, lambda a: a["BLOCK_K"]),
    "_grow#0": lambda *_: 5.0,  # rounds in a tile
    "_grow#1": lambda *_: 2.0,  # doublings of pointers
    "_collect#0": lambda _, a: a["children"],
    "_collect#1": _steps(lambda case, a: 2 * _edges(case, a) / a["children"], lambda a: a["BLOCK"]),
    "merge_tiles#0": lambda *_: 4.0,  # rounds in a region
    "_chain#0": lambda *_: 3.0,
    **dict.fromkeys(
        ("_begin#0", "_hook#0", "_chain#1", "_update#0", "_leave#0", "_leave#1"), _steps(_nodes, lambda a: a["BLOCK"])
    ),
    "_propose#0": _steps(_edges, lambda a: a["BLOCK"]),
    "close_seeds#0": lambda case, _: float(case.seeds),
    "_partial_sums#0": lambda _, a: a["TILES"],
    "_partial_sums#1": _labels,
    "_add_partials#0": lambda _, a: a["chunks"] / 4,  # the compiler takes four at a time
    "_fit#0": lambda _, a: a["iterations"],
    "_ranked#0": lambda *_: 16.0,
    "_search#0": _steps(lambda _, a: a["blocks"], lambda a: a["programs"]),
    "_search#1": _steps(lambda _, a: a["width"], lambda a: a["BLOCK_A"]),
    "_search#2": _steps(lambda _, a: a["BLOCK_R"], lambda a: a["TOGETHER"]),
    "_radius#0": lambda *_: 22.0,  # of 13 to 31
    "_within#0": _steps(lambda _, a: a["A"], lambda a: a["BLOCK_A"]),
    "_link_tracks#0": lambda case, _: float(case.frames),
    "_link_tracks#1": _steps(lambda case, _: case.seeds, lambda a: a["BLOCK_K"]),
    "_distances#0": lambda _, a: a["PARTS"],
    "_offsets#0": lambda _, a: a["C"] / 8,
    "_write_rows#0": lambda _, a: a["C"] / 8,
    "_list_seeds#0": lambda case, _: math.ceil(case.seeds / 8),
    "_list_seeds#1": lambda *_: 0.0,  # no two seeds are equal
    "_nearest#0": _listed,
    "_nearest#1": lambda _, a: a["PARTS"],
    "_limits#0": _steps(lambda case, _: case.seeds, lambda a: a["COLUMNS"]),
}
ONCE = 1.0
FROM_L1 = frozenset({"_catch_up#0"})  # loops that read what was read a moment ago
# Shares of a tensor that a kernel moves, where it is not all of it.
MOVED: dict[tuple[str, str], Callable[[Case], float]] = {
    ("_gather", "embedding_ptr"): lambda case: 16 * case.candidates / case.pixels,  # a sector of 32 bytes for each
    **dict.fromkeys((("_gather", "index_ptr"), ("_gather", "rows_ptr")), lambda case: case.candidates / case.pixels),
    **dict.fromkeys(
        (("_sample", name) for name in ("embedding_ptr", "rows_ptr", "index_ptr", "priority_ptr", "gap_ptr")),
        lambda _: 0.0,  # see its loops
    ),
    **dict.fromkeys((("grow_tiles", "edges"), ("merge_tiles", "edges")), lambda _: 0.2),
    **dict.fromkeys((("grow_tiles", "keys"), ("merge_tiles", "keys")), lambda _: 0.2),
    **dict.fromkeys((("merge_tiles", name) for name in ("right", "down", "component", "node")), lambda _: 0.3),
    **dict.fromkeys((("_partial_sums", name) for name in ("weight_ptr", "origin_ptr")), lambda _: 0.0),  # no weights
    ("_search", "scratch_ptr"): lambda _: 0.0,  # stays in L2
    ("_fit", "flow_ptr"): lambda _: 0.05,  # 4,096 pixels of a frame at most
    ("_fit", "weight_ptr"): lambda _: 0.05,
}


def moved(kernel: str, tensor: str, case: Case) -> float:
    """The share of a tensor that a kernel moves.

    Example:
        >>> moved("_fit", "weight_ptr", cases(300, 5)[0])
        0.05
    """
    share = MOVED.get((kernel, tensor))
    return 1.0 if share is None else share(case)
