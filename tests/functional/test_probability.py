"""Eq. 13-15: soft foreground probability."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gpuvos import InputError
from gpuvos import functional as F


def brute_probability(
    e: np.ndarray, seeds: np.ndarray, foreground: np.ndarray, background: np.ndarray, temperature: float
) -> np.ndarray:
    """``R_FG / (R_FG + R_BG)`` of ``e [D, H, W]``, as the equations have it, pixel by pixel in float64."""
    _, h, w = e.shape
    out = np.zeros((h, w))
    for y in range(h):
        for x in range(w):
            r = [2 / (1 + math.exp(((e[:, y, x] - s) ** 2).sum() / temperature)) for s in seeds]
            r_fg = max(v for v, member in zip(r, foreground, strict=True) if member)
            r_bg = max(v for v, member in zip(r, background, strict=True) if member)
            out[y, x] = r_fg / (r_fg + r_bg)
    return out


def test_equations_13_to_15_by_hand() -> None:
    # pixel 0.5; foreground seeds at 0 and 3, background at 2: d2 = 0.25, 6.25 and 2.25.
    # R_FG = max(2 / (1 + e^0.25), 2 / (1 + e^6.25)) = 0.8756470; R_BG = 2 / (1 + e^2.25) = 0.1906989
    # P = 0.8756470 / 1.0663459 = 0.8211660
    e, seeds = torch.tensor([[[[0.5]]]]), torch.tensor([[[0.0], [2.0], [3.0]]])
    fg, bg = torch.tensor([[True, False, True]]), torch.tensor([[False, True, False]])
    p = F.foreground_probability(e, seeds, fg, bg)
    torch.testing.assert_close(p.flatten(), torch.tensor([0.8211660]), rtol=1e-5, atol=0)
    # temperature 0.5 doubles the squared distances: 2 / (1 + e^0.5) = 0.7550813, 2 / (1 + e^4.5) = 0.0219740
    p = F.foreground_probability(e, seeds, fg, bg, temperature=0.5)
    torch.testing.assert_close(p.flatten(), torch.tensor([0.9717216]), rtol=1e-5, atol=0)


def test_empty_sets() -> None:
    e, seeds = torch.rand(4, 2, 3, 5), torch.rand(4, 2, 2)
    fg = torch.tensor([[True, False], [True, False], [False, False], [False, False]])
    bg = torch.tensor([[False, True], [False, False], [False, True], [False, False]])
    p = F.foreground_probability(e, seeds, fg, bg)
    assert ((p[0] > 0) & (p[0] < 1)).all()
    assert (p[1] == 1).all()  # nothing but foreground
    assert (p[2] == 0).all()  # nothing but background
    assert (p[3] == 0).all()  # nothing at all: a frame that is not there


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_identity_against_float64(temperature: float, generator: torch.Generator) -> None:
    e = torch.randn(3, 4, 5, 6, generator=generator, dtype=torch.float64)
    seeds = torch.randn(3, 9, 4, generator=generator, dtype=torch.float64)
    fg = torch.rand(3, 9, generator=generator) < 0.4
    bg = torch.rand(3, 9, generator=generator) < 0.4  # sets may overlap or leave seeds out
    fg[:, 0] = bg[:, 1] = True
    p = F.foreground_probability(e, seeds, fg, bg, temperature=temperature)
    single = F.foreground_probability(e.float(), seeds.float(), fg, bg, temperature=temperature)
    for t in range(3):
        arguments = (e[t].numpy(), seeds[t].numpy(), fg[t].numpy(), bg[t].numpy(), temperature)
        expected = brute_probability(*arguments)
        np.testing.assert_allclose(p[t].numpy(), expected, rtol=1e-12)
        np.testing.assert_allclose(single[t].numpy(), expected, rtol=1e-4, atol=1e-7)


def test_far_pixels_neither_overflow_nor_lose_the_decision() -> None:
    # d2 = 100^2 and 101^2: exp overflows in float32 and even in float64, the quotient of the equations is 0 / 0
    e = torch.tensor([[[[100.0, -100.0, 0.5]]]])
    seeds = torch.tensor([[[0.0], [1.0]]])
    fg = torch.tensor([[True, False]])
    assert F.foreground_probability(e, seeds, fg, ~fg).flatten().tolist() == [0, 1, 0.5]


def test_scaling_with_the_temperature_changes_nothing(generator: torch.Generator) -> None:
    e, seeds = torch.randn(2, 4, 5, 6, generator=generator), torch.randn(2, 7, 4, generator=generator)
    fg = torch.rand(2, 7, generator=generator) < 0.5
    one = F.foreground_probability(e, seeds, fg, ~fg, temperature=1.5)
    two = F.foreground_probability(e * 8, seeds * 8, fg, ~fg, temperature=1.5 * 64)
    assert torch.equal(one, two)
    # and without it the decision stays: whichever seed is nearer is nearer
    assert torch.equal(F.foreground_probability(e, seeds, fg, ~fg, temperature=9.0) > 0.5, one > 0.5)


def test_order_of_channels_and_of_seeds_changes_nothing(generator: torch.Generator) -> None:
    e = torch.randint(-4, 5, (2, 6, 5, 6), generator=generator).float()  # sums of squares are exact
    seeds = torch.randint(-4, 5, (2, 7, 6), generator=generator).float()
    fg = torch.rand(2, 7, generator=generator) < 0.5
    expected = F.foreground_probability(e, seeds, fg, ~fg, temperature=20.0)
    c, k = (torch.randperm(n, generator=generator) for n in (6, 7))
    found = F.foreground_probability(e[:, c], seeds[:, k][..., c], fg[:, k], ~fg[:, k], temperature=20.0)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype, generator: torch.Generator) -> None:
    e = torch.randn(2, 4, 5, 6, generator=generator).to(dtype)
    seeds = torch.randn(2, 7, 4, generator=generator).to(dtype)
    fg = torch.tensor([True, False, True, False, False, False, True]).expand(2, 7)
    p = F.foreground_probability(e, seeds, fg, ~fg)
    assert p.dtype == torch.float32
    assert torch.equal(p, F.foreground_probability(e.float(), seeds.float(), fg, ~fg))


def test_leading_dimensions_and_strides(generator: torch.Generator) -> None:
    e = torch.randn(2, 3, 5, 6, 4, generator=generator).movedim(-1, -3)
    seeds = torch.randn(2, 3, 4, 7, generator=generator).transpose(-1, -2)
    fg = torch.rand(2, 3, 7, generator=generator) < 0.5
    whole = F.foreground_probability(e, seeds, fg, ~fg)
    for b in range(2):
        for t in range(3):
            one = F.foreground_probability(e[b, t].contiguous(), seeds[b, t], fg[b, t], ~fg[b, t])
            # vector and scalar instructions of exp may differ in the last bit, by position in memory
            torch.testing.assert_close(whole[b, t], one, rtol=1e-6, atol=1e-12)
            assert torch.equal(whole[b, t] > 0.5, one > 0.5)


def test_gradient(generator: torch.Generator) -> None:
    e = torch.randn(2, 3, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    seeds = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    fg = torch.tensor([[True, True, False, False], [False, True, False, False]])
    bg = torch.tensor([[False, False, True, True], [False, False, False, False]])  # one set is empty
    assert torch.autograd.gradcheck(
        lambda a, s, c: F.foreground_probability(a, s, fg, bg, temperature=c), (e, seeds, temperature)
    )
    F.foreground_probability(e, seeds, fg, bg, temperature=temperature).sum().backward()
    assert (e.grad[0] != 0).all()
    assert (e.grad[1] == 0).all()
    assert temperature.grad != 0


def test_temperature_may_be_a_tensor_of_one_number(generator: torch.Generator) -> None:
    e, seeds = torch.randn(2, 3, 2, 3, generator=generator), torch.randn(2, 4, 3, generator=generator)
    fg = torch.tensor([True, True, False, False]).expand(2, 4)
    expected = F.foreground_probability(e, seeds, fg, ~fg, temperature=1.5)
    for temperature in (torch.tensor(1.5), torch.tensor([1.5]).double(), torch.tensor([[1.5]]).half()):
        t = temperature.requires_grad_()
        p = F.foreground_probability(e, seeds, fg, ~fg, temperature=t)
        assert torch.equal(p, expected)
        p.sum().backward()
        assert t.grad is not None
        assert (t.grad.shape, t.grad.dtype) == (t.shape, t.dtype)
        assert t.grad.all()


def test_bad_input_names_the_argument() -> None:
    e, seeds, member = torch.zeros(2, 3, 4, 5), torch.zeros(2, 6, 3), torch.ones(2, 6, dtype=torch.bool)
    with pytest.raises(InputError, match=r"^embedding:"):
        F.foreground_probability(e.int(), seeds, member, member)
    with pytest.raises(InputError, match=r"^seed_embedding:.*D = 3"):
        F.foreground_probability(e, torch.zeros(2, 6, 4), member, member)
    with pytest.raises(InputError, match=r"^seed_embedding: got leading"):
        F.foreground_probability(e, seeds[:1], member, member)
    with pytest.raises(InputError, match=r"^foreground:"):
        F.foreground_probability(e, seeds, member.float(), member)
    with pytest.raises(InputError, match=r"^background:"):
        F.foreground_probability(e, seeds, member, member[:, :3])
    with pytest.raises(InputError, match=r"^background:.*meta"):
        F.foreground_probability(e, seeds, member, member.to("meta"))
    for temperature in (0, -1.0, float("nan")):
        with pytest.raises(InputError, match=r"^temperature:"):
            F.foreground_probability(e, seeds, member, member, temperature=temperature)
    for wrong in (torch.ones(2), torch.ones(0), torch.tensor(1), torch.ones((), device="meta")):
        with pytest.raises(InputError, match=r"^temperature:"):
            F.foreground_probability(e, seeds, member, member, temperature=wrong)
