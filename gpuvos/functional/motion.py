"""Motion saliency of the seeds, Eq. 7-8, and the motion of the camera."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.errors import check_count, check_tensor
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.similarity import squared_distance
from gpuvos.kernels.blocks import blocks


def initial_background(objectness: Tensor, valid: Tensor, *, num_background: int = 40) -> Tensor:
    """The seeds of lowest objectness, which start the background; ties go to the lower seed number.

    Of a frame that fills only a share of its K seeds, the same share of ``num_background`` (rounded up) is taken.

    Args:
        objectness: ``[T, K]`` (any leading dimensions).
        valid: ``[T, K]`` bool.
        num_background: the number of initial background seeds, N_BG.

    Returns:
        ``[T, K]`` bool.

    Example:
        >>> o = torch.tensor([[0.9, 0.1, 0.5]])
        >>> initial_background(o, torch.ones(1, 3, dtype=torch.bool), num_background=2)
        tensor([[False,  True,  True]])
    """
    k = check_tensor("objectness", objectness, "... K", filled=True)["K"]
    check_tensor("valid", valid, "... K", kind="bool", sizes={"K": k}, leading=objectness.shape[:-1], like=objectness)
    check_count("num_background", num_background)
    ordered = objectness.masked_fill(~valid, torch.inf).sort(dim=-1, stable=True).indices
    rank = torch.empty_like(ordered).scatter_(-1, ordered, torch.arange(k, device=ordered.device).expand_as(ordered))
    wanted = (min(num_background, k) * valid.sum(-1, keepdim=True) + (k - 1)) // k
    return (rank < wanted) & valid


def motion_saliency(
    region_flow: Tensor, objectness: Tensor, valid: Tensor, *, num_background: int = 40, squared: bool = False
) -> Tensor:
    """Motion saliency ``M(s) = (1 / Z) min over background b of ||v_s - v_b||``, Eq. 7-8.

    Z is the largest such minimum of the frame, so the most salient seed has 1; where nothing moves against the
    background (Z = 0) the saliency is 0.

    Args:
        region_flow: ``[T, K, 2]`` mean flow ``v_s`` of the seeds' regions (any leading dimensions).
        objectness: ``[T, K]``; the ``num_background`` seeds of lowest objectness are the background.
        valid: ``[T, K]`` bool.
        num_background: the number of initial background seeds, N_BG.
        squared: the square of the distance in place of the distance. Which of them the paper means is lost; see
            ``Config.squared_saliency``.

    Returns:
        ``[T, K]`` in [0, 1]; 0 where invalid.

    Example:
        >>> v = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]])
        >>> o = torch.tensor([[0.1, 0.9, 0.8]])
        >>> motion_saliency(v, o, torch.ones(1, 3, dtype=torch.bool), num_background=1)
        tensor([[0.0000, 1.0000, 0.2000]])
    """
    k = check_tensor("region_flow", region_flow, "... K 2", filled=True)["K"]
    lead = region_flow.shape[:-2]
    check_tensor("objectness", objectness, "... K", sizes={"K": k}, leading=lead, like=region_flow)
    check_tensor("valid", valid, "... K", kind="bool", sizes={"K": k}, leading=lead, like=region_flow)
    background = initial_background(objectness, valid, num_background=num_background)
    flow, others = merge_leading(region_flow, 2), ~merge_leading(background, 1)[:, None]
    nearest = flow.new_empty((flow.shape[0], k), dtype=torch.promote_types(flow.dtype, torch.float32))
    for block in blocks(flow.shape[0], 16 * k * k):
        distance = squared_distance(flow[block], flow[block])  # [N, K, K]
        nearest[block] = distance.masked_fill(others[block], torch.inf).amin(-1)
    # a frame with a valid seed has a background seed
    nearest = nearest.reshape(valid.shape).masked_fill(~valid, 0)
    if not squared:
        moves = nearest > 0  # the root of 0 has no gradient
        nearest = torch.where(moves, torch.where(moves, nearest, 1).sqrt(), 0)
    return normalize_saliency(nearest, valid)


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
