"""The Triton kernel of the edge distances against the reference."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.backend import Choice
from gpuvos.kernels.grid_edges import grid_edges, reference

pytest.importorskip("triton")

from gpuvos.kernels.grid_edges import kernel

Launches = Callable[[ModuleType, str], list[tuple[int, ...]]]

TYPES = [torch.float32, torch.float16, torch.bfloat16]


def assert_close(embedding: Tensor, device: str, *, exact: bool = False) -> None:
    """Sums of D squares in another order differ by D units of the last place at most; those of whole numbers do not."""
    rtol = 0 if exact else embedding.shape[1] * 2.0**-23
    for got, wanted in zip(kernel.grid_edges(embedding.to(device)), reference.grid_edges(embedding), strict=True):
        assert got.dtype == torch.float32
        assert got.is_contiguous()
        torch.testing.assert_close(got.cpu(), wanted, rtol=rtol, atol=0)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "shape",
    [
        (2, 3, 11, 14),  # even width, the last rows overlap; a program of one frame ends inside a row
        (2, 3, 9, 13),  # odd width
        (1, 2, 8, 2),
        (1, 2, 3, 6),  # fewer rows than a program takes
        (2, 5, 1, 6),
        (1, 4, 9, 1),
        (1, 1, 1, 1),
        (1, 2, 1, 300),
        (1, 2, 18, 134),  # several programs a frame
        (1, 0, 3, 4),
        (0, 2, 3, 4),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_equals_reference(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    generator: torch.Generator,
    kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:
    embedding = torch.randn(shape, generator=generator).to(dtype)
    poisoned_buffers.clear()
    assert_close(embedding, kernel_device)
    assert len(poisoned_buffers) >= 2
    assert_close((embedding.float() * 4).round().to(dtype), kernel_device, exact=True)


@pytest.mark.slow
def test_half_is_accumulated_in_float32(kernel_device: str) -> None:
    for width in (2, 3):  # two pixels a word, and one
        embedding = torch.zeros(1, 64, 2, width, dtype=torch.float16)
        embedding[..., 0] = 100
        embedding[:, 0, 1] = 60000
        embedding[:, 0, 0] = -60000
        right, down = kernel.grid_edges(embedding.to(kernel_device))
        assert right[0, 1, 0].item() == 63 * 10000
        assert down[0, 0].tolist() == [torch.tensor(120000.0).square().item()] * width


def test_strided_and_misaligned_input(generator: torch.Generator, kernel_device: str) -> None:
    embedding = torch.randint(-9, 9, (2, 4, 5, 6), generator=generator).bfloat16()
    assert_close(embedding.contiguous(memory_format=torch.channels_last), kernel_device, exact=True)
    assert_close(embedding[:, ::2, :, 1:], kernel_device, exact=True)
    # a frame that begins at an odd pixel cannot be read two pixels a word
    line = torch.randint(-9, 9, (1 + 2 * 3 * 4,), generator=generator).bfloat16()
    assert_close(line[1:].view(1, 2, 3, 4), kernel_device, exact=True)


def test_numbers_that_are_none_stay_where_they_are(generator: torch.Generator, kernel_device: str) -> None:
    for dtype in TYPES:
        embedding = torch.randint(-9, 9, (1, 2, 9, 10), generator=generator).to(dtype)
        embedding[0, 1, 3, 4], embedding[0, 0, 6, 7] = torch.nan, torch.inf
        for got, wanted in zip(
            kernel.grid_edges(embedding.to(kernel_device)), reference.grid_edges(embedding), strict=True
        ):
            assert torch.equal(got.nan_to_num(-1).cpu(), wanted.nan_to_num(-1))


def test_the_op_runs_the_kernel_where_it_is_chosen(
    kernel_device: str, monkeypatch: pytest.MonkeyPatch, launches: Launches, cuda_path: Callable[..., Any]
) -> None:
    monkeypatch.setattr("gpuvos.kernels.backend.choose", lambda *_: Choice("kernel", "asked for"))
    grids = launches(kernel, "_grid_edges")
    cuda_path("grid_edges", torch.zeros(2, 1, 8, 3, device=kernel_device))
    assert grids == [(2,)]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 64, 480, 854), (8, 52, 120, 214), (3, 7, 33, 1001), (2, 64, 5, 700)])
def test_op_on_cuda(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> None:
    embedding = torch.randint(-9, 9, shape, generator=generator).to(dtype)
    wanted = grid_edges(embedding)
    embedding = embedding.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = grid_edges(embedding)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(a.cpu(), b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.cuda
def test_gradient_on_cuda(generator: torch.Generator) -> None:
    embedding = torch.randn(1, 3, 14, 15, generator=generator)
    one, two = embedding.clone().requires_grad_(), embedding.cuda().requires_grad_()
    for e in (one, two):
        right, down = grid_edges(e)
        (right.sum() + 2 * down.sum()).backward()
    assert one.grad is not None
    assert two.grad is not None
    torch.testing.assert_close(one.grad, two.grad.cpu())


@pytest.mark.cuda
def test_cuda_graph(generator: torch.Generator) -> None:
    embedding = torch.randn(2, 5, 40, 50, generator=generator).cuda()
    wanted = grid_edges(embedding)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = grid_edges(embedding)
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
