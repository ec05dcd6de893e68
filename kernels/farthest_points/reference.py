"""Greedy farthest-point sampling among candidates, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks


def farthest_points(embedding: Tensor, priority: Tensor, candidates: Tensor, num_points: int) -> Tensor:
    """Chooses diverse points: first the one of highest priority, then always the one farthest from all chosen.

    Ties go to the lowest index. Points never repeat; where the candidates run out the index is -1.

    Args:
        embedding: ``[N, D, P]`` of any floating type.
        priority: ``[N, P]`` of any floating type.
        candidates: ``[N, P]`` bool.
        num_points: K.

    Returns:
        ``[N, K]`` int64 indices into P, in the order of choice.
    """
    n, d, _ = embedding.shape
    chosen = candidates.new_full((n, num_points), -1, dtype=torch.int64)
    most = int(candidates.sum(1).max()) if candidates.numel() else 0
    if most == 0:
        return chosen
    for block in blocks(n, 3 * most * d * 4):
        chosen[block] = _sample(embedding[block], priority[block], candidates[block], num_points)
    return chosen


def _sample(embedding: Tensor, priority: Tensor, candidates: Tensor, num_points: int) -> Tensor:
    n, d, _ = embedding.shape
    frame, pixel = candidates.nonzero(as_tuple=True)
    place = (candidates.cumsum(1) - 1)[frame, pixel]  # position among the candidates of its frame
    width = int(candidates.sum(1).max())
    index = candidates.new_full((n, width), -1, dtype=torch.int64)  # [n, M] raster order
    index[frame, place] = pixel
    there = index >= 0
    safe = index.clamp(min=0)
    points = embedding.gather(2, safe[:, None].expand(-1, d, -1)).transpose(1, 2).contiguous()  # [n, M, D]
    points = points if points.dtype == torch.float64 else points.float()
    first = priority.gather(1, safe).masked_fill(~there, -torch.inf)  # [n, M]
    gap = points.new_full((n, width), torch.inf).masked_fill_(~there, -1)  # -1: taken or not a candidate
    out = candidates.new_full((n, num_points), -1, dtype=torch.int64)
    rows = torch.arange(n, device=embedding.device)
    difference = torch.empty_like(points)
    for k in range(min(num_points, width)):
        pick = (gap if k else first).argmax(1)  # argmax takes the lowest index of equal values
        left = gap[rows, pick] >= 0
        out[:, k] = torch.where(left, index[rows, pick], -1)
        torch.sub(points, points[rows, pick, None], out=difference)
        torch.minimum(gap, difference.square_().sum(2), out=gap)
        gap[rows, pick] = -1
    return out
