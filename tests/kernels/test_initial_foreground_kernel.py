"""The Triton kernels of Eq. 11 against the reference, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.backend import Choice
from gpuvos.kernels.initial_foreground import initial_foreground, reference

pytest.importorskip("triton")

from gpuvos.kernels.initial_foreground import kernel

Case = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
Launches = Callable[[ModuleType, str], list[tuple[int, ...]]]


def draw(generator: torch.Generator, n: int, p: int, k: int, *, levels: int = 0) -> Case:
    """Labels, of which some are no seed's, and distances, whole ones up to ``levels`` unless that is 0."""
    label = torch.randint(-1, k + 1, (n, p), generator=generator)
    distance, between = torch.rand(n, p, generator=generator), torch.rand(n, k, k, generator=generator)
    if levels:
        distance, between = (distance * levels).round(), (between * levels).round()
    between.diagonal(0, 1, 2).zero_()
    seed = torch.randint(-1, k + 2, (n,), generator=generator)
    return label, distance, between, seed, torch.rand(n, k, generator=generator) < min(0.4, 5 / (k + 1))


def assert_equal(case: Case, device: str) -> Tensor:
    found = kernel.initial_foreground(*(value.to(device) for value in case))
    assert found.dtype == torch.bool
    assert found.is_contiguous()
    assert torch.equal(found.cpu(), reference.initial_foreground(*case))
    return found


@pytest.mark.sampled
@pytest.mark.parametrize("levels", [0, 3], ids=["distinct", "ties"])
@pytest.mark.parametrize(
    "shape",
    [(2, 99, 7), (3, 1030, 20), (1, 1, 1), (1, 2500, 130), (2, 9, 0), (2, 0, 3), (0, 5, 3)],
    ids=str,
)
def test_equals_reference(
    shape: tuple[int, int, int],
    levels: int,
    generator: torch.Generator,
    kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:
    case = draw(generator, *shape, levels=levels)
    if shape[2] > 1:
        case[3][:] = torch.arange(len(case[3])) % 2  # or some frames have none
    poisoned_buffers.clear()
    found = assert_equal(case, kernel_device)
    assert shape[:2] in poisoned_buffers
    assert found.any() or min(shape) < 2


def test_frames_without_foreground_or_background(generator: torch.Generator, kernel_device: str) -> None:
    label, distance, between, seed, background = draw(generator, 4, 50, 5)
    seed = torch.tensor([-1, 5, 2, 1 << 40])
    background[1:] = False
    background[2, 2] = True  # itself, which does not count
    found = assert_equal((label, distance, between, seed, background), kernel_device).cpu()
    assert found.any(1).tolist() == [False, False, True, False]


def test_values_that_no_forest_gives(generator: torch.Generator, kernel_device: str) -> None:
    case = draw(generator, 1, 60, 6)
    limit = torch.iinfo(torch.int64)
    case[0][0, :3] = torch.tensor([limit.min, limit.max, 1 << 32])
    case[1][0, 10:20], case[1][0, 20:30] = torch.inf, torch.nan
    case[2][0, 1, 2:5], case[2][0, :, 5] = torch.inf, torch.inf
    case[3][0] = 0
    assert_equal(case, kernel_device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_and_strides(dtype: torch.dtype, generator: torch.Generator, kernel_device: str) -> None:
    label, distance, between, _, background = draw(generator, 3, 40, 6, levels=9)
    seed = torch.tensor([0, 9, 1, 9, 2, 9])[::2]
    turned = [v.transpose(0, -1).contiguous().transpose(0, -1) for v in (label, distance, between, background)]
    label, distance, between, background = turned
    assert not label.is_contiguous()
    assert_equal((label, distance.to(dtype), between.to(dtype), seed, background), kernel_device)
    one = tuple(value[:1].expand(3, *value.shape[1:]) for value in (label, distance, between))
    assert_equal((*one, seed, background), kernel_device)


def test_the_op_runs_the_kernel_where_it_is_chosen(
    generator: torch.Generator,
    kernel_device: str,
    monkeypatch: pytest.MonkeyPatch,
    launches: Launches,
    cuda_path: Callable[..., Any],
) -> None:
    monkeypatch.setattr("gpuvos.kernels.backend.choose", lambda *_: Choice("kernel", "asked for"))
    grids = [launches(kernel, name) for name in ("_limits", "_initial_foreground")]
    cuda_path("initial_foreground", *(value.to(kernel_device) for value in draw(generator, 2, 1100, 20)))
    assert grids == [[(4,)], [(4,)]]  # two frames of 16 + 4 regions and of 1,024 + 76 pixels


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(4, 480 * 854, 100), (8, 120 * 214, 300), (1, 5000, 1)], ids=str)
def test_op_on_cuda_without_synchronisation_and_in_a_graph(
    shape: tuple[int, int, int], generator: torch.Generator, launches: Launches
) -> None:
    case = draw(generator, *shape, levels=50)
    wanted = reference.initial_foreground(*case)
    given = [value.cuda() for value in case]
    grids = launches(kernel, "_initial_foreground")
    initial_foreground(*given)  # compiles
    assert len(grids) == 1
    torch.cuda.set_sync_debug_mode("error")
    try:
        first = initial_foreground(*given)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            again = initial_foreground(*given)
        graph.replay()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(first.cpu(), wanted)
    assert torch.equal(again.cpu(), wanted)
