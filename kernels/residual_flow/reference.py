"""Flow without the motion of the camera, a robust quadratic model of each frame, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks


def residual_flow(flow: Tensor, weight: Tensor, iterations: int) -> Tensor:
    """What is left of the flow after iteratively reweighted least squares.

    The op has no gradient; this function has that of every round.

    Args:
        flow: ``[N, 2, H, W]``; half types are computed in float32.
        weight: ``[N, H, W]`` non-negative prior weight of a pixel.
        iterations: rounds of reweighting (Geman-McClure weights, scale from the median residual).

    Returns:
        ``[N, 2, H, W]``, float64 for a flow of that type, else float32.
    """
    h, w = flow.shape[-2:]
    values = flow.flatten(-2).to(torch.promote_types(flow.dtype, torch.float32))  # [N, 2, P]
    basis = _quadratic_basis(h, w, values)  # [P, 6]
    step = sample_step(h, w)
    rows, cols = (_samples(length, step, flow.device) for length in (h, w))
    sample = (rows[:, None] * w + cols).flatten()
    design, target = basis[sample], values[..., sample].mT  # [S, 6], [N, S, 2]
    prior = weight.flatten(-2)[:, sample].to(values.dtype)  # [N, S]
    residual = torch.empty_like(values, memory_format=torch.contiguous_format)
    for block in blocks(values.shape[0], values.element_size() * (16 * sample.shape[0] + 4 * h * w)):
        model = _camera_model(design, target[block], prior[block], iterations)
        residual[block] = values[block] - (basis @ model).mT
    return residual.reshape(flow.shape)


def sample_step(h: int, w: int) -> int:
    """Rows and columns between the samples of a fit: about 4,096 of them, at most 9,216."""
    return int(max(1, round((h * w / 4096) ** 0.5)))


def _samples(length: int, step: int, device: torch.device) -> Tensor:
    first = step // 2 if length > step else 0
    return torch.arange(first, length, step if length > step else 1, device=device)


def _camera_model(design: Tensor, target: Tensor, prior: Tensor, iterations: int) -> Tensor:
    """Robust least squares: ``[S, 6]``, ``[N, S, 2]`` and weights ``[N, S]`` -> coefficients ``[N, 6, 2]``."""
    trust, model = prior, target.new_zeros((target.shape[0], 6, 2))
    bits = torch.int64 if target.dtype == torch.float64 else torch.int32
    ridge = 1e-6 * torch.eye(6, dtype=target.dtype, device=target.device)
    for _ in range(iterations):
        weighted = design.T * trust[:, None]  # [N, 6, S]
        scale = weighted[:, 0].sum(-1).clamp(min=1e-6)[:, None, None]
        model = torch.linalg.solve_ex(weighted @ design / scale + ridge, weighted @ target / scale)[0]
        error = (target - design @ model).square().sum(-1)  # [N, S]
        order = error.detach().view(bits).sort(-1).indices  # that of the errors, and quicker to find on a CPU
        median = error.gather(-1, order[:, error.shape[1] // 2, None])
        spread = (4 * median).clamp(min=1e-4)
        trust = prior / (1 + error / spread).square()
    return model


def _quadratic_basis(h: int, w: int, like: Tensor) -> Tensor:
    y = torch.linspace(-1, 1, h, dtype=like.dtype, device=like.device)[:, None].expand(h, w).flatten()
    x = torch.linspace(-1, 1, w, dtype=like.dtype, device=like.device).expand(h, w).flatten()
    return torch.stack((torch.ones_like(x), x, y, x * x, x * y, y * y), 1)
