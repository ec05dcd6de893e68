"""Squared distances along the edges of the grid."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from gpuvos.kernels.grid_edges import grid_edges


def brute_force(embedding: Tensor) -> tuple[Tensor, Tensor]:
    n, _, h, w = embedding.shape
    wide = embedding.double()

    def gap(i: int, y: int, x: int, v: int, u: int) -> float:
        one, two = wide[i, :, y, x].tolist(), wide[i, :, v, u].tolist()
        return sum(((a - b) ** 2 for a, b in zip(one, two, strict=True)), 0.0)

    right = [gap(i, y, x, y, x + 1) for i in range(n) for y in range(h) for x in range(w - 1)]
    down = [gap(i, y, x, y + 1, x) for i in range(n) for y in range(h - 1) for x in range(w)]
    double = torch.float64
    return torch.tensor(right, dtype=double).view(n, h, w - 1), torch.tensor(down, dtype=double).view(n, h - 1, w)


def test_hand_worked() -> None:
    # two channels; (0,0) (3,4) / (1,0) (3,5)
    embedding = torch.tensor([[[[0.0, 3.0], [1.0, 3.0]], [[0.0, 4.0], [0.0, 5.0]]]])
    right, down = grid_edges(embedding)
    assert right.tolist() == [[[25], [29]]]
    assert down.tolist() == [[[1, 1]]]


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (1, 3, 1, 7), (2, 3, 7, 1), (1, 1, 1, 1), (3, 1, 2, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_equals_brute_force(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> None:
    embedding = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for got, wanted in zip(grid_edges(embedding), brute_force(embedding), strict=True):
        assert got.dtype == wide
        assert got.shape == wanted.shape
        # the inputs are exact, so half types are as accurate as float32
        assert torch.allclose(got.double(), wanted, rtol=1e-13 if wide == torch.float64 else 2e-6, atol=0)


def test_half_is_accumulated_in_float32() -> None:
    # 64 squares of 100 make 640000, above all half numbers
    embedding = torch.tensor([0.0, 100.0], dtype=torch.float16).expand(1, 64, 1, 2)
    assert (embedding[..., 1:] - embedding[..., :-1]).square().sum(1, dtype=torch.float16).isinf().all()
    assert grid_edges(embedding)[0].item() == 640000
    # the difference alone, 120000, is above them
    embedding = torch.tensor([-60000.0, 60000.0], dtype=torch.float16).view(1, 1, 2, 1)
    assert grid_edges(embedding)[1].item() == torch.tensor(120000.0).square().item()


def test_bfloat16_differences_are_not_rounded() -> None:
    embedding = torch.tensor([512.0, 1.0], dtype=torch.bfloat16).view(1, 1, 1, 2)
    assert (embedding[..., 0] - embedding[..., 1]).item() != 511
    assert grid_edges(embedding)[0].item() == 511**2


def test_a_large_offset_costs_no_accuracy(generator: torch.Generator) -> None:
    embedding = torch.randint(0, 9, (1, 6, 5, 4), generator=generator).float()
    for got, wanted in zip(grid_edges(embedding + 1000), grid_edges(embedding), strict=True):
        assert torch.equal(got, wanted)


def test_gradients(generator: torch.Generator) -> None:
    embedding = torch.randn(2, 3, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert gradcheck(grid_edges, (embedding,))
    assert gradgradcheck(grid_edges, (embedding,))
    thin = torch.randn(1, 2, 1, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert gradcheck(grid_edges, (thin,))


@pytest.mark.parametrize("side", [0, 1])
def test_gradient_of_one_output_alone(side: int, generator: torch.Generator) -> None:
    embedding = torch.randn(1, 2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda e: grid_edges(e)[side], (embedding,))


def test_hand_worked_gradient() -> None:
    embedding = torch.tensor([0.0, 1.0, 4.0]).view(1, 1, 1, 3).requires_grad_()
    grid_edges(embedding)[0].sum().backward()
    assert embedding.grad is not None
    assert embedding.grad.flatten().tolist() == [-2, 2 - 6, 6]


def test_gradient_of_a_half_embedding(generator: torch.Generator) -> None:
    embedding = torch.randn(1, 3, 3, 4, generator=generator).half()
    narrow, wide = embedding.clone().requires_grad_(), embedding.double().requires_grad_()
    for e in (narrow, wide):
        right, down = grid_edges(e)
        (right.sum() + 2 * down.sum()).backward()
    assert narrow.grad is not None
    assert wide.grad is not None
    assert narrow.grad.dtype == torch.float16
    assert torch.allclose(narrow.grad.double(), wide.grad, rtol=1e-3, atol=1e-4)


def test_batches_blocks_and_layouts_agree(generator: torch.Generator, tiny_blocks: Callable[[str], list[int]]) -> None:
    embedding = torch.randn(3, 4, 5, 6, generator=generator)
    whole = grid_edges(embedding)
    singles = [grid_edges(frame[None]) for frame in embedding]
    starts = tiny_blocks("grid_edges")
    blocked = grid_edges(embedding)
    assert starts == [0, *range(5), 1, *range(5), 2, *range(5)]  # of every frame its rows
    turned = grid_edges(embedding.contiguous(memory_format=torch.channels_last))
    for side in range(2):
        assert torch.equal(whole[side], torch.cat([single[side] for single in singles]))
        assert torch.equal(whole[side], blocked[side])
        assert torch.allclose(whole[side], turned[side], rtol=1e-6)  # summed in another order
        assert turned[side].is_contiguous()


def test_no_frames() -> None:
    right, down = grid_edges(torch.zeros(0, 3, 4, 5))
    assert (right.shape, down.shape) == ((0, 4, 4), (0, 3, 5))
