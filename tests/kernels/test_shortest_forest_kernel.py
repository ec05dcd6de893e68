"""The Triton kernels of the shortest-path forest against the reference: the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.shortest_forest import reference, shortest_forest

pytest.importorskip("triton")

from gpuvos.kernels.shortest_forest import kernel

Graph = tuple[Tensor, Tensor, Tensor, Tensor]


class Idle:
    """A kernel that does nothing when launched; counts its launches."""

    def __init__(self) -> None:
        self.launches = 0

    def __getitem__(self, _grid: object) -> Callable[..., None]:
        def launch(*_arguments: Any, **_options: Any) -> None:
            self.launches += 1

        return launch


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch, kernel_device: str) -> None:
    """Several tiles on tiny grids, where the interpreter is slow."""
    if kernel_device == "cpu":
        monkeypatch.setattr(kernel, "TILE", 8)


def assert_same(graph: Graph, device: str) -> tuple[Tensor, ...]:
    got = tuple(value.cpu() for value in kernel.shortest_forest(*(value.to(device) for value in graph)))
    for value, wanted in zip(got, reference.shortest_forest(*graph), strict=True):
        assert value.dtype == wanted.dtype
        assert value.is_contiguous()
        assert torch.equal(value, wanted)
    return got


@pytest.mark.slow
@pytest.mark.parametrize("levels", [0, 3], ids=["real", "ties"])
@pytest.mark.parametrize("shape", [(1, 10, 18), (2, 9, 7), (1, 1, 20), (1, 20, 1), (3, 1, 1)], ids=str)
def test_equals_reference(
    shape: tuple[int, int, int],
    levels: int,
    random_graph: Callable[..., Graph],
    generator: torch.Generator,
    kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:
    n, h, w = shape
    graph = random_graph(n, h, w, min(5, h * w), generator, levels=levels)
    poisoned_buffers.clear()
    assert_same(graph, kernel_device)
    assert poisoned_buffers


def snake_graph(snake: Callable[..., tuple[Tensor, Tensor, list[int]]], h: int, w: int) -> Graph:
    """One corridor through all tiles, with weights whose sums are rounded; seeds at both ends."""
    light = torch.rand(h * w - 1, generator=torch.Generator().manual_seed(1)) + 0.1
    right, down, order = snake(h, w, light, 5000.0)
    index = torch.tensor([[order[0], order[-1]]])
    return right[None], down[None], index, torch.tensor([[True, False]])


@pytest.mark.slow
def test_the_last_launch_finds_what_the_others_left(
    snake: Callable[..., tuple[Tensor, Tensor, list[int]]],
    monkeypatch: pytest.MonkeyPatch,
    kernel_device: str,
) -> None:
    graph = snake_graph(snake, kernel.TILE + 2, kernel.TILE + 5)
    monkeypatch.setattr(kernel, "_TURNS", 2)
    got = assert_same(graph, kernel_device)
    assert (got[0] == 0).all()
    idle = Idle()
    monkeypatch.setattr(kernel, "_finish", idle)
    left = kernel.shortest_forest(*(value.to(kernel_device) for value in graph))
    assert idle.launches == 3
    assert (left[0] == -1).any()


@pytest.mark.slow
def test_as_a_rule_the_last_launch_has_nothing_to_do(
    random_graph: Callable[..., Graph],
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
    kernel_device: str,
) -> None:
    graph = random_graph(1, 14, 19, 6, generator)
    idle = Idle()
    monkeypatch.setattr(kernel, "_finish", idle)
    assert_same(graph, kernel_device)
    assert idle.launches == 3


@pytest.mark.slow
def test_walls_seeds_at_one_pixel_and_bad_weights(kernel_device: str) -> None:
    nan, inf = torch.nan, torch.inf
    right = torch.tensor([[[1.0, nan, 2.0, inf, 1.0, -3.0, 2.0, 0.5, 1e-30]]])
    index = torch.tensor([[4, 2, 2, 9, 0, -1, 10, 1 << 40]])
    valid = torch.tensor([[False, True, True, True, True, False, False, False]])
    down = right.new_zeros(1, 0, 10)
    label, distance, _ = assert_same((right, down, index, valid), kernel_device)
    assert label.tolist() == [[[4, 4, 1, 1, 3, 3, 3, 3, 3, 3]]]
    assert distance[0, 0, :4].tolist() == [0, 1, 0, 2]
    outside = valid | (index >= 10)  # a valid seed outside of the grid is none
    got = kernel.shortest_forest(*(value.to(kernel_device) for value in (right, down, index, outside)))
    assert torch.equal(got[0].cpu(), label)


@pytest.mark.slow
def test_many_seeds(kernel_device: str) -> None:
    k = 150  # of two programs; the lowest of those at a pixel counts
    index = torch.arange(k).flip(0)[None] // 10
    right = torch.ones(1, 1, 15)
    label = assert_same((right, right[:, :0].new_zeros(1, 0, 16), index, index >= 0), kernel_device)[0]
    assert label[0, 0, :15].tolist() == [10 * (14 - pixel) for pixel in range(15)]


@pytest.mark.slow
def test_nothing_to_do(random_graph: Callable[..., Graph], generator: torch.Generator, kernel_device: str) -> None:
    right, down, index, valid = random_graph(2, 4, 5, 3, generator)
    assert_same((right, down, index, torch.zeros_like(valid)), kernel_device)
    assert_same((right, down, index[:, :0], valid[:, :0]), kernel_device)
    assert_same((right[:0], down[:0], index[:0], valid[:0]), kernel_device)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_weights_and_layouts(
    dtype: torch.dtype, random_graph: Callable[..., Graph], generator: torch.Generator, kernel_device: str
) -> None:
    right, down, index, valid = random_graph(2, 6, 9, 4, generator)
    graph = (right.to(dtype), down.to(dtype), index, valid)
    strided = tuple(value.transpose(0, -1).contiguous().transpose(0, -1) for value in graph)
    assert not any(value.is_contiguous() for value in strided)
    assert_same(strided, kernel_device)  # type: ignore[arg-type]


@pytest.mark.cuda
@pytest.mark.parametrize(("h", "w", "k"), [(120, 214, 100), (480, 854, 300), (97, 131, 1), (1, 5000, 3)])
def test_op_on_cuda(
    h: int,
    w: int,
    k: int,
    random_graph: Callable[..., Graph],
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    run = kernel.shortest_forest
    monkeypatch.setattr(kernel, "shortest_forest", lambda *a: calls.append(1) or run(*a))
    graph = random_graph(2, h, w, k, generator)
    wanted = shortest_forest(*graph)
    given = [value.cuda() for value in graph]
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = shortest_forest(*given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert calls
    for one, two in zip(got, wanted, strict=True):
        assert torch.equal(one.cpu(), two)
    graphs = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graphs):
        again = shortest_forest(*given)
    graphs.replay()
    for one, two in zip(again, got, strict=True):
        assert torch.equal(one, two)


@pytest.mark.cuda
@pytest.mark.parametrize("levels", [2, 5], ids=str)
def test_snakes_and_ties_on_cuda(
    levels: int,
    snake: Callable[..., tuple[Tensor, Tensor, list[int]]],
    random_graph: Callable[..., Graph],
    generator: torch.Generator,
) -> None:
    assert_same(snake_graph(snake, 130, 170), "cuda")
    assert_same(random_graph(3, 150, 133, 40, generator, levels=levels), "cuda")
