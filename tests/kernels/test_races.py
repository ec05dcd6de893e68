"""No kernel races: all ops under the detector and in every order, and it sees every barrier that is left out."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

import gpuvos.kernels

pytest.importorskip("triton")

import triton
import triton.language as tl

Inputs = Callable[..., list[tuple[Any, ...]]]

FOLDER = Path(next(iter(gpuvos.kernels.__path__)))
OPS = sorted(path.parent.name for path in FOLDER.glob("*/kernel.py"))

# What kernels leave unordered on purpose, and why no order of it changes a result.
INTENDED = {
    "list_seeds, between: write_rows read, offsets write": "both programs of a frame write the same table and centre",
    "finish_pixels, between: meet atomic, meet read": "an old value costs an atomic that changes nothing",
    "finish_pixels, inside: meet read, meet atomic": "an old value costs an atomic that changes nothing",
    "finish_pixels, inside: meet atomic, meet read": "an old value costs an atomic that changes nothing",
    "merge_tiles, inside: propose read, propose atomic": "an old value costs an atomic that changes nothing",
    "merge_tiles, inside: propose atomic, propose read": "an old value costs an atomic that changes nothing",
    "merge_tiles, inside: chain read, chain write": "both lead to the root, and the last pass moves nothing",
    "close_seeds, inside: close_seeds read, close_seeds write": "the minimum of the step takes what was read",
}  # fmt: skip


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


races = _load("race_detector")


def kernel_of(op: str) -> ModuleType:
    return importlib.import_module(f"gpuvos.kernels.{op}.kernel")


def bits(result: Any) -> list[Tensor]:
    tensors = (result,) if isinstance(result, Tensor) else result
    return [value.contiguous().view(-1).view(torch.uint8).clone() for value in tensors]


@contextmanager
def constants(module: ModuleType, values: dict[str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, value in values.items():
            stack.enter_context(patch.object(module, name, value))
        yield


def special_cases(
    op: str, random_graph: Callable[..., tuple[Tensor, ...]], exhaustive: bool
) -> list[tuple[dict[str, Any], tuple[Any, ...]]]:
    """Constants of the kernel's module and arguments that lead it where small inputs do not go."""
    g = torch.Generator().manual_seed(5)
    if op == "minimax_forest":
        sizes = [
            ({"SIDE": 4, "CHILDREN": 2}, (2, 17, 14, 5), 0), ({"SIDE": 4, "CHILDREN": 2}, (1, 17, 14, 5), 2),
            ({"SIDE": 8, "CHILDREN": 32}, (1, 20, 27, 6), 0), ({"SIDE": 4, "CHILDREN": 1}, (1, 18, 19, 5), 2),
        ]  # fmt: skip
        long = [(values, random_graph(*shape, g, levels=levels)) for values, shape, levels in sizes if exhaustive]
        right, down, index, valid = random_graph(2, 6, 9, 3, g)
        valid[1] = False
        return [({"SIDE": 4}, (right, down, index, valid)), *long]
    if op == "shortest_forest":
        few = {"TILE": 4, "_WARPS": 1, "_TURNS": 1}
        graphs = [(few, random_graph(1, 4, 8, 2, g.manual_seed(2), levels=3))]
        if exhaustive:
            graphs += [
                (few, random_graph(1, 5, 6, 2, g, levels=0)),
                ({**few, "_TURNS": 3}, random_graph(1, 13, 14, 4, g, levels=2)),
            ]
        return graphs
    if op == "farthest_points":
        tiling = kernel_of(op)._tiling

        def small(d: int, *, half: bool, in_place: bool) -> dict[str, Any]:
            return {**tiling(d, half=half, in_place=in_place), "HELD": 0, "BLOCK_M": 16}

        embedding = torch.randint(-4, 5, (2, 3, 60), generator=g).float()
        priority = torch.randint(-2, 3, (2, 60), generator=g).float()
        candidates = torch.rand(2, 60, generator=g) < 0.6
        far = (
            torch.rand(1, 2, 5000, generator=g),
            torch.rand(1, 5000, generator=g),
            torch.rand(1, 5000, generator=g) < 0.02,
        )
        given = (embedding, priority, candidates, 6)
        return [({"_tiling": small}, given), ({"_tiling": small, "_ROOM": 4}, given), ({}, (*far, 4))]
    if op in ("nearest_seeds", "foreground_probability"):
        embedding, seeds = torch.randn(2, 5, 70, generator=g), torch.randn(2, 40, 5, generator=g)
        seeds[:, 20:] = seeds[:, :20]  # twins
        sides = [torch.rand(2, 40, generator=g) < 0.6 for _ in range(2)]
        return [({}, (embedding, seeds, *sides, *([torch.tensor(0.5)] if op == "foreground_probability" else [])))]
    if op == "neighbor_mean":
        rows, points, label = (torch.randn(*s, generator=g) for s in ((1, 34, 3), (1, 10, 3), (1, 10)))
        return [({"_programs": lambda _: 1, "_HELD": 256}, (rows, points, label > -1, label, torch.tensor([3]), 4))]
    return []


@pytest.fixture
def cases(
    op_inputs: Inputs, random_graph: Callable[..., tuple[Tensor, ...]], exhaustive: bool
) -> Callable[[str], list[Any]]:
    """Pairs of constants and arguments of an op."""

    def of(op: str) -> list[Any]:
        plain = op_inputs(op)[:2]
        if op == "residual_flow":
            plain = [(*given[:2], 2) for given in plain]
        return [*(({}, given) for given in plain), *special_cases(op, random_graph, exhaustive)]

    return of


@pytest.fixture(autouse=True)
def _interpreted(kernel_device: str) -> None:
    if kernel_device != "cpu":
        pytest.skip("the detector watches the interpreter")


seen: set[str] = set()


def barriers_of(op: str) -> dict[tuple[str, int], bool]:
    """File and line of every barrier of an op's kernels."""
    return {
        (str(path), number): False
        for path in sorted(FOLDER.glob(f"{op}/*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "tl.debug_barrier()" in line
    }


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS)
def test_what_is_unordered_is_intended_and_every_barrier_is_missed(op: str, cases: Callable[[str], list[Any]]) -> None:
    module, missed = kernel_of(op), barriers_of(op)
    for values, given in cases(op):
        with constants(module, values), races.watched(mutate=True) as watch:
            getattr(module, op)(*given)
        found = {str(finding) for finding in watch.findings}
        assert found <= set(INTENDED), found - set(INTENDED)
        seen.update(found)
        for site, findings in watch.missed.items():
            place = (site.file, site.line)
            if place in missed:  # else another op's
                missed[place] |= bool(findings)
    assert all(missed.values()), [place for place, found in missed.items() if not found]


@pytest.mark.exhaustive
def test_every_intended_finding_is_found() -> None:
    if len(seen) == 0:
        pytest.skip("runs after the tests above, in one process with them")
    assert seen == set(INTENDED)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("order", races.ORDERS)
@pytest.mark.parametrize("op", OPS)
def test_results_do_not_depend_on_the_order(op: str, order: str, cases: Callable[[str], list[Any]]) -> None:
    module = kernel_of(op)
    for values, given in cases(op):
        with constants(module, values):
            wanted = bits(getattr(module, op)(*given))
            found = bits(races.reordered(order, lambda given=given: getattr(module, op)(*given)))
        assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


@triton.jit
def planted(x_ptr, y_ptr, ORDERED: tl.constexpr):
    i = tl.arange(0, 8)
    tl.store(x_ptr + i, i)
    if ORDERED:
        tl.debug_barrier()
    tl.store(y_ptr + tl.program_id(0) * 8 + i, tl.load(x_ptr + 7 - i))


def test_the_detector_sees_planted_races() -> None:
    x, y = torch.zeros(8, dtype=torch.int32), torch.zeros(16, dtype=torch.int32)
    with races.watched() as watch:
        planted[(1,)](x, y, ORDERED=False)
    assert [str(finding) for finding in watch.findings] == ["planted, inside: planted write, planted read"]
    with races.watched(mutate=True) as watch:
        planted[(1,)](x, y, ORDERED=True)
    assert not watch.findings
    assert [str(one) for found in watch.missed.values() for one in found] == [
        "planted, inside: planted write, planted read"
    ]
    with races.watched() as watch:
        planted[(2,)](x, y, ORDERED=True)  # the second program writes what the first one has read, the same values
    assert [str(finding) for finding in watch.findings] == ["planted, between: planted read, planted write"]
    planted[(1,)](x, y, ORDERED=False)
    wanted = y.clone()
    for order, same in (("late", False), ("reversed", True)):
        x.zero_()
        races.reordered(order, lambda: planted[(1,)](x, y, ORDERED=False))
        assert torch.equal(y, wanted) == same
    x.zero_()
    races.reordered("late", lambda: planted[(1,)](x, y, ORDERED=True))
    assert torch.equal(y, wanted)
