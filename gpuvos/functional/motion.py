"""Motion saliency of the seeds, Eq. 7-8, and the motion of the camera."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.errors import check_count, check_tensor
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.precision import full_precision
from gpuvos.functional.similarity import squared_distance
from gpuvos.kernels.blocks import blocks


def initial_background(objectness: Tensor, valid: Tensor, *, num_background: int = 30) -> Tensor:
    """The seeds of lowest objectness, which start the background; ties go to the lower seed number.

    Of a frame that fills only a share of its K seeds, the same share of ``num_background`` (rounded up) is taken.

    Args:
        objectness: ``[T, K]`` (any leading dimensions).
        valid: ``[T, K]`` bool.
        num_background: N_BG.

    Returns:
        ``[T, K]`` bool.

    Example:
        >>> o = torch.tensor([[0.9, 0.1, 0.5]])
        >>> initial_background(o, torch.ones(1, 3, dtype=torch.bool), num_background=2)
        tensor([[False,  True,  True]])
    """
    k = check_tensor("objectness", objectness, "... K", filled=True)["K"]
    check_tensor(
        "valid", valid, "... K", kind="bool", sizes={"K": k}, leading=objectness.shape[:-1], like=objectness
    )
    check_count("num_background", num_background)
    ordered = objectness.masked_fill(~valid, torch.inf).sort(dim=-1, stable=True).indices
    rank = ordered.argsort(-1)
    wanted = (min(num_background, k) * valid.sum(-1, keepdim=True) + k - 1) // k
    return (rank < wanted) & valid


def motion_saliency(
    region_flow: Tensor, objectness: Tensor, valid: Tensor, *, num_background: int = 30, squared: bool = True
) -> Tensor:
    """Motion saliency ``M(s) = (1 / Z) min over background b of ||v_s - v_b||^2``, Eq. 7-8.

    Z is the largest such minimum of the frame, so the most salient seed has 1; where nothing moves against the
    background (Z = 0) the saliency is 0.

    Args:
        region_flow: ``[T, K, 2]`` mean flow ``v_s`` of the seeds' regions (any leading dimensions).
        objectness: ``[T, K]``; the ``num_background`` seeds of lowest objectness are the background.
        valid: ``[T, K]`` bool.
        num_background: N_BG.
        squared: False takes the distance instead of its square.

    Returns:
        ``[T, K]`` in [0, 1]; 0 where invalid.

    Example:
        >>> v = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]])
        >>> o = torch.tensor([[0.1, 0.9, 0.8]])
        >>> motion_saliency(v, o, torch.ones(1, 3, dtype=torch.bool), num_background=1)
        tensor([[0.0000, 1.0000, 0.0400]])
    """
    k = check_tensor("region_flow", region_flow, "... K 2", filled=True)["K"]
    lead = region_flow.shape[:-2]
    check_tensor("objectness", objectness, "... K", sizes={"K": k}, leading=lead, like=region_flow)
    check_tensor("valid", valid, "... K", kind="bool", sizes={"K": k}, leading=lead, like=region_flow)
    background = initial_background(objectness, valid, num_background=num_background)
    flow, others = merge_leading(region_flow, 2), ~merge_leading(background, 1)[:, None]
    nearest = flow.new_empty((len(flow), k), dtype=torch.promote_types(flow.dtype, torch.float32))
    for block in blocks(len(flow), 16 * k * k):
        distance = squared_distance(flow[block], flow[block])  # [N, K, K]
        nearest[block] = distance.masked_fill(others[block], torch.inf).amin(-1)
    # a frame with a valid seed has a background seed
    nearest = nearest.reshape(valid.shape).masked_fill(~valid, 0)
    return normalize_saliency(nearest if squared else nearest.sqrt(), valid)


def normalize_saliency(length: Tensor, valid: Tensor) -> Tensor:
    """Divides by the largest value of the frame, Eq. 8.

    Args:
        length: ``[T, K]`` non-negative (any leading dimensions).
        valid: ``[T, K]`` bool.

    Returns:
        ``[T, K]`` in [0, 1]; 0 where invalid, and everywhere in a frame whose largest value is 0.

    Example:
        >>> normalize_saliency(torch.tensor([[1.0, 4.0]]), torch.ones(1, 2, dtype=torch.bool))
        tensor([[0.2500, 1.0000]])
    """
    k = check_tensor("length", length, "... K", filled=True)["K"]
    check_tensor("valid", valid, "... K", kind="bool", sizes={"K": k}, leading=length.shape[:-1], like=length)
    length = length.masked_fill(~valid, 0).clamp(min=0)
    largest = length.amax(-1, keepdim=True)
    return torch.where(largest > 0, length / largest.clamp(min=torch.finfo(length.dtype).tiny), 0)


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
    values = merge_leading(flow.flatten(-2), 2).to(
        torch.promote_types(flow.dtype, torch.float32)
    )  # [N, 2, P]
    basis = _quadratic_basis(h, w, values)  # [P, 6]
    step = max(1, round((h * w / 4096) ** 0.5))
    rows = (
        torch.arange(step // 2, h, step, device=flow.device)
        if h > step
        else torch.arange(h, device=flow.device)
    )
    cols = (
        torch.arange(step // 2, w, step, device=flow.device)
        if w > step
        else torch.arange(w, device=flow.device)
    )
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
