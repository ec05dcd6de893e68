"""Eq. 1: squared distances and similarities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gpuvos import InputError
from gpuvos import functional as F


def test_equation_1_by_hand() -> None:
    # d2 = (1 - 0)^2 + (2 - 0)^2 = 5 and R = 2 / (1 + e^5) = 2 / 149.4132 = 0.0133857
    one, two = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    torch.testing.assert_close(F.squared_distance(one, two), torch.tensor([[5.0, 0.0]]))
    torch.testing.assert_close(F.similarity(one, two), torch.tensor([[0.0133857, 1.0]]))
    # temperature 5: R = 2 / (1 + e) = 0.5378828
    torch.testing.assert_close(F.similarity(one, two, temperature=5.0)[0, 0], torch.tensor(0.5378828))


def test_against_float64_numpy(generator: torch.Generator) -> None:
    one = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    two = torch.randn(2, 4, 7, generator=generator, dtype=torch.float64)
    d2 = ((one.numpy()[:, :, None] - two.numpy()[:, None]) ** 2).sum(-1)
    np.testing.assert_allclose(F.squared_distance(one, two).numpy(), d2, rtol=1e-12)
    np.testing.assert_allclose(F.similarity(one, two).numpy(), 2 / (1 + np.exp(d2)), rtol=1e-12)


def test_small_distances_far_from_the_origin_keep_their_digits() -> None:
    # the product form |a|^2 + |b|^2 - 2ab gives 0 or 8 here: 4096^2 = 2^24 is where float32 stops counting by ones
    one, two = torch.tensor([[4096.0, 4096.0]]), torch.tensor([[4096.5, 4096.0]])
    torch.testing.assert_close(F.squared_distance(one, two), torch.tensor([[0.25]]))


def test_large_distances_neither_overflow_nor_turn_into_nan() -> None:
    similarity = F.similarity(torch.zeros(1, 1), torch.tensor([[1.0], [30.0], [1e4]]))
    assert similarity.isfinite().all()
    assert similarity[0, 0] > similarity[0, 1] >= similarity[0, 2] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype, generator: torch.Generator) -> None:
    one, two = (torch.randn(3, 16, generator=generator).to(dtype) for _ in range(2))
    result = F.squared_distance(one, two)
    assert result.dtype == torch.float32
    assert torch.equal(result, F.squared_distance(one.float(), two.float()))


def test_leading_dimensions_and_strides(generator: torch.Generator) -> None:
    one = torch.randn(2, 3, 6, 4, generator=generator).transpose(-1, -2)
    two = torch.randn(2, 3, 5, 6, generator=generator)
    whole = F.squared_distance(one, two)
    for b in range(2):
        for t in range(3):
            assert torch.equal(whole[b, t], F.squared_distance(one[b, t].contiguous(), two[b, t]))


def test_gradient(generator: torch.Generator) -> None:
    one = torch.randn(3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    two = torch.randn(4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b, c: F.similarity(a, b, temperature=c), (one, two, temperature))
    same = torch.ones(1, 3, requires_grad=True)
    F.squared_distance(same, torch.ones(1, 3)).sum().backward()
    assert math.isclose(same.grad.abs().sum().item(), 0)  # no NaN where points coincide


def test_bad_input_names_the_argument() -> None:
    good = torch.zeros(2, 3)
    with pytest.raises(InputError, match=r"^first:"):
        F.squared_distance([[0.0]], good)
    with pytest.raises(InputError, match=r"^second:.*D = 3"):
        F.squared_distance(good, torch.zeros(2, 4))
    with pytest.raises(InputError, match=r"^second: got leading dimensions"):
        F.squared_distance(good[None], torch.zeros(2, 2, 3))
    with pytest.raises(InputError, match=r"^temperature:"):
        F.similarity(good, good, temperature=0.0)
