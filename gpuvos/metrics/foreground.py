"""Precision, recall and F-measure of FBMS: how much of the marked area, over a whole sequence, is right."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gpuvos.errors import fail
from gpuvos.metrics.pair import check_pair, measure_frames


class ForegroundScore(NamedTuple):
    """What FBMS reports for a sequence with one foreground."""

    precision: Tensor  # [...] share of the result that is object
    recall: Tensor  # [...] share of the object that is found
    f_measure: Tensor  # [...] their harmonic mean


def foreground_score(mask: Tensor, truth: Tensor) -> ForegroundScore:
    """Precision, recall and F-measure of FBMS for one foreground, over all annotated frames of a sequence together.

    ``P = |mask and truth| / |mask|``, ``R = |mask and truth| / |truth|``, pixels counted over all frames, and
    ``F = 2 P R / (P + R)``. FBMS assigns regions to objects before; with one region and the objects merged, as in
    the paper, there is nothing to assign. P is 1 where the mask is empty, R is 1 where the truth is; F is 0 where
    P + R is.

    Args:
        mask: ``[..., T, H, W]`` bool or integer; every non-zero value is the object.
        truth: ``[..., T, H, W]`` bool or integer of the same shape on the same device.

    Returns:
        ForegroundScore of [...] float each.

    Raises:
        InputError: if a mask is floating point, or shapes or devices differ.

    Example:
        >>> mask = torch.tensor([[[1, 1, 0, 0]], [[1, 1, 0, 0]]])
        >>> truth = torch.tensor([[[1, 0, 0, 0]], [[1, 1, 1, 0]]])
        >>> foreground_score(mask, truth)
        ForegroundScore(precision=tensor(0.7500), recall=tensor(0.7500), f_measure=tensor(0.7500))
    """
    check_pair(mask, truth)
    if mask.ndim < 3:
        raise fail("mask", f"shape {tuple(mask.shape)}", "masks of a sequence, [..., T, H, W]")
    found, wanted = measure_frames(_area, mask), measure_frames(_area, truth)  # [..., T]
    shared = measure_frames(_shared, mask, truth)
    found, wanted, shared = (value.sum(-1) for value in (found, wanted, shared))
    precision = torch.where(found > 0, shared / found.clamp_min(1), 1.0)
    recall = torch.where(wanted > 0, shared / wanted.clamp_min(1), 1.0)
    total = precision + recall
    harmonic = torch.where(total > 0, 2 * precision * recall / total.clamp_min(1e-12), 0.0)
    return ForegroundScore(precision, recall, harmonic)


def _area(mask: Tensor) -> Tensor:
    return mask.sum(dim=(-2, -1))


def _shared(mask: Tensor, truth: Tensor) -> Tensor:
    return (mask & truth).sum(dim=(-2, -1))
