"""Several objects: J and F of the masks that a method found, each matched with one true object at most."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gpuvos.errors import InputError, fail
from gpuvos.metrics.boundary import boundary_map, dilate, tolerance_in_pixels
from gpuvos.metrics.pair import check_mask

_EXACT = 2**24  # counts up to this are exact in float32


class ObjectScores(NamedTuple):
    """J and F of every true object in every frame."""

    j: Tensor  # [M, T]
    f: Tensor  # [M, T]
    proposal: Tensor  # [M] int64, the mask that an object is matched with; -1 for none, which counts as an empty one


def object_scores(proposals: Tensor, truth: Tensor, *, tolerance: float = 0.008) -> ObjectScores:
    """J and F by object, as the unsupervised challenge of DAVIS-2017 measures them (Caelles et al., 2019).

    Proposal n and object m score ``s(n, m)``, half the sum of their mean J and their mean F over the frames. Of all
    ways to match objects with different proposals the one with the largest sum of scores counts (Kuhn, 1955). Proposals
    that are left over cost nothing. Where there are fewer than objects, empty ones are added: an object that is matched
    with one has J 1 and F 1 in frames where it is not there itself, and 0 in others.

    Args:
        proposals: ``[N, T, H, W]`` bool or integer, non-zero on the proposal; N may be 0. The challenge allows 20.
        truth: ``[M, T, H, W]`` bool or integer on the same device, non-zero on the object.
        tolerance: of F, see ``boundary_accuracy``.

    Returns:
        ObjectScores, its values float. The numbers of DAVIS are means over all objects of all sequences.

    Raises:
        InputError: if a mask is floating point, shapes or devices do not fit, there is no object, or SciPy, which finds
            the best assignment, is not installed.

    Example:
        >>> truth = torch.zeros(2, 1, 20, 20, dtype=torch.bool)
        >>> truth[0, :, 2:8, 2:8] = truth[1, :, 10:18, 10:18] = True
        >>> found = object_scores(truth.flip(0), truth)
        >>> found.j.mean().item(), found.f.mean().item(), found.proposal.tolist()
        (1.0, 1.0, [1, 0])
    """
    for argument, value in (("proposals", proposals), ("truth", truth)):
        check_mask(argument, value)
        if value.ndim != 4:
            raise fail(argument, f"shape {tuple(value.shape)}", "masks by object, [N, T, H, W]")
    if proposals.shape[1:] != truth.shape[1:]:
        shapes = (tuple(proposals.shape), tuple(truth.shape))
        raise fail("proposals", f"shape {shapes[0]}", f"frames and size of truth, {shapes[1]}")
    if proposals.device != truth.device:
        raise fail("proposals", f"device {proposals.device}", f"device {truth.device} of truth")
    if 0 in truth.shape[:2]:
        raise fail("truth", f"shape {tuple(truth.shape)}", "at least one object and one frame")
    radius = tolerance_in_pixels(tolerance, *truth.shape[-2:])
    missing = max(0, len(truth) - len(proposals))
    j, f = _all_pairs(proposals, truth, missing, radius)  # [N, M, T]
    proposal = best_assignment((j.mean(-1) + f.mean(-1)) / 2)
    number = torch.arange(len(truth), device=truth.device)
    known = torch.where(proposal < len(proposals), proposal, -1)
    return ObjectScores(j[proposal, number], f[proposal, number], known)


def best_assignment(score: Tensor) -> Tensor:
    """Rows ``[M]`` int64, a different one for each column of scores ``[N, M]``, of the largest sum; N is at least M.

    Example:
        >>> best_assignment(torch.tensor([[0.9, 0.8], [0.7, 0.1]])).tolist()  # 0.7 + 0.8 is more than 0.9 + 0.1
        [1, 0]
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise InputError("object_scores: SciPy is not installed; pip install 'gpuvos[evaluate]'") from error
    _, row = linear_sum_assignment(score.T.double().cpu().numpy(), maximize=True)
    return torch.as_tensor(row, dtype=torch.int64, device=score.device)


def _all_pairs(proposals: Tensor, truth: Tensor, missing: int, radius: int) -> tuple[Tensor, Tensor]:
    """J and F ``[N + missing, M, T]`` of all pairs, frame by frame; the last ``missing`` proposals are empty."""
    pairs = []
    for found, wanted in zip(proposals.unbind(1), truth.unbind(1), strict=True):
        first = torch.cat([found != 0, wanted.new_zeros((missing, *wanted.shape[1:]), dtype=torch.bool)])
        second = wanted != 0
        edge, true_edge = boundary_map(first), boundary_map(second)
        matched, count = _shared(edge, dilate(true_edge, radius)), _area(edge)[:, None]
        precision = torch.where(count > 0, matched / count.clamp_min(1), 1.0)
        matched, count = _shared(dilate(edge, radius), true_edge), _area(true_edge)
        recall = torch.where(count > 0, matched / count.clamp_min(1), 1.0)
        total = precision + recall
        f = torch.where(total > 0, 2 * precision * recall / total.clamp_min(1e-12), 0.0)
        shared = _shared(first, second)
        union = _area(first)[:, None] + _area(second) - shared
        pairs.append(torch.stack([torch.where(union > 0, shared / union.clamp_min(1), 1.0), f]))
    j, f = torch.stack(pairs, dim=-1)
    return j, f


def _shared(first: Tensor, second: Tensor) -> Tensor:
    """Pixels ``[N, M]`` int64 that masks ``[N, H, W]`` and ``[M, H, W]`` have in common."""
    dtype = torch.float32 if first.shape[-1] * first.shape[-2] <= _EXACT else torch.float64
    return (first.flatten(1).to(dtype) @ second.flatten(1).to(dtype).T).long()


def _area(mask: Tensor) -> Tensor:
    return mask.sum((-2, -1))
