"""The Triton kernels of the minimum spanning forest against the reference, bit for bit."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.minimax_forest import minimax_forest, reference

pytest.importorskip("triton")

from gpuvos.kernels.minimax_forest import kernel

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
Graph = tuple[Tensor, Tensor, Tensor, Tensor]


def graph(
    n: int,
    h: int,
    w: int,
    k: int,
    levels: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> Graph:
    """Random weights, whole numbers up to ``levels`` unless that is 0, and seeds, some of them invalid or twice."""
    right = torch.rand(n, h, w - 1, generator=generator)
    down = torch.rand(n, h - 1, w, generator=generator)
    if levels:
        right, down = (right * levels).round(), (down * levels).round()
    index = torch.randint(0, h * w, (n, k), generator=generator)
    return right.to(dtype), down.to(dtype), index, torch.rand(n, k, generator=generator) < 0.8


def assert_equal(arguments: Graph, device: str) -> None:
    found = kernel.minimax_forest(*(value.to(device) for value in arguments))
    for got, wanted in zip(found, reference.minimax_forest(*arguments), strict=True):
        assert got.dtype == wanted.dtype
        assert got.is_contiguous()
        assert torch.equal(got.cpu(), wanted)


@pytest.mark.parametrize("levels", [0, 1, 3], ids=["distinct", "zeros and ones", "ties"])
@pytest.mark.parametrize(
    "shape",
    [
        (2, 9, 11, 4),
        (1, 1, 13, 3),
        (1, 7, 1, 2),
        (1, 1, 1, 1),
        (3, 33, 35, 20),  # four tiles
        (1, 5, 1100, 7),  # 35 tiles in a row: two levels of regions
        (1, 1100, 3, 7),
        (1, 200, 210, 130),  # 49 tiles: regions of 4 x 4 tiles
        (2, 6, 7, 0),
        (0, 4, 5, 3),
    ],
    ids=str,
)
def test_equals_reference(
    shape: tuple[int, int, int, int], levels: int, generator: torch.Generator, kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:  # fmt: skip
    arguments = graph(*shape, levels, generator)
    poisoned_buffers.clear()
    assert_equal(arguments, kernel_device)
    assert len(poisoned_buffers) >= 3


def test_frames_without_a_valid_seed(generator: torch.Generator, kernel_device: str) -> None:
    right, down, index, valid = graph(3, 34, 12, 4, 2, generator)
    valid[1] = False
    assert_equal((right, down, index, valid), kernel_device)
    label, distance, between = kernel.minimax_forest(
        *(value.to(kernel_device) for value in (right, down, index, valid))
    )
    assert (label[1] == -1).all()
    assert distance[1].isinf().all()
    assert between[1].isinf().all()


@pytest.mark.parametrize("rising", [True, False])
def test_long_chains(rising: bool, kernel_device: str) -> None:
    # every weight larger (smaller) than the one before along one line: pixels hook in one chain of 2,000
    weights = torch.arange(1.0, 2000.0)
    right = (weights if rising else weights.flip(0))[None, None]
    seeds = torch.tensor([[1999, 0, 700]])
    assert_equal((right, right.new_zeros(1, 0, 2000), seeds, seeds >= 0), kernel_device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_and_strides(dtype: torch.dtype, generator: torch.Generator, kernel_device: str) -> None:
    right, down, index, valid = graph(2, 35, 40, 6, 0, generator, dtype)
    turned = [value.to(kernel_device).mT.contiguous().mT for value in (right, down, index, valid)]
    assert not turned[0].is_contiguous()
    found = kernel.minimax_forest(*turned)
    for got, wanted in zip(found, reference.minimax_forest(right, down, index, valid), strict=True):
        assert torch.equal(got.cpu(), wanted)


def test_minus_zero_is_zero(kernel_device: str) -> None:
    right = torch.tensor([[[0.0, -0.0, 0.0, -0.0]]])
    index = torch.tensor([[4, 2]])
    assert_equal((right, right.new_zeros(1, 0, 5), index, index >= 0), kernel_device)


def test_little_scratch_memory_changes_nothing(
    generator: torch.Generator, kernel_device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "SCRATCH_BYTES", 1)  # a frame at a time
    assert_equal(graph(3, 20, 34, 5, 2, generator), kernel_device)


@on_cuda
def test_cuda_runs_the_kernel(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [value.cuda() for value in graph(1, 8, 9, 3, 0, generator)]
    called = []
    original = kernel.minimax_forest
    module = importlib.import_module("gpuvos.kernels.minimax_forest.kernel")
    monkeypatch.setattr(module, "minimax_forest", lambda *a: called.append(1) or original(*a))
    minimax_forest(*arguments)
    assert called


@on_cuda
def test_real_sizes_without_synchronisation_and_in_a_graph(generator: torch.Generator) -> None:
    arguments = graph(8, 480, 854, 100, 0, generator)
    wanted = reference.minimax_forest(*arguments)
    given = [value.cuda() for value in arguments]
    minimax_forest(*given)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = minimax_forest(*given)
        replay = torch.cuda.CUDAGraph()
        with torch.cuda.graph(replay):
            again = minimax_forest(*given)
        replay.replay()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for one, two, three in zip(found, again, wanted, strict=True):
        assert torch.equal(one.cpu(), three)
        assert torch.equal(two.cpu(), three)
