"""The Triton kernels of the foreground probability against the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.foreground_probability import foreground_probability, reference

pytest.importorskip("triton")

from gpuvos.kernels.foreground_probability import kernel

Case = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def draw(generator: torch.Generator, n: int, d: int, p: int, k: int, dtype: torch.dtype = torch.float32) -> Case:
    embedding = torch.randn(n, d, p, generator=generator).to(dtype)
    seeds = torch.randn(n, k, d, generator=generator).to(dtype)
    foreground = torch.rand(n, k, generator=generator) < 0.4
    foreground[:, 0] = True
    return embedding, seeds, foreground, ~foreground, torch.tensor(2.5, dtype=torch.float64)


def wide(case: Case) -> Case:
    """In float64."""
    embedding, seeds, *rest = case
    return (embedding.double(), seeds.double(), *rest)  # type: ignore[return-value]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_equals_reference(
    dtype: torch.dtype,
    generator: torch.Generator,
    kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:
    case = draw(generator, 2, 12, 71, 9, dtype)
    poisoned_buffers.clear()
    probability, *numbers = kernel.foreground_probability(*(value.to(kernel_device) for value in case))
    assert poisoned_buffers
    wanted, *named = reference.foreground_probability(*wide(case))
    assert probability.dtype == torch.float32
    torch.testing.assert_close(probability.double().cpu(), wanted, rtol=1e-5, atol=1e-7)
    for got, want in zip(numbers, named, strict=True):
        assert got.dtype == torch.int32
        assert torch.equal(got.cpu(), want)


def test_empty_sets(generator: torch.Generator, kernel_device: str) -> None:
    embedding, seeds, foreground, background, t = draw(generator, 4, 3, 5, 4)
    foreground[0], background[1], foreground[2], background[2] = False, False, False, False
    case = (embedding, seeds, foreground, background, t.reshape(1).float())
    found = kernel.foreground_probability(*(value.to(kernel_device) for value in case))
    assert found[0][:3].unique(dim=1).tolist() == [[0], [1], [0]]
    assert (found[1][[0, 2]] == -1).all()
    assert (found[2][[1, 2]] == -1).all()
    assert ((found[0][3] > 0) & (found[0][3] < 1)).all()
    for value in kernel.foreground_probability(*(v[:0] for v in case[:4]), t.to(kernel_device)):
        assert value.shape == (0, 5)


def test_far_pixels_and_large_distances(kernel_device: str) -> None:
    # d2 = 100^2 and 101^2; 10^8 and 10^8 + 2000, whose softplus has steps of 8; both over the temperature
    seeds = torch.tensor([[[0.0], [1.0]], [[0.0], [-0.1]]])
    embedding = torch.tensor([[[100.0, -100.0, 0.5]], [[1e4, 1e4, 1e4]]])
    first = torch.tensor([[True, False]]).expand(2, 2)
    for t, wanted in ((1.0, [0, 1, 0.5]), (1000.0, [0.8808] * 3)):
        case = (embedding, seeds, first, ~first, torch.tensor(t))
        got = kernel.foreground_probability(*(value.to(kernel_device) for value in case))[0]
        assert got[int(t > 1)].tolist() == pytest.approx(wanted, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_backward(dtype: torch.dtype, generator: torch.Generator, kernel_device: str) -> None:
    case = draw(generator, 3, 5, 70, 6, dtype)
    case[2][1], case[3][2] = False, False
    probability, *numbers = reference.foreground_probability(*case)
    grad = torch.randn(probability.shape, generator=generator)
    arguments = (*case[:2], *numbers, case[4], grad)
    exact = (*wide(case)[:2], *numbers, case[4], grad.double())
    wanted = reference.foreground_probability_backward(*exact)
    got = kernel.foreground_probability_backward(*(value.to(kernel_device) for value in arguments))
    limit = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-3, "atol": 2e-3}
    for one, two, value in zip(got, wanted, (*case[:2], case[4]), strict=True):
        assert (one.dtype, one.shape) == (value.dtype, value.shape)
        torch.testing.assert_close(one.double().cpu(), two, **limit)
    assert not got[0][1:].any()
    nothing = kernel.foreground_probability_backward(*(v[:0] for v in arguments[:4]), case[4], grad[:0])
    assert [tuple(v.shape) for v in nothing] == [(0, 5, 70), (0, 6, 5), ()]
    assert not nothing[2].any()


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
    run = kernel.foreground_probability
    monkeypatch.setattr(kernel, "foreground_probability", lambda *a: calls.append(1) or run(*a))
    case = draw(generator, *shape, dtype)
    wanted = foreground_probability(*case)
    given = [value.cuda() for value in case]
    torch.cuda.set_sync_debug_mode("error")
    try:
        first, second = foreground_probability(*given), foreground_probability(*given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(calls) == 2
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    torch.testing.assert_close(first[0].cpu(), wanted[0], rtol=1e-3, atol=1e-4)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = foreground_probability(*given)
    graph.replay()
    assert all(torch.equal(one, two) for one, two in zip(got, first, strict=True))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_on_cuda(dtype: torch.dtype, generator: torch.Generator) -> None:
    case = draw(generator, 2, 64, 5000, 100, dtype)
    grads = []
    for device in ("cpu", "cuda"):
        e, s, fg, bg, t = (value.to(device) for value in case)
        leaves = [value.requires_grad_() for value in (e, s, t)]
        probability = foreground_probability(e, s, fg, bg, t)[0]
        grads.append(torch.autograd.grad(probability.square().sum(), leaves))
    for want, got in zip(*grads, strict=True):
        torch.testing.assert_close(got.cpu(), want, rtol=2e-2, atol=2e-2)
