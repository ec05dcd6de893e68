"""How an embedding drifts away from that of the first frame, Figures 6 and 8 of the paper."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

STEPS = 20  # of relative time in the curves
STRIDE = 2  # every second row and column of the grid: a sixteenth of the pairs, and the same curves
_PAIRS = 1 << 24  # distances at once


def measure(embedding: Tensor, truth: Tensor, annotated: tuple[int, ...]) -> dict[str, Any]:
    """Drift of the annotated frames against the first of them.

    Figure 6, ``wrong``: share of the object's pixels that are nearer to a background pixel of the first frame than
    to every pixel of the object there. Figure 8, ``foreground`` and ``background``: mean distance of a frame's pixels
    to the nearest pixel of the same side in the first frame.

    Args:
        embedding: ``[T, D, h, w]``.
        truth: ``[A, h, w]`` bool.
        annotated: A frame numbers.

    Returns:
        ``time`` in [0, 1] and the three curves, of the frames in which they are defined; None elsewhere.

    Example:
        >>> embedding = torch.zeros(2, 1, 4, 4)  # the object drifts to where the background was
        >>> embedding[0, :, :, 2:] = 1.0
        >>> truth = torch.zeros(2, 4, 4, dtype=torch.bool)
        >>> truth[:, :, 2:] = True
        >>> row = measure(embedding, truth, (0, 1))
        >>> row["time"], row["wrong"], row["foreground"]
        ([0.0, 1.0], [0.0, 1.0], [0.0, 1.0])
    """
    points = embedding[list(annotated), :, ::STRIDE, ::STRIDE].flatten(2).mT.float()  # [A, P, D]
    truth = truth[:, ::STRIDE, ::STRIDE].flatten(1)
    inside, outside = points[0][truth[0]], points[0][~truth[0]]
    row: dict[str, Any] = {"time": [], "wrong": [], "foreground": [], "background": []}
    first, last = annotated[0], annotated[-1]
    for number, frame in enumerate(annotated):
        mine, rest = points[number][truth[number]], points[number][~truth[number]]
        near, far, around = nearest(mine, inside), nearest(mine, outside), nearest(rest, outside)
        row["time"].append((frame - first) / max(last - first, 1))
        comparable = len(inside) > 0 and len(outside) > 0
        row["wrong"].append(_mean((far < near).float()) if comparable else None)
        row["foreground"].append(_mean(near))
        row["background"].append(_mean(around))
    return row


def nearest(points: Tensor, reference: Tensor) -> Tensor:
    """Distance of every point ``[M, D]`` to the nearest of ``[N, D]``: [M]; infinite where there is none."""
    if len(reference) == 0:
        return points.new_full((len(points),), torch.inf)
    parts = torch.split(points, max(1, _PAIRS // len(reference)))
    return torch.cat([torch.cdist(part, reference).amin(1) for part in parts])


def _mean(values: Tensor) -> float | None:
    value = values.mean().item() if values.numel() else math.nan
    return value if math.isfinite(value) else None


def average(rows: list[dict[str, Any]], curve: str) -> list[tuple[float, float]]:
    """Mean over sequences of a curve at evenly spaced relative times, each interpolated between its frames.

    Example:
        >>> average([{"time": [0.0, 1.0], "wrong": [0.0, 1.0]}], "wrong")[STEPS // 2]
        (0.5, 0.5)
    """
    total, count = [0.0] * (STEPS + 1), [0] * (STEPS + 1)
    for row in rows:
        known = [(t, value) for t, value in zip(row["time"], row[curve], strict=True) if value is not None]
        for step in range(STEPS + 1) if known else ():
            total[step] += _interpolate(known, step / STEPS)
            count[step] += 1
    return [(step / STEPS, total[step] / count[step]) for step in range(STEPS + 1) if count[step]]


def _interpolate(known: list[tuple[float, float]], time: float) -> float:
    """Value at a time between two known ones, that of the first or last beyond them."""
    before = [pair for pair in known if pair[0] <= time] or known[:1]
    after = [pair for pair in known if pair[0] >= time] or known[-1:]
    (start, low), (end, high) = before[-1], after[0]
    share = (time - start) / (end - start) if end > start else 0.0
    return low + share * (high - low)
