"""The Triton kernels of the camera's motion against the reference."""

from __future__ import annotations

import pytest
import torch

from gpuvos.kernels.residual_flow import reference

pytest.importorskip("triton")

from gpuvos.kernels.residual_flow import kernel


@pytest.mark.sampled
@pytest.mark.parametrize("iterations", [1, 8])
@pytest.mark.parametrize("size", [(2, 9, 11), (1, 1, 20), (1, 1, 1), (2, 37, 70), (1, 70, 1), (0, 3, 4)], ids=str)
def test_equals_reference(
    size: tuple[int, int, int],
    iterations: int,
    generator: torch.Generator,
    kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:
    n, h, w = size
    y, x = torch.linspace(-1, 1, h)[:, None], torch.linspace(-1, 1, w)
    flow = torch.stack((3 + x + 0.5 * y * x, x * x - y)).expand(n, 2, h, w).clone()
    flow += 0.05 * torch.randn(n, 2, h, w, generator=generator)
    flow[..., h // 3 : h // 2, w // 3 : w // 2] += 4
    weight = torch.rand(n, h, w, generator=generator)
    poisoned_buffers.clear()
    found = kernel.residual_flow(flow.to(kernel_device), weight.to(kernel_device), iterations)
    assert poisoned_buffers
    assert torch.allclose(found.cpu(), reference.residual_flow(flow, weight, iterations), atol=2e-4)


@pytest.mark.slow
def test_layouts_and_types(generator: torch.Generator, kernel_device: str) -> None:
    flow, weight = torch.randn(2, 2, 8, 9, generator=generator), torch.rand(8, 9, generator=generator)
    want = reference.residual_flow(flow.half(), weight.expand(2, 8, 9), 3)
    turned = flow.half().transpose(1, 3).contiguous().transpose(1, 3).to(kernel_device)
    found = kernel.residual_flow(turned, weight.to(kernel_device).expand(2, 8, 9), 3)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    assert torch.allclose(found.cpu(), want, atol=1e-4)


@pytest.mark.slow
def test_no_weight_at_all(kernel_device: str) -> None:
    flow = torch.rand(1, 2, 4, 5, device=kernel_device)
    assert torch.equal(kernel.residual_flow(flow, torch.zeros_like(flow[:, 0]), 3), flow)
