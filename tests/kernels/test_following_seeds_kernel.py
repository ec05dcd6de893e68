"""The Triton kernel of Eq. 9 against the reference."""

from __future__ import annotations

import pytest
import torch

from gpuvos.kernels.following_seeds import reference

pytest.importorskip("triton")

from gpuvos.kernels.following_seeds import kernel


@pytest.mark.sampled
@pytest.mark.parametrize("shape", [(2, 40, 30, 5), (1, 3, 9, 20), (1, 1, 1, 1)], ids=str)
def test_equals_reference(shape: tuple[int, ...], generator: torch.Generator, kernel_device: str) -> None:
    n, k, m, d = shape
    one, two = (torch.randint(-3, 4, (n, count, d), generator=generator).float() for count in (k, m))
    valid = torch.rand(n, m, generator=generator) < 0.6
    valid[-1] = valid[-1] & (n == 1)
    found = kernel.following_seeds(*(value.to(kernel_device) for value in (one, two, valid)))
    assert found.dtype == torch.int64
    assert torch.equal(found.cpu(), reference.following_seeds(one, two, valid))
