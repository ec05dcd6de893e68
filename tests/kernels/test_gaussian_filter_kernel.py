"""The Triton kernel of the Gaussian filter against the reference."""

from __future__ import annotations

import pytest
import torch

from gpuvos.kernels.gaussian_filter import gaussian_filter, reference

pytest.importorskip("triton")

from gpuvos.kernels.gaussian_filter import kernel


@pytest.mark.sampled
@pytest.mark.usefixtures("poisoned_buffers")
@pytest.mark.parametrize(("n", "h", "w"), [(2, 9, 13), (1, 1, 20), (1, 20, 1), (1, 1, 1), (3, 2, 2)])
@pytest.mark.parametrize(("sigma", "reach"), [(1.0, 5), (0.5, 0), (4.0, 15)])
def test_equals_reference(
    n: int,
    h: int,
    w: int,
    sigma: float,
    reach: int,
    generator: torch.Generator,
    kernel_device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel, "BLOCK", 64)
    values = torch.randn(n, h, w, generator=generator)
    wanted = reference.gaussian_filter(values, sigma, reach)
    found = kernel.gaussian_filter(values.to(kernel_device), sigma, reach)
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-5)


def test_other_types_and_layouts(generator: torch.Generator, kernel_device: str) -> None:
    values = torch.randn(2, 5, 6, generator=generator)
    cases = (
        values.half(),
        values.bfloat16(),
        values.transpose(0, 2).contiguous().transpose(0, 2),
        values[:0],
    )
    for case in cases:
        found = kernel.gaussian_filter(case.to(kernel_device), 1.5, 4)
        assert found.dtype == torch.float32
        wanted = reference.gaussian_filter(case, 1.5, 4)
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.cuda
def test_the_kernel_runs_on_cuda(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    original = kernel.gaussian_filter
    monkeypatch.setattr(kernel, "gaussian_filter", lambda *a: called.append(1) or original(*a))
    values = torch.randn(4, 480, 854, generator=generator)
    found = gaussian_filter(values.cuda(), 1.0, 5)
    assert called
    torch.testing.assert_close(found.cpu(), gaussian_filter(values, 1.0, 5), rtol=1e-5, atol=1e-5)
    assert torch.equal(gaussian_filter(values.cuda(), 1.0, 5), found)
