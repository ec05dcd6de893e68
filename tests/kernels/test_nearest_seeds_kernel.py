"""The Triton kernels of the nearest seeds against the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.nearest_seeds import nearest_seeds, reference

pytest.importorskip("triton")

from gpuvos.kernels.nearest_seeds import kernel, lists

Case = tuple[Tensor, Tensor, Tensor, Tensor]


def draw(generator: torch.Generator, n: int, d: int, p: int, k: int, dtype: torch.dtype) -> Case:
    embedding = torch.randn(n, d, p, generator=generator).to(dtype)
    seeds = torch.randn(n, k, d, generator=generator).to(dtype)
    foreground = torch.rand(n, k, generator=generator) < 0.4
    background = ~foreground & (torch.rand(n, k, generator=generator) < 0.9)
    return embedding, seeds, foreground, background


def assert_near(case: Case, device: str, *, rtol: float = 2e-6, sure: float = 1e-4) -> tuple[Tensor, ...]:
    """Distances within ``rtol`` of float64's; the same seeds, unless the next is nearer than by ``sure``."""
    result = tuple(value.cpu() for value in kernel.nearest_seeds(*(value.to(device) for value in case)))
    wide = (case[0].double(), case[1].double(), *case[2:])
    table = (wide[0][:, None] - wide[1][..., None]).square().sum(2)  # [N, K, P]
    for side, wanted in enumerate(reference.nearest_seeds(*wide)[:2]):
        assert result[side].dtype == torch.float32
        assert result[2 + side].dtype == torch.int64
        torch.testing.assert_close(result[side].double(), wanted, rtol=rtol + sure, atol=0)
        number = result[2 + side]
        empty = ~case[2 + side].any(1)
        assert (number[empty] == -1).all()
        assert (number[~empty] >= 0).all()
        named = table[~empty].gather(1, number[~empty][:, None])[:, 0]
        torch.testing.assert_close(result[side][~empty].double(), named, rtol=rtol, atol=0)
        assert case[2 + side][~empty].gather(1, number[~empty]).all()  # of the set
    return result


@pytest.fixture
def _short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few seeds and pixels at a time, so that small inputs take several steps and programs."""
    monkeypatch.setattr(lists, "BLOCK_P", 16)
    monkeypatch.setattr(kernel, "BLOCK_P", 16)
    for name in ("HALF_P", "HALF_K", "BLOCK_K"):
        monkeypatch.setattr(lists, name, 16)


@pytest.mark.slow
@pytest.mark.usefixtures("_short_steps")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_equals_reference(
    dtype: torch.dtype,
    generator: torch.Generator,
    kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:
    case = draw(generator, 2, 20, 17, 37, dtype)
    poisoned_buffers.clear()
    assert_near(case, kernel_device)
    assert poisoned_buffers


@pytest.mark.sampled
@pytest.mark.usefixtures("_short_steps")
@pytest.mark.parametrize("shape", [(1, 70, 5, 6), (1, 1, 1, 1), (3, 2, 17, 1)], ids=str)
def test_other_shapes(shape: tuple[int, int, int, int], generator: torch.Generator, kernel_device: str) -> None:
    # 70 channels are cut into parts; of one seed one set is empty
    assert_near(draw(generator, *shape, torch.float32), kernel_device, rtol=1e-5)


def test_nothing_at_all(generator: torch.Generator, kernel_device: str) -> None:
    for shape in ((0, 3, 5, 2), (2, 3, 0, 2)):
        for value in kernel.nearest_seeds(*draw(generator, *shape, torch.float32)):
            assert value.shape == (shape[0], shape[2])
    embedding, seeds, foreground, background = draw(generator, 1, 3, 5, 2, torch.float32)
    case = (embedding, seeds[:, :0], foreground[:, :0], background[:, :0])
    near, far, nearest_fg, nearest_bg = kernel.nearest_seeds(*(value.to(kernel_device) for value in case))
    assert (near == torch.inf).all()
    assert (far == torch.inf).all()
    assert (nearest_fg == -1).all()
    assert (nearest_bg == -1).all()


def test_hand_worked_with_ties_and_a_nan(kernel_device: str) -> None:
    seeds = torch.tensor([[[9.0], [2.0], [-2.0], [2.0], [torch.nan], [4.0]]])
    foreground = torch.tensor([[False, True, True, True, False, False]])
    background = torch.tensor([[False, False, False, True, False, True]])  # seed 3 is in both, seed 0 in none
    embedding = torch.tensor([[[0.0, 2.0, -3.0, torch.nan, 3.0]]])
    case = (value.to(kernel_device) for value in (embedding, seeds, foreground, background))
    near, far, nearest_fg, nearest_bg = kernel.nearest_seeds(*case)
    assert nearest_fg.tolist() == [[1, 1, 2, 1, 1]]
    assert nearest_bg.tolist() == [[3, 3, 3, 3, 3]]
    assert near.tolist()[0][:3] == [4, 0, 1]
    assert far.tolist()[0][:3] == [4, 0, 25]
    assert near[0, 3].isnan()
    assert far[0, 3].isnan()
    assert (near[0, 4].item(), far[0, 4].item()) == (1, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("_short_steps")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_of_equal_seeds_the_lowest_is_named(dtype: torch.dtype, generator: torch.Generator, kernel_device: str) -> None:
    embedding, seeds, _, _ = draw(generator, 1, 24, 16, 11, dtype)
    members = torch.ones(1, 33, dtype=torch.bool)
    later = members.clone()
    later[:, :11] = False
    case = (embedding, torch.cat((seeds, seeds, seeds), 1), members, later)
    near, far, nearest_fg, nearest_bg = kernel.nearest_seeds(*(value.to(kernel_device) for value in case))
    assert (nearest_fg < 11).all()
    assert torch.equal(nearest_bg, nearest_fg + 11)
    assert torch.equal(near, far)


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_an_offset_costs_no_accuracy(dtype: torch.dtype, generator: torch.Generator, kernel_device: str) -> None:
    embedding, seeds, foreground, background = draw(generator, 1, 8, 20, 12, torch.float32)
    offset = torch.tensor([1000.0, -300, 0, 50, 1000, 1000, 7, 0])
    case = ((embedding + offset[:, None]).to(dtype), (seeds + offset).to(dtype), foreground, background)
    assert_near(case, kernel_device, sure=1e-3)


@pytest.mark.slow
def test_mixed_types_and_layouts(generator: torch.Generator, kernel_device: str) -> None:
    embedding, seeds, foreground, background = draw(generator, 2, 5, 20, 9, torch.float16)
    wanted = assert_near((embedding, seeds.float() + 1e-4, foreground, background), kernel_device)
    turned = [
        value.transpose(0, -1).contiguous().transpose(0, -1).to(kernel_device)
        for value in (embedding, seeds.float() + 1e-4, foreground, background)
    ]
    channels_last = embedding.mT.contiguous().mT.to(kernel_device)
    for first in (turned[0], channels_last):
        for got, want in zip(kernel.nearest_seeds(first, *turned[1:]), wanted, strict=True):
            assert torch.equal(got.cpu(), want)
            assert got.is_contiguous()


def test_lists(kernel_device: str) -> None:
    seeds = torch.tensor([[[0.01, 5.0], [3.0, 5.0], [0.01, 5.0], [100.0, 0.0]]])
    foreground = torch.tensor([[True, True, True, False]])
    case = (torch.zeros(1, 2, 1), seeds, foreground, torch.zeros_like(foreground))
    listed, constants = lists.list_seeds(*(value.to(kernel_device) for value in case))
    assert listed.size.tolist() == [[2, 0]]
    assert listed.number[0, 0, :2].tolist() == [0, 1]  # 2 repeats 0
    mean = 3.02 / 3
    assert listed.centre[0, :2].tolist() == pytest.approx([mean, 5])
    assert listed.rows[0, 0, :2, :2].flatten().tolist() == pytest.approx([0.01 - mean, 0, 3 - mean, 0])
    assert listed.offset[0, 0, :2].tolist() == pytest.approx([(0.01 - mean) ** 2, (3 - mean) ** 2])
    assert constants["PARTS"] == 1
    half = [value.half() if value.is_floating_point() else value for value in case]
    listed, _ = lists.list_seeds(*(value.to(kernel_device) for value in half))
    # 0.01 - mean needs more digits than the type has, 5 - 5 does not: only the second channel is centred
    small = torch.tensor(0.01).half().item()
    assert listed.centre[0, :2].tolist() == [0, 5]
    assert listed.rows[0, 0, :2, :2].flatten().tolist() == [small, 0, 3, 0]
    assert listed.offset[0, 0, :2].tolist() == pytest.approx([small**2, 9])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_backward(dtype: torch.dtype, generator: torch.Generator, kernel_device: str) -> None:
    case = draw(generator, 2, 5, 70, 6, dtype)
    case[2][1] = False
    near, _, *numbers = reference.nearest_seeds(*case)
    grads = [torch.randn(near.shape, generator=generator) for _ in range(2)]
    grads[0][1] = torch.nan  # of a set that is empty: left out
    wide = [value.double() for value in (*case[:2], *grads)]
    wanted = reference.nearest_seeds_backward(*wide[:2], *numbers, *wide[2:])
    got = kernel.nearest_seeds_backward(*(value.to(kernel_device) for value in (*case[:2], *numbers, *grads)))
    for one, two, value in zip(got, wanted, case[:2], strict=True):
        assert (one.dtype, one.shape) == (dtype, value.shape)
        limit = {"rtol": 1e-5, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 2e-3, "atol": 2e-2}
        torch.testing.assert_close(one.double().cpu(), two, **limit)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(4, 52, 120 * 214, 100), (1, 64, 480 * 854, 300), (2, 256, 999, 400)], ids=str)
def test_op_on_cuda(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    run = kernel.nearest_seeds
    monkeypatch.setattr(kernel, "nearest_seeds", lambda *a: calls.append(1) or run(*a))
    case = draw(generator, *shape, dtype)
    wanted = nearest_seeds(*case)
    given = [value.cuda() for value in case]
    torch.cuda.set_sync_debug_mode("error")
    try:
        first, second = nearest_seeds(*given), nearest_seeds(*given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(calls) == 2
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    for got, want in zip(first[:2], wanted[:2], strict=True):
        torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=0)
    for got, want in zip(first[2:], wanted[2:], strict=True):
        assert (got.cpu() == want).float().mean() > 0.999


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_and_graph_on_cuda(dtype: torch.dtype, generator: torch.Generator) -> None:
    case = draw(generator, 2, 64, 5000, 100, dtype)
    leaves = [[value.to(device).requires_grad_() for value in case[:2]] for device in ("cpu", "cuda")]
    grads = []
    for e, s in leaves:
        near, far = nearest_seeds(e, s, *(value.to(e.device) for value in case[2:]))[:2]
        grads.append(torch.autograd.grad((near.tanh() + far.sin()).sum(), (e, s)))
    for want, got in zip(*grads, strict=True):
        torch.testing.assert_close(got.cpu(), want, rtol=2e-2, atol=2e-2)
    given = [value.cuda() for value in case]
    wanted = nearest_seeds(*given)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = nearest_seeds(*given)
    graph.replay()
    assert all(torch.equal(one, two) for one, two in zip(got, wanted, strict=True))
