"""Symmetric separable convolution."""

from __future__ import annotations

import pytest
import torch

from gpuvos.kernels.separable_filter import separable_filter


def test_by_hand() -> None:
    grid = torch.tensor([[[0.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]])
    wanted = torch.tensor([[[1.0, 2, 1, 0], [2, 4, 2, 0], [1, 2, 1, 0]]])
    assert torch.equal(separable_filter(grid, [2.0, 1.0]), wanted)


@pytest.mark.parametrize(("h", "w"), [(5, 7), (1, 6), (6, 1), (1, 1), (3, 20)])
@pytest.mark.parametrize("taps", [[1.0], [1.0, 0.5], [1.0, 0.6, 0.2, 0.1, 0.05, 0.01, 0.001, 0.001]])
def test_against_a_matrix(h: int, w: int, taps: list[float], generator: torch.Generator) -> None:
    grid = torch.randn(2, h, w, generator=generator, dtype=torch.float64)

    def matrix(size: int) -> torch.Tensor:
        return torch.tensor(
            [[taps[abs(i - j)] if abs(i - j) < len(taps) else 0.0 for j in range(size)] for i in range(size)],
            dtype=torch.float64,
        )

    wanted = matrix(h) @ grid @ matrix(w)
    torch.testing.assert_close(separable_filter(grid, taps), wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(separable_filter(grid.float(), taps), wanted.float(), rtol=1e-5, atol=1e-5)


def test_dtypes_and_no_frames() -> None:
    assert separable_filter(torch.ones(1, 2, 2, dtype=torch.bfloat16), [1.0]).dtype == torch.float32
    assert separable_filter(torch.ones(0, 2, 2), [1.0, 1.0]).shape == (0, 2, 2)


def test_gradient(generator: torch.Generator) -> None:
    grid = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: separable_filter(v, [1.0, 0.5, 0.2]), (grid,))
