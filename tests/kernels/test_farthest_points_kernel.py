"""The Triton kernels of farthest-point sampling against the reference: the same indices."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.backend import Choice
from gpuvos.kernels.farthest_points import farthest_points, reference

pytest.importorskip("triton")

from gpuvos.kernels.farthest_points import kernel

Case = tuple[Tensor, Tensor, Tensor]
Launches = Callable[[ModuleType, str], list[tuple[int, ...]]]


def draw(generator: torch.Generator, n: int, d: int, p: int, share: float, *, whole: bool = True) -> Case:
    """Embedding, priority and candidates; of whole numbers, whose distances are exact and often equal."""
    if whole:
        embedding = torch.randint(-4, 5, (n, d, p), generator=generator).float()
        priority = torch.randint(-2, 3, (n, p), generator=generator).float() / 4
    else:
        embedding = torch.randn(n, d, p, generator=generator)
        priority = torch.rand(n, p, generator=generator)
    return embedding, priority, torch.rand(n, p, generator=generator) < share


def assert_equal(case: Case, k: int, device: str) -> Tensor:
    got = kernel.farthest_points(*(value.to(device) for value in case), k)
    assert got.dtype == torch.int64
    assert got.is_contiguous()
    assert torch.equal(got.cpu(), reference.farthest_points(*case, k))
    return got


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "d", "p", "k", "share"),
    [
        (3, 3, 40, 7, 0.5),
        (2, 5, 31, 40, 0.5),  # candidates run out
        (1, 64, 90, 12, 0.8),
        (1, 52, 70, 5, 0.9),
        (1, 130, 20, 5, 1.0),  # channels in two parts
        (2, 2, 5000, 4, 0.02),  # several chunks
        (1, 2, 1500, 3, 0.6),  # more candidates than are held
        (2, 3, 9, 4, 0.0),
        (1, 1, 1, 3, 1.0),
        (2, 3, 5, 0, 1.0),
        (0, 3, 5, 2, 1.0),
        (2, 3, 0, 2, 1.0),
    ],
)
def test_equals_reference(
    n: int, d: int, p: int, k: int, share: float, generator: torch.Generator, kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:  # fmt: skip
    case = draw(generator, n, d, p, share)
    poisoned_buffers.clear()
    assert_equal(case, k, kernel_device)
    assert (n, k) in poisoned_buffers


@pytest.mark.slow
def test_held_read_anew_and_in_place_agree(
    generator: torch.Generator, kernel_device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = draw(generator, 3, 1, 60, 0.5)  # nine values: then all that are left have distance 0
    case[2][0] = torch.arange(60) < 3  # few enough for every path
    case[2][1] = True
    held = assert_equal(case, 14, kernel_device)
    monkeypatch.setattr(kernel, "_ROOM", 4)  # frames 1 and 2 have no room for rows
    assert torch.equal(assert_equal(case, 14, kernel_device), held)
    monkeypatch.setattr(kernel, "_ROOM", 1024)
    tiling = kernel._tiling

    def small(d: int, *, half: bool, in_place: bool) -> dict[str, int]:
        return tiling(d, half=half, in_place=in_place) | {"HELD": 0, "BLOCK_M": 16}

    monkeypatch.setattr(kernel, "_tiling", small)
    assert torch.equal(assert_equal(case, 14, kernel_device), held)
    monkeypatch.setattr(kernel, "_ROOM", 4)
    assert torch.equal(assert_equal(case, 14, kernel_device), held)


@pytest.mark.slow
def test_frames_of_different_counts_in_one_call(generator: torch.Generator, kernel_device: str) -> None:
    embedding, priority, candidates = draw(generator, 4, 2, 2100, 1.0)
    for frame, count in enumerate((0, 1, 600, 2100)):  # none, one, more than are held, more than rows
        candidates[frame] = torch.randperm(2100, generator=generator) < count
    assert_equal((embedding, priority, candidates), 3, kernel_device)


def test_ties_go_to_the_lowest_index(kernel_device: str) -> None:
    embedding = torch.tensor([[[1.0, 0.0, 2.0, 0.0, 2.0, 1.0]]], device=kernel_device)
    everyone = torch.ones(1, 6, dtype=torch.bool, device=kernel_device)
    priority = torch.tensor([[0.0, -0.0, 0.0, -0.0, 0.0, -0.0]], device=kernel_device)
    for first in (priority, -priority):  # the two zeros are equal
        assert kernel.farthest_points(embedding, first, everyone, 6).tolist() == [[0, 1, 2, 3, 4, 5]]
    flat = torch.full((1, 2, 6), 3.0, device=kernel_device)
    assert kernel.farthest_points(flat, priority, everyone, 7).tolist() == [[0, 1, 2, 3, 4, 5, -1]]


def test_priorities_of_any_sign_and_size(kernel_device: str) -> None:
    inf = torch.inf
    embedding = torch.zeros(1, 1, 5, device=kernel_device)
    for row, wanted in (([-3, -1, -2, -1, -9], 1), ([-inf, -inf, -2, -1, inf], 4), ([-inf] * 5, 1)):
        priority = torch.tensor([row], dtype=torch.float32, device=kernel_device)
        candidates = torch.tensor([[False, True, True, True, True]], device=kernel_device)
        assert kernel.farthest_points(embedding, priority, candidates, 1).item() == wanted


def test_distances_that_overflow_and_are_no_numbers_stay_in_bounds(kernel_device: str) -> None:
    embedding = torch.tensor([[[0.0, 3e38, -3e38, 1.0]]], device=kernel_device)
    everyone = torch.ones(1, 4, dtype=torch.bool, device=kernel_device)
    priority = torch.tensor([[1.0, 0, 0, 0]], device=kernel_device)
    assert kernel.farthest_points(embedding, priority, everyone, 4).tolist() == [[0, 1, 2, 3]]
    for bad in (embedding * torch.nan, embedding.clone().fill_(torch.inf)):
        got = kernel.farthest_points(bad, priority * bad[0, 0], everyone, 6)[0]
        assert ((got >= -1) & (got < 4)).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_computed_in_float32(dtype: torch.dtype, generator: torch.Generator, kernel_device: str) -> None:
    embedding, priority, candidates = draw(generator, 2, 20, 50, 0.7)
    embedding = embedding * 64  # squares overflow half
    assert_equal((embedding.to(dtype), priority.to(dtype), candidates), 9, kernel_device)
    assert_equal((embedding.to(dtype), priority, candidates), 9, kernel_device)


def test_real_embeddings(generator: torch.Generator, kernel_device: str) -> None:
    assert_equal(draw(generator, 2, 16, 80, 0.9, whole=False), 12, kernel_device)


@pytest.mark.slow
def test_memory_layout_does_not_matter(
    generator: torch.Generator, kernel_device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = draw(generator, 2, 3, 30, 0.7)
    turned = tuple(value.transpose(0, -1).contiguous().transpose(0, -1) for value in case)
    last = (case[0].mT.contiguous().mT, *case[1:])
    for room in (1024, 2):
        monkeypatch.setattr(kernel, "_ROOM", room)
        for layout in (turned, last):
            assert_equal(layout, 6, kernel_device)


def test_the_op_runs_the_kernel_where_it_is_chosen(
    generator: torch.Generator,
    kernel_device: str,
    monkeypatch: pytest.MonkeyPatch,
    launches: Launches,
    cuda_path: Callable[..., Any],
) -> None:
    asked: list[torch.dtype] = []
    chosen = Choice("kernel", "asked for")
    monkeypatch.setattr("gpuvos.kernels.backend.choose", lambda *given: asked.append(given[1]) or chosen)
    embedding, priority, candidates = (value.to(kernel_device) for value in draw(generator, 2, 3, 20, 0.5))
    grids = launches(kernel, "_sample")
    cuda_path("farthest_points", embedding.half(), priority.bfloat16(), candidates, 3)
    assert grids == [(2,)]  # no frame can have more candidates than rows
    monkeypatch.setattr(kernel, "_ROOM", 4)
    cuda_path("farthest_points", embedding, priority, candidates, 3)
    assert grids == [(2,)] * 3
    monkeypatch.setattr(kernel, "farthest_points", lambda *case: case[0])
    cuda_path("farthest_points", embedding, priority.double(), candidates, 3)
    assert asked == [torch.float32, torch.float32, torch.float64]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("n", "d", "p", "k", "share"),
    [
        (80, 64, 25680, 100, 0.013),
        (8, 52, 25680, 300, 0.02),
        (3, 64, 409920, 100, 0.012),
        (2, 64, 25680, 50, 1.0),
        (5, 200, 3000, 100, 0.5),
        (3, 3, 25680, 100, 0.04),
    ],
)
def test_op_on_cuda(
    n: int, d: int, p: int, k: int, share: float, dtype: torch.dtype, generator: torch.Generator
) -> None:
    embedding, priority, candidates = draw(generator, n, d, p, share)
    embedding = embedding.to(dtype)
    wanted = farthest_points(embedding, priority, candidates, k)
    on_device = [value.cuda() for value in (embedding, priority, candidates)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        first, second = farthest_points(*on_device, k), farthest_points(*on_device, k)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(first, second)
    assert torch.equal(first.cpu(), wanted)


@pytest.mark.cuda
def test_cuda_graph(generator: torch.Generator) -> None:
    case = [value.cuda() for value in draw(generator, 3, 8, 5000, 0.1)]
    wanted = farthest_points(*case, 30)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = farthest_points(*case, 30)
    graph.replay()
    assert torch.equal(got, wanted)
    case[2].logical_not_()  # a graph does not remember how many candidates there were
    graph.replay()
    assert torch.equal(got, farthest_points(*case, 30))
