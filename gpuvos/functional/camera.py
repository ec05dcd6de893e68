"""Motion of the camera: a robust quadratic model of the flow of each frame, and what it leaves over."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.errors import check_count, check_tensor
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.precision import full_precision
from gpuvos.kernels.blocks import blocks


def camera_weight(objectness: Tensor) -> Tensor:
    """Prior weight of pixels in the camera model: those of objects count a tenth.

    Example:
        >>> camera_weight(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.1000])
    """
    return 1 - 0.9 * objectness


@full_precision
def residual_flow(flow: Tensor, *, weight: Tensor | None = None, iterations: int = 8) -> Tensor:
    """What is left of the flow after the motion of the camera, a robust quadratic model of each frame.

    Each component is fitted by ``a + bx + cy + dx^2 + exy + fy^2`` with iteratively reweighted least squares
    (Geman-McClure weights, scale from the median residual), on at most 4,096 pixels of the frame.

    Args:
        flow: ``[T, 2, H, W]`` (any leading dimensions).
        weight: ``[T, H, W]`` non-negative prior weight of a pixel, for example ``1 - objectness``.
        iterations: reweighting rounds.

    Returns:
        ``[T, 2, H, W]`` in the unit of ``flow``.

    Example:
        >>> pan = torch.full((1, 2, 8, 8), 3.0)
        >>> bool(residual_flow(pan).abs().max() < 1e-4)
        True
    """
    sizes = check_tensor("flow", flow, "... 2 H W", filled=True)
    h, w = sizes["H"], sizes["W"]
    if weight is not None:
        check_tensor("weight", weight, "... H W", sizes={"H": h, "W": w}, leading=flow.shape[:-3], like=flow)
    check_count("iterations", iterations)
    values = merge_leading(flow.flatten(-2), 2).to(torch.promote_types(flow.dtype, torch.float32))  # [N, 2, P]
    basis = _quadratic_basis(h, w, values)  # [P, 6]
    step = max(1, round((h * w / 4096) ** 0.5))
    rows = torch.arange(step // 2, h, step, device=flow.device) if h > step else torch.arange(h, device=flow.device)
    cols = torch.arange(step // 2, w, step, device=flow.device) if w > step else torch.arange(w, device=flow.device)
    sample = (rows[:, None] * w + cols).flatten()
    design, target = basis[sample], values[..., sample].mT  # [S, 6], [N, S, 2]
    prior = (
        torch.ones_like(target[..., 0])
        if weight is None
        else merge_leading(weight.flatten(-2), 1)[:, sample].to(values.dtype)
    )
    residual = torch.empty_like(values)
    for block in blocks(len(values), values.element_size() * (16 * len(sample) + 4 * h * w)):
        model = _camera_model(design, target[block], prior[block], iterations)
        residual[block] = values[block] - (basis @ model).mT
    return residual.reshape(flow.shape)


def _camera_model(design: Tensor, target: Tensor, prior: Tensor, iterations: int) -> Tensor:
    """Robust least squares: ``[S, 6]``, ``[N, S, 2]`` and weights ``[N, S]`` -> coefficients ``[N, 6, 2]``."""
    trust, model = prior, target.new_zeros((len(target), 6, 2))
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
