"""The logistic function against torch's, and the same bits at every place."""

from __future__ import annotations

import pytest
import torch

from gpuvos.kernels.logistic import logistic


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradient(dtype: torch.dtype) -> None:
    x = torch.cat((torch.linspace(-80, 80, 641), torch.tensor([-1e30, -800.0, 0.0, 800.0, 1e30]))).to(dtype)
    torch.testing.assert_close(logistic(x), torch.sigmoid(x), rtol=1e-6, atol=1e-37)
    one, two = (x.clone().requires_grad_() for _ in range(2))
    logistic(one).sum().backward()
    torch.sigmoid(two).sum().backward()
    torch.testing.assert_close(one.grad, two.grad, rtol=1e-5, atol=2e-7)
    assert torch.autograd.gradcheck(logistic, x[200:400].double().requires_grad_())


def test_bits_do_not_depend_on_the_place(generator: torch.Generator) -> None:
    x = 4 * torch.randn(513, generator=generator)
    whole = logistic(x)
    for start in range(40):
        for length in (1, 7, 9, 33, 100):
            part = slice(start, start + length)
            assert torch.equal(logistic(x[part].clone()), whole[part])
