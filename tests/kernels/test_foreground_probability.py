"""Probability of Eq. 13-15 in one op."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from gpuvos.kernels.foreground_probability import foreground_probability
from gpuvos.kernels.foreground_probability.op import foreground_probability_backward
from gpuvos.kernels.nearest_seeds import nearest_seeds

Case = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def draw(generator: torch.Generator, n: int, d: int, p: int, k: int, temperature: float = 1.5) -> Case:
    """Random pixels and seeds; the sets may overlap, and neither is empty."""
    embedding = torch.randn(n, d, p, generator=generator, dtype=torch.float64)
    seeds = torch.randn(n, k, d, generator=generator, dtype=torch.float64)
    foreground, background = (torch.rand(n, k, generator=generator) < 0.4 for _ in range(2))
    foreground[:, 0], background[:, -1] = True, True
    return embedding, seeds, foreground, background, torch.tensor(temperature, dtype=torch.float64)


def brute_force(case: Case) -> Tensor:
    """``R_FG / (R_FG + R_BG)`` in float64 from all pairs of pixels and seeds."""
    embedding, seeds, foreground, background, temperature = case
    table = (embedding.double()[:, None] - seeds.double()[..., None]).square().sum(2)  # [N, K, P]
    similar = 2 / (1 + torch.exp(table / temperature.double()))
    fg, bg = (similar.masked_fill(~side[..., None], 0).amax(1) for side in (foreground, background))
    return fg / (fg + bg)


def test_hand_worked() -> None:
    # as the equations' own test: d2 = 0.25, 6.25 and 2.25
    case = (
        torch.tensor([[[0.5]]]),
        torch.tensor([[[0.0], [2.0], [3.0]]]),
        torch.tensor([[True, False, True]]),
        torch.tensor([[False, True, False]]),
        torch.tensor(1.0),
    )
    probability, nearest_fg, nearest_bg = foreground_probability(*case)
    assert probability.item() == pytest.approx(0.8211660, rel=1e-6)
    assert (nearest_fg.item(), nearest_bg.item()) == (0, 1)
    assert nearest_fg.dtype == nearest_bg.dtype == torch.int32


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_equals_brute_force(dtype: torch.dtype, generator: torch.Generator) -> None:
    for shape in ((3, 16, 70, 9), (1, 3, 1, 1), (2, 20, 40, 60)):
        embedding, seeds, *rest = draw(generator, *shape)
        case: Case = (embedding.to(dtype), seeds.to(dtype), *rest)  # type: ignore[assignment]
        probability, *numbers = foreground_probability(*case)
        assert probability.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        rtol, atol = (1e-11, 1e-13) if dtype == torch.float64 else (1e-4, 1e-6)
        torch.testing.assert_close(probability.double(), brute_force(case), rtol=rtol, atol=atol)
        for number, wanted in zip(numbers, nearest_seeds(*case[:4])[2:], strict=True):
            assert torch.equal(number.long(), wanted)


def test_empty_sets(generator: torch.Generator) -> None:
    embedding, seeds, foreground, background, t = draw(generator, 3, 4, 10, 5)
    foreground[0], background[1] = False, False
    foreground[2], background[2] = False, False
    probability, nearest_fg, nearest_bg = foreground_probability(embedding, seeds, foreground, background, t)
    assert probability.unique(dim=1).tolist() == [[0], [1], [0]]
    assert (nearest_fg[[0, 2]] == -1).all()
    assert (nearest_bg[[1, 2]] == -1).all()
    assert (nearest_fg[1] >= 0).all()
    nothing = foreground_probability(embedding, seeds[:, :0], foreground[:, :0], background[:, :0], t)
    assert not nothing[0].any()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
def test_gradients(generator: torch.Generator, shape: tuple[int, ...]) -> None:
    embedding, seeds, foreground, background, t = draw(generator, 3, 2, 5, 4)
    foreground[1] = False
    background[2] = False
    leaves = [value.requires_grad_() for value in (embedding, seeds, t.reshape(shape))]

    def probability(e: Tensor, s: Tensor, c: Tensor) -> Tensor:
        return foreground_probability(e, s, foreground, background, c)[0]

    assert gradcheck(probability, leaves)
    assert gradgradcheck(probability, leaves)
    to_embedding, to_seeds, to_temperature = torch.autograd.grad(probability(*leaves).sum(), leaves)
    assert to_embedding[0].any()
    assert not to_embedding[1:].any()
    assert not to_seeds[1:].any()
    assert to_temperature.shape == shape
    assert to_temperature.all()


def test_hand_worked_gradient() -> None:
    # near = 0.25, far = 2.25: P (1 - P) = 0.1468524; sigmoid(0.25) = 0.5621765, sigmoid(2.25) = 0.9046505
    # to e: 0.1468524 (0.9046505 * 2 * (0.5 - 2) - 0.5621765 * 2 * 0.5); to s_FG: 0.1468524 * 0.5621765
    # to t: 0.1468524 (0.25 * 0.5621765 - 2.25 * 0.9046505)
    e, s = torch.tensor([[[0.5]]], requires_grad=True), torch.tensor([[[0.0], [2.0]]], requires_grad=True)
    t, first = torch.tensor(1.0, requires_grad=True), torch.tensor([[True, False]])
    foreground_probability(e, s, first, ~first, t)[0].sum().backward()
    assert e.grad is not None
    assert s.grad is not None
    assert t.grad is not None
    assert e.grad.item() == pytest.approx(-0.4811057, rel=1e-4)
    assert s.grad.flatten().tolist() == pytest.approx([0.0825569, 0.3985488], rel=1e-4)
    assert t.grad.item() == pytest.approx(-0.2782725, rel=1e-4)


def test_gradient_types(generator: torch.Generator) -> None:
    case = draw(generator, 2, 3, 7, 4)
    narrow = [value.to(torch.bfloat16) for value in (*case[:2], case[4])]
    wide = [value.double() for value in narrow]
    grads = []
    for e, s, t in (narrow, wide):
        leaves = [value.requires_grad_() for value in (e, s, t)]
        grads.append(torch.autograd.grad(foreground_probability(e, s, *case[2:4], t)[0].sum(), leaves))
    for low, high in zip(*grads, strict=True):
        assert low.dtype == torch.bfloat16
        assert torch.allclose(low.double(), high, rtol=1e-2, atol=1e-2)


def test_backward_op(generator: torch.Generator) -> None:
    case = draw(generator, 2, 3, 7, 4)
    probability, *numbers = foreground_probability(*case)
    arguments = (*case[:2], *numbers, case[4], torch.rand(probability.shape, generator=generator).double())
    torch.library.opcheck(foreground_probability_backward, arguments)
    leaves = [case[i].clone().requires_grad_() for i in (0, 1, 4)]
    again = foreground_probability(*leaves[:2], *case[2:4], leaves[2])[0]
    wanted = torch.autograd.grad(again, leaves, arguments[-1])
    for got, want in zip(foreground_probability_backward(*arguments), wanted, strict=True):
        assert torch.equal(got, want)


def test_batches_and_layouts_agree(generator: torch.Generator) -> None:
    case = draw(generator, 3, 6, 20, 5)
    whole = foreground_probability(*case)
    turned = foreground_probability(*(value.transpose(0, -1).contiguous().transpose(0, -1) for value in case))
    singles = [foreground_probability(*(v[i : i + 1] for v in case[:4]), case[4]) for i in range(3)]
    for got, again, strided in zip(whole, zip(*singles, strict=True), turned, strict=True):
        assert torch.allclose(got, torch.cat(again), rtol=1e-12)
        assert torch.allclose(got, strided, rtol=1e-12)
        assert strided.is_contiguous()
