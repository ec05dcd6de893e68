"""Kernels emulated thread by thread against their references; a process of its own, for it must not interpret kernels.

``python ptx_cases.py lean`` prints a line of JSON a case: its name, and what came of it ("same" bits as the reference,
"other", or the error's text).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import triton
import triton.language as tl
from ptx_machine import emulated
from torch import Tensor

from gpuvos.kernels.farthest_points import kernel as points_kernel
from gpuvos.kernels.farthest_points import reference as points_reference
from gpuvos.kernels.minimax_forest import kernel as forest_kernel
from gpuvos.kernels.minimax_forest import reference as forest_reference
from gpuvos.kernels.permutohedral_lattice import kernel as lattice_kernel

Call = Callable[[], Any]
Edit = Callable[[str], str]
floor = lattice_kernel._floor


def bits(result: Any) -> list[bytes]:
    tensors = (result,) if isinstance(result, Tensor) else result
    return [value.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for value in tensors]


def outcome(call: Call, wanted: Any, *, seed: int = 0, edit: Edit = str) -> str:
    try:
        with emulated(seed, edit=edit):
            found = call()
    except (RuntimeError, IndexError, ZeroDivisionError) as error:
        return f"{type(error).__name__}: {error}"
    return "same" if bits(found) == bits(wanted) else "other"


def graph(h: int, w: int, k: int, levels: int, n: int = 1) -> tuple[Tensor, ...]:
    """Weights, many of them equal where there are few levels, and seeds of which the second is invalid."""
    g = torch.Generator().manual_seed(h + w + k)
    right, down = (torch.randint(levels, (n, *size), generator=g).float() for size in ((h, w - 1), (h - 1, w)))
    index = torch.stack([torch.randperm(h * w, generator=g)[:k] for _ in range(n)])
    valid = torch.arange(k).expand(n, k) != 1
    return right, down, index.masked_fill(~valid, -1), valid


def forest(given: tuple[Tensor, ...], side: int = 32, children: int = 32) -> tuple[Call, Any]:
    def call() -> Any:
        with patch.object(forest_kernel, "SIDE", side), patch.object(forest_kernel, "CHILDREN", children):
            return forest_kernel.minimax_forest(*given)

    return call, forest_reference.minimax_forest(*given)


def points(n: int, d: int, p: int, k: int, dtype: torch.dtype, **tiling: int) -> tuple[Call, Any]:
    """Whole numbers, whose distances are exact and often equal."""
    g = torch.Generator().manual_seed(n + d + p)
    embedding = torch.randint(-4, 5, (n, d, p), generator=g).to(dtype)
    given = (embedding, torch.randint(-2, 3, (n, p), generator=g).float(), torch.rand(n, p, generator=g) < 0.6, k)
    usual = points_kernel._tiling

    def call() -> Any:
        with patch.object(points_kernel, "_tiling", lambda *a, **b: {**usual(*a, **b), **tiling}):
            return points_kernel.farthest_points(*given)

    return call, points_reference.farthest_points(*given)


SMALL = {"HELD": 0, "BLOCK_M": 16, "num_warps": 4}  # rows in memory, in several tiles


@triton.jit
def floors(x_ptr, ours_ptr, theirs_ptr):
    i = tl.arange(0, 32)
    tl.store(ours_ptr + i, floor(tl.load(x_ptr + i)))
    tl.store(theirs_ptr + i, tl.floor(tl.load(x_ptr + i)))


def floors_of_small_numbers() -> tuple[Tensor, Tensor]:
    """By the lattice and by ``tl.floor``; of denormals the latter is not right on a GPU."""
    x = torch.tensor([-1e-40, -1e-45, 1e-40, -0.0, 0.0, -2e-38, -1.5, 2.5]).repeat(4)
    ours, theirs = torch.empty_like(x), torch.empty_like(x)
    floors[(1,)](x, ours, theirs, num_warps=1)
    return ours, theirs


def floor_case() -> tuple[Call, Any]:
    right, flushed = ([-1.0, -1.0, 0.0, -0.0, 0.0, -1.0, -2.0, 2.0] for _ in range(2))
    flushed[:2] = [-0.0, -0.0]
    return floors_of_small_numbers, tuple(torch.tensor(values).repeat(4) for values in (right, flushed))


LEAN: dict[str, Callable[[], tuple[Call, Any]]] = {
    "forest of two tiles": lambda: forest(graph(9, 35, 4, 5)),
    "points in registers": lambda: points(1, 5, 60, 5, torch.bfloat16, num_warps=4),
    "points in memory": lambda: points(1, 3, 60, 6, torch.float32, **SMALL),
    "floor": floor_case,
}
FULL: dict[str, Callable[[], tuple[Call, Any]]] = {
    "forest of one pixel": lambda: forest(graph(1, 1, 1, 2)),
    "forest without ties": lambda: forest(graph(20, 40, 7, 1 << 20)),
    "forest of a frame of regions": lambda: forest(graph(17, 14, 5, 3), side=4, children=2),
    "forest of small tiles": lambda: forest(graph(18, 19, 5, 4), side=8),
    "forest of four tiles, two frames": lambda: forest(graph(40, 45, 6, 3, n=2)),
    "points of two frames": lambda: points(2, 3, 40, 7, torch.float32),
    "points of many channels": lambda: points(1, 130, 20, 5, torch.float32),
    "points of float16": lambda: points(1, 52, 70, 5, torch.float16),
    "points of two chunks": lambda: points(1, 2, 2500, 4, torch.float32),
    "points where they lie": lambda: points(1, 2, 1900, 3, torch.bfloat16),
}


def left_out(ptx: str, number: int | None) -> str:
    """The code without its barrier of a number, or without any."""
    pieces = re.split(r"^.*bar\.sync.*$", ptx, flags=re.MULTILINE)
    if number is None:
        return "\n".join(pieces)
    kept = [*(["\tbar.sync \t0;"] * (len(pieces) - 1)), ""]
    if number < len(pieces) - 1:
        kept[number] = ""
    return "\n".join(piece + barrier for piece, barrier in zip(pieces, kept, strict=True))


def main(which: str) -> Iterator[tuple[str, str]]:
    for name, make in (LEAN if which == "lean" else {**LEAN, **FULL}).items():
        call, wanted = make()
        for seed in range(1 if which == "lean" else 4):
            yield f"{name}, order {seed}", outcome(call, wanted, seed=seed)
    call, wanted = LEAN["points in memory"]()
    yield "no barrier", outcome(call, wanted, edit=partial(left_out, number=None))
    if which == "lean":
        return
    for name in ("points in memory", "forest of two tiles"):
        call, wanted = LEAN[name]()
        for number in range(80):
            found = [outcome(call, wanted, seed=s, edit=partial(left_out, number=number)) for s in range(2)]
            yield f"{name} without barrier {number}", next((one for one in found if one != "same"), "same")


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)  # which fills what is not initialised
    for case in main(sys.argv[1]):
        print(json.dumps(case), flush=True)
