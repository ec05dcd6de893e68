"""Gaussian filter of grids against matrices."""

from __future__ import annotations

import math

import pytest
import torch

from gpuvos.kernels.gaussian_filter import gaussian_filter


def matrix(size: int, sigma: float, reach: int) -> torch.Tensor:
    """The filter along one axis, entry by entry."""
    rows = [
        [math.exp(-((i - j) ** 2) / (2 * sigma**2)) if abs(i - j) <= reach else 0.0 for j in range(size)]
        for i in range(size)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def test_by_hand() -> None:
    # sigma = 1 / sqrt(2 ln 2): the kernel is 1, 1/2 and ends
    grid = torch.tensor([[[0.0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0]]])
    wanted = torch.tensor([[[1.0, 2, 1, 0], [2, 4, 2, 0], [1, 2, 1, 0]]])
    torch.testing.assert_close(gaussian_filter(grid, 1 / math.sqrt(2 * math.log(2)), 1), wanted)


@pytest.mark.parametrize(("h", "w"), [(5, 7), (1, 6), (6, 1), (1, 1), (3, 20)])
@pytest.mark.parametrize(("sigma", "reach"), [(1.0, 0), (0.7, 2), (3.0, 8)])
def test_against_a_matrix(h: int, w: int, sigma: float, reach: int, generator: torch.Generator) -> None:
    grid = torch.randn(2, h, w, generator=generator, dtype=torch.float64)
    wanted = matrix(h, sigma, reach) @ grid @ matrix(w, sigma, reach)
    found = gaussian_filter(grid, sigma, reach)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gaussian_filter(grid.float(), sigma, reach), wanted.float(), rtol=1e-5, atol=1e-5)


def test_dtypes_and_no_frames() -> None:
    assert gaussian_filter(torch.ones(1, 2, 2, dtype=torch.bfloat16), 1.0, 1).dtype == torch.float32
    assert gaussian_filter(torch.ones(0, 2, 2), 1.0, 1).shape == (0, 2, 2)


def test_gradient(generator: torch.Generator) -> None:
    grid = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: gaussian_filter(v, 1.2, 3), (grid,))
