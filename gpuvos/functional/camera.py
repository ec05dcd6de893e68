"""Motion of the camera: a robust quadratic model of the flow of each frame, and what it leaves over."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.errors import check_count, check_tensor
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.precision import full_precision
from gpuvos.kernels.backend import needs_plain
from gpuvos.kernels.residual_flow import reference
from gpuvos.kernels.residual_flow import residual_flow as camera_op


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
    frames = merge_leading(flow, 3)
    prior = flow.new_ones(()).expand(frames[:, 0].shape) if weight is None else merge_leading(weight, 2)
    learned = torch.is_grad_enabled() and (frames.requires_grad or prior.requires_grad)
    if learned or needs_plain(frames, prior):
        residual = reference.residual_flow(frames, prior, iterations)
    else:
        residual = camera_op(frames, prior, iterations)
    return residual.reshape(flow.shape)
