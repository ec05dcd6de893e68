"""Boundary accuracy F: how much of the object's outline is right."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from gpuvos.errors import fail
from gpuvos.metrics.pair import check_pair, measure_frames


def boundary_accuracy(mask: Tensor, truth: Tensor, *, tolerance: float = 0.008) -> Tensor:
    """Boundary accuracy F of DAVIS, frame by frame.

    Precision P is the share of the mask's boundary pixels within r pixels (Euclidean) of the truth's
    boundary, recall R the share of the truth's boundary pixels within r pixels of the mask's; ``F = 2 P R /
    (P + R)``, and 0 where P + R is. A pixel is on the boundary if it differs from its east, south or
    south-east neighbour; in the last row only the east, in the last column only the south neighbour counts,
    and the last pixel is never on it. P is 1 where the mask has no boundary and R is 1 where the truth has
    none, so F is 1 if neither has one and 0 if only one has. An object that fills the frame has no
    boundary. Nothing is read back to the host.

    Args:
        mask: ``[..., H, W]`` bool or integer; every non-zero value is the object.
        truth: ``[..., H, W]`` bool or integer of the same shape on the same device.
        tolerance: below 1 a share of the image diagonal, ``r = ceil(tolerance * sqrt(H^2 + W^2))``, so that
            the protocol's 0.008 gives 8 pixels at 480 x 854; from 1 on a whole number of pixels.

    Returns:
        [...] float in [0, 1]: [T] for masks ``[T, H, W]``, a scalar tensor for one mask ``[H, W]``.

    Raises:
        InputError: if a mask is floating point, shapes or devices differ, or ``tolerance`` is negative, not
            finite, or above 1 and not whole.

    Example:
        >>> import torch
        >>> truth = torch.zeros(20, 20, dtype=torch.bool)
        >>> truth[5:15, 5:15] = True
        >>> mask = truth.roll(3, dims=1)  # the outline is off by 3 pixels on two of its four sides
        >>> boundary_accuracy(mask, truth, tolerance=3), boundary_accuracy(mask, truth, tolerance=1)
        (tensor(1.), tensor(0.5000))
    """
    check_pair(mask, truth)
    radius = tolerance_in_pixels(tolerance, *mask.shape[-2:])
    return measure_frames(partial(_f_measure, radius=radius), mask, truth)


def tolerance_in_pixels(tolerance: float, height: int, width: int) -> int:
    """The tolerance in pixels."""
    number = isinstance(tolerance, int | float) and math.isfinite(tolerance)
    if not number or not (0 <= tolerance < 1 or (tolerance >= 1 and float(tolerance).is_integer())):
        wanted = "a share of the diagonal in [0, 1) or a whole number of pixels"
        raise fail("tolerance", repr(tolerance), wanted)
    return math.ceil(tolerance * math.hypot(height, width)) if tolerance < 1 else int(tolerance)


def _f_measure(mask: Tensor, truth: Tensor, radius: int) -> Tensor:
    """F of bool masks ``[N, H, W]`` -> [N]."""
    found, wanted = boundary_map(mask), boundary_map(truth)  # [N, H, W]
    precision = _share(found, dilate(wanted, radius))  # [N]
    recall = _share(wanted, dilate(found, radius))  # [N]
    total = precision + recall
    return torch.where(total > 0, 2 * precision * recall / total.clamp_min(1e-12), 0.0)


def _share(boundary: Tensor, near: Tensor) -> Tensor:
    """The share of boundary pixels ``[N, H, W]`` that are ``near``; 1 where there is no boundary -> [N]."""
    count = boundary.sum(dim=(-2, -1))  # [N]
    matched = (boundary & near).sum(dim=(-2, -1))  # [N]
    return torch.where(count > 0, matched / count.clamp_min(1), 1.0)


def boundary_map(mask: Tensor) -> Tensor:
    """Boundary pixels of bool masks ``[N, H, W]``, by the rule of ``boundary_accuracy``."""
    here = mask[:, :-1, :-1]
    east, south, diagonal = mask[:, :-1, 1:], mask[:, 1:, :-1], mask[:, 1:, 1:]
    boundary = torch.zeros_like(mask)  # [N, H, W]
    boundary[:, :-1, :-1] = (here ^ east) | (here ^ south) | (here ^ diagonal)
    boundary[:, -1, :-1] = mask[:, -1, :-1] ^ mask[:, -1, 1:]
    boundary[:, :-1, -1] = mask[:, :-1, -1] ^ mask[:, 1:, -1]
    return boundary


def dilate(points: Tensor, radius: int) -> Tensor:
    """Dilates bool maps ``[N, H, W]`` by the disk of all offsets with ``x^2 + y^2 <= radius^2``.

    The disk is a stack of horizontal runs that widen from its top row to its middle. ``run`` holds the map
    dilated by the run of the current row; it grows by one pixel a side at a time and serves the rows above
    and below the middle at once, so the cost grows with the radius, not with the disk's area.
    """
    height = points.shape[-2]
    run, grown = points.clone(), torch.zeros_like(points)  # [N, H, W]
    half = 0
    for row in range(min(radius, height - 1), 0, -1):
        half = _widen(run, points, half, math.isqrt(radius * radius - row * row))
        grown[:, row:] |= run[:, :-row]
        grown[:, :-row] |= run[:, row:]
    _widen(run, points, half, radius)
    return grown.logical_or_(run)


def _widen(run: Tensor, points: Tensor, half: int, wanted: int) -> int:
    """Widens ``run`` in place: ``points`` dilated by ``half`` pixels a side becomes dilated by ``wanted``.

    Returns the new half width, at most W - 1: further pixels lie outside of the map.
    """
    wanted = min(wanted, points.shape[-1] - 1)
    for shift in range(half + 1, wanted + 1):
        run[..., shift:] |= points[..., :-shift]
        run[..., :-shift] |= points[..., shift:]
    return wanted
