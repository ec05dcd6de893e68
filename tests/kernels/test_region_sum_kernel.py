"""The Triton kernels of the region sums against the reference."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.region_sum import reference, region_sum

pytest.importorskip("triton")

from gpuvos.kernels.region_sum import kernel


def draw(generator: torch.Generator, n: int, c: int, p: int, k: int, *, run: int = 40) -> tuple[Tensor, Tensor]:
    """Values, and labels in runs of pixels; some are outside of ``[0, k)``."""
    label = torch.randint(-2, k + 2, (n, -(-p // run)), generator=generator).repeat_interleave(run, 1)
    return torch.randn(n, c, p, generator=generator), label[:, :p].contiguous()


def assert_equal(values: Tensor, label: Tensor, k: int, device: str, *, exact: bool = False, width: int = 0) -> None:
    total, count = kernel.region_sum(values.to(device), label.to(device), k, width)
    wanted, number = reference.region_sum(values.double(), label, k)
    assert total.dtype == torch.float32
    assert total.is_contiguous()
    assert torch.equal(count.cpu(), number)
    atol = 0 if exact else 3e-6 * max(1, values.shape[2]) ** 0.5
    torch.testing.assert_close(total.double().cpu(), wanted, rtol=0, atol=atol)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("n", "c", "p", "k"),
    [(2, 3, 700, 7), (1, 1, 1, 1), (3, 2, 5, 40), (1, 5, 257, 100), (2, 2, 0, 3), (0, 2, 5, 3), (2, 0, 9, 3)],
)
def test_equals_reference(
    n: int,
    c: int,
    p: int,
    k: int,
    generator: torch.Generator,
    kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:
    values, label = draw(generator, n, c, p, k)
    poisoned_buffers.clear()
    assert_equal(values, label, k, kernel_device)
    assert poisoned_buffers


def test_labels_of_no_order(generator: torch.Generator, kernel_device: str) -> None:
    values, label = draw(generator, 1, 2, 300, 9, run=1)
    assert_equal(values.round(), label, 9, kernel_device, exact=True)


@pytest.mark.sampled
@pytest.mark.parametrize(("h", "w", "given"), [(19, 37, 37), (16, 16, 16), (3, 40, 40), (40, 3, 3), (7, 20, 19)])
def test_squares_of_an_image(
    h: int, w: int, given: int, generator: torch.Generator, kernel_device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # of narrow images, and where no row has that width, runs
    monkeypatch.setattr(kernel, "_TILES", 2)
    values, label = draw(generator, 2, 3, h * w, 7, run=5)
    values = values.round()
    assert_equal(values, label, 7, kernel_device, exact=True, width=given)
    partial, _ = kernel._partials([values], label, 7, values, values, weighted=False, width=given)
    tiles = -(-h // 16) * -(-w // 16) if given == w >= 16 else -(-h * w // 256)
    assert partial.shape[1] == tiles  # one a program in so small a frame


@pytest.mark.slow
def test_several_chunks_and_a_frame_alone(
    generator: torch.Generator, kernel_device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_TILES", 1)
    values, label = draw(generator, 3, 3, 1000, 5, run=150)
    assert_equal(values.round(), label, 5, kernel_device, exact=True)
    values, label = values.to(kernel_device), label.to(kernel_device)
    partial, _ = kernel._partials([values], label, 5, values, values, weighted=False)
    assert partial.shape == (3, 4, 5, 3)
    total = kernel.region_sum(values, label, 5)[0]
    for frame in range(3):
        one = kernel.region_sum(values[frame : frame + 1], label[frame : frame + 1], 5)[0]
        assert torch.equal(one[0], total[frame])


@pytest.mark.sampled
@pytest.mark.parametrize("channels", [(2, 2, 1), (1, 5), (5, 1, 3), (0, 2)], ids=str)
def test_several_tensors_in_one_launch(
    channels: tuple[int, ...],
    generator: torch.Generator,
    kernel_device: str,
    launches: Callable[[ModuleType, str], list[tuple[int, ...]]],
) -> None:
    label = draw(generator, 2, 1, 320, 6)[1].to(kernel_device)
    many = [torch.randn(2, c, 320, generator=generator).round().to(kernel_device) for c in channels]
    many[1] = many[1].mT.contiguous().mT  # pixels that are not side by side
    wanted = [kernel.region_sum(values, label, 6, 20) for values in many]
    grids = launches(kernel, "_partial_sums")
    first, *more = many
    total, count = kernel.region_sum(first, label, 6, 20, *more)
    assert len(grids) == 1
    assert torch.equal(total, torch.cat([sums for sums, _ in wanted], -1))
    assert torch.equal(count, wanted[0][1])
    mixed = kernel.region_sum(first.half(), label, 6, 20, *more)  # small whole numbers, exact in both types
    assert torch.equal(mixed[0], total)


def test_labels_far_outside_and_values_that_are_not_numbers(kernel_device: str) -> None:
    limit = torch.iinfo(torch.int64)
    label = torch.tensor([[limit.min, -1, 0, 2, limit.max, 1, 0, 1 << 32]], device=kernel_device)
    nan, inf = torch.nan, torch.inf
    values = torch.tensor([[[nan, inf, 1.0, nan, nan, inf, 2.0, nan]]], device=kernel_device)
    total, count = kernel.region_sum(values, label, 2)
    assert total.tolist() == [[[3], [inf]]]
    assert count.tolist() == [[2, 1]]


def test_no_regions(kernel_device: str) -> None:
    values = torch.ones(2, 3, 4, device=kernel_device)
    total, count = kernel.region_sum(values, torch.zeros(2, 4, dtype=torch.int64, device=kernel_device), 0)
    assert (total.shape, count.shape) == ((2, 0, 3), (2, 0))


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_is_accumulated_in_float32(dtype: torch.dtype, kernel_device: str) -> None:
    values = torch.ones(1, 1, 5000, dtype=dtype, device=kernel_device)
    label = torch.zeros(1, 5000, dtype=torch.int64, device=kernel_device)
    assert kernel.region_sum(values, label, 1)[0].item() == 5000


def test_memory_layout_does_not_matter(generator: torch.Generator, kernel_device: str) -> None:
    values, label = (value.to(kernel_device) for value in draw(generator, 2, 3, 90, 4))
    wanted = kernel.region_sum(values, label, 4)
    for strided in (values.mT.contiguous().mT, values.transpose(0, 2).contiguous().transpose(0, 2)):
        for got, want in zip(kernel.region_sum(strided, label.T.contiguous().T, 4), wanted, strict=True):
            assert torch.equal(got, want)


def test_difference_sum(generator: torch.Generator, kernel_device: str) -> None:
    values, _ = draw(generator, 2, 3, 80, 4)
    labels = [torch.randint(-1, 5, (2, 80), generator=generator).int() for _ in range(2)]
    weights = [torch.randn(2, 80, generator=generator) for _ in range(2)]
    weights[0][labels[0] < 0] = torch.nan  # pixels that are left out
    origin = torch.randn(2, 4, 3, generator=generator)
    wanted = torch.zeros(2, 4, 3, dtype=torch.float64)
    for label, weight in zip(labels, weights, strict=True):
        for n in range(2):
            for p in range(80):
                if 0 <= (k := int(label[n, p])) < 4:
                    wanted[n, k] += (weight[n, p] * (values[n, :, p] - origin[n, k])).double()
    pairs = ([value.to(kernel_device) for value in many] for many in (labels, weights))
    got = kernel.difference_sum(values.to(kernel_device), *map(tuple, pairs), origin.to(kernel_device))
    torch.testing.assert_close(got.double().cpu(), wanted, rtol=0, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.parametrize(("c", "k"), [(2, 100), (64, 300), (1, 1), (3, 4000)])
def test_op_on_cuda(c: int, k: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    run = kernel.region_sum
    monkeypatch.setattr(kernel, "region_sum", lambda *a: calls.append(1) or run(*a))
    values, label = draw(generator, 4, c, 480 * 854, k, run=61)
    wanted = reference.region_sum(values.double(), label, k)
    values, label = values.cuda(), label.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        first, second = region_sum(values, label, k), region_sum(values, label, k)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(calls) == 2
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(first[1].cpu(), wanted[1])
    torch.testing.assert_close(first[0].double().cpu(), wanted[0], rtol=1e-5, atol=2e-3)


@pytest.mark.cuda
def test_cuda_graph(generator: torch.Generator) -> None:
    values, label = (value.cuda() for value in draw(generator, 2, 3, 5000, 30))
    wanted = region_sum(values, label, 30)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = region_sum(values, label, 30)
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
