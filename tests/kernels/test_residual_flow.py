"""Flow without the camera's motion: by hand, and what a robust fit promises."""

from __future__ import annotations

import pytest
import torch

from gpuvos.kernels.residual_flow import reference, residual_flow


def test_by_hand() -> None:
    # One row of three pixels at x = -1, 0, 1: three numbers are a quadratic, so nothing is left of any flow ...
    flow = torch.tensor([[[[1.0, 5.0, 2.0]], [[0.0, -3.0, 9.0]]]], dtype=torch.float64)
    weight = torch.ones(1, 1, 3, dtype=torch.float64)
    assert residual_flow(flow, weight, 1).abs().max() < 1e-4  # the ridge is 1e-6
    # ... and of a pixel that has no weight what the other two say of it is: with x = -1 and 1 alone the ridge makes
    # 1 and xx equal parts of their mean 1.5, so at x = 0 the model is 0.75
    weight[0, 0, 1] = 0
    left = residual_flow(flow, weight, 1)[0, 0, 0]
    # y = -1 there, so 1, -y, yy share that part with xx: three quarters of the mean
    assert left.tolist() == pytest.approx([0, 5 - 0.75 * 1.5, 0], abs=1e-4)


@pytest.mark.parametrize("size", [(24, 31), (130, 90)], ids=str)
def test_an_object_does_not_bend_the_model(size: tuple[int, int], generator: torch.Generator) -> None:
    h, w = size
    y, x = torch.linspace(-1, 1, h)[:, None], torch.linspace(-1, 1, w)
    camera = torch.stack((2 + x - y + 0.5 * x * y, y * y - 3 * x))[None]
    flow = camera.clone()
    flow[..., h // 3 : h // 2, w // 3 : w // 2] += 5
    left = residual_flow(flow, torch.rand(1, h, w, generator=generator) + 0.5, 8)
    assert torch.allclose(left, flow - camera, atol=0.02)


def test_weights_of_zero_leave_the_flow_alone() -> None:
    flow = torch.rand(2, 2, 4, 5)
    assert torch.equal(residual_flow(flow, torch.zeros(2, 4, 5), 3), flow)


def test_samples() -> None:
    assert [reference.sample_step(*size) for size in ((64, 64), (96, 96), (97, 97), (480, 854))] == [1, 2, 2, 10]
