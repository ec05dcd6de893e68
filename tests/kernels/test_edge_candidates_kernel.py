"""The Triton kernel of the candidate points against the reference, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.backend import Choice
from gpuvos.kernels.edge_candidates import edge_candidates, reference

pytest.importorskip("triton")

from gpuvos.kernels.edge_candidates import kernel

Launches = Callable[[ModuleType, str], list[tuple[int, ...]]]


def draw(generator: torch.Generator, n: int, h: int, w: int, levels: int = 0) -> tuple[Tensor, Tensor]:
    """Squared distances; whole numbers below ``levels``, so that many are equal, or real ones."""
    sizes = ((n, h, w - 1), (n, h - 1, w))
    if levels:
        return tuple(torch.randint(levels, size, generator=generator).float() for size in sizes)
    return tuple(torch.rand(size, generator=generator) for size in sizes)


def assert_equal(right: Tensor, down: Tensor, window: int, reduce: str, device: str) -> None:
    got = kernel.edge_candidates(right.to(device), down.to(device), window, reduce, 0.8)
    assert got.dtype == torch.bool
    assert got.is_contiguous()
    if device == "cuda":  # the same tanh
        right, down = right.cuda(), down.cuda()
    assert torch.equal(got, reference.edge_candidates(right, down, window, reduce, 0.8))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "h", "w", "window"),
    [
        (2, 20, 70, 9),  # two tiles in either direction, cut
        (1, 17, 13, 5),
        (1, 3, 66, 3),
        (1, 1, 6, 3),
        (1, 7, 1, 3),
        (1, 1, 1, 9),
        (1, 2, 5, 1),
        (1, 18, 20, 17),
        (0, 3, 3, 3),
    ],
)
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_equals_reference(
    n: int,
    h: int,
    w: int,
    window: int,
    reduce: str,
    generator: torch.Generator,
    kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:
    right, down = draw(generator, n, h, w, levels=0 if reduce == "mean" else 6)
    poisoned_buffers.clear()
    assert_equal(right, down, window, reduce, kernel_device)
    assert (n, h, w) in poisoned_buffers


@pytest.mark.slow
def test_windows_that_are_no_power_of_two_plus_one(generator: torch.Generator, kernel_device: str) -> None:
    for window in (7, 11, 13):
        assert_equal(*draw(generator, 1, 15, 18), window, "max", kernel_device)


def test_windows_above_the_largest_take_the_reference(
    generator: torch.Generator, kernel_device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_equal(*draw(generator, 1, 9, 20), kernel.MAX_WINDOW + 2, "max", kernel_device)
    monkeypatch.setattr(kernel, "_edge_candidates", None)  # would fail if it were launched
    assert_equal(*draw(generator, 1, 9, 20), kernel.MAX_WINDOW + 2, "mean", kernel_device)
    with pytest.raises(TypeError):
        assert_equal(*draw(generator, 1, 9, 20), kernel.MAX_WINDOW, "mean", kernel_device)


@pytest.mark.slow
def test_halves_and_layouts(generator: torch.Generator, kernel_device: str) -> None:
    right, down = draw(generator, 1, 6, 9, levels=9)
    for dtype in (torch.float16, torch.bfloat16):
        assert_equal(right.to(dtype), down.to(dtype), 3, "max", kernel_device)
        assert_equal(right.to(dtype), down.to(dtype), 3, "mean", kernel_device)
    assert_equal(right.mT.contiguous().mT, down.mT.contiguous().mT, 3, "max", kernel_device)


def test_infinite_distances(generator: torch.Generator, kernel_device: str) -> None:
    right, down = draw(generator, 1, 6, 9, levels=3)
    right[right == 2], down[down == 2] = torch.inf, torch.inf
    assert_equal(right, down, 3, "max", kernel_device)


def test_the_op_runs_the_kernel_where_it_is_chosen(
    generator: torch.Generator,
    kernel_device: str,
    monkeypatch: pytest.MonkeyPatch,
    launches: Launches,
    cuda_path: Callable[..., Any],
) -> None:
    monkeypatch.setattr("gpuvos.kernels.backend.choose", lambda *_: Choice("kernel", "asked for"))
    right, down = (value.to(kernel_device) for value in draw(generator, 1, 5, 6))
    grids = launches(kernel, "_edge_candidates")
    cuda_path("edge_candidates", right, down, 3, "max", 1.0)
    assert grids == [(1,)]


@pytest.mark.cuda
@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.parametrize("window", [3, 9, 17, 25])
@pytest.mark.parametrize("shape", [(4, 480, 854), (8, 120, 214), (1, 1, 5000), (2, 333, 1)])
def test_op_on_cuda(shape: tuple[int, int, int], window: int, reduce: str, generator: torch.Generator) -> None:
    right, down = (value.cuda() for value in draw(generator, *shape, levels=1000))
    torch.cuda.set_sync_debug_mode("error")
    try:
        first = edge_candidates(right, down, window, reduce, 300.0)
        second = edge_candidates(right, down, window, reduce, 300.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(first, second)
    assert torch.equal(first, reference.edge_candidates(right, down, window, reduce, 300.0))
    if reduce == "max":
        assert torch.equal(first.cpu(), edge_candidates(right.cpu(), down.cpu(), window, reduce, 300.0))


@pytest.mark.cuda
def test_cuda_graph(generator: torch.Generator) -> None:
    right, down = (value.cuda() for value in draw(generator, 2, 40, 50))
    wanted = edge_candidates(right, down, 9, "max", 1.0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = edge_candidates(right, down, 9, "max", 1.0)
    graph.replay()
    assert torch.equal(got, wanted)
