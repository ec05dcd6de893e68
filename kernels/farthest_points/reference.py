"""Greedy farthest-point sampling among candidates, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks

_CACHE_BYTES = 8 << 20  # of points and differences, which are gone over once for every point that is chosen


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
    for block in blocks(n, 2 * most * d * 4, budget=_CACHE_BYTES):
        chosen[block] = _sample(embedding[block], priority[block], candidates[block], num_points)
    return chosen


def _sample(embedding: Tensor, priority: Tensor, candidates: Tensor, num_points: int) -> Tensor:
    n, d, _ = embedding.shape
    frame, pixel = candidates.nonzero(as_tuple=True)
    count = candidates.sum(1)
    start = (count.cumsum(0) - count).index_select(0, frame)
    place = torch.arange(len(frame), device=frame.device) - start  # among the candidates of its frame
    width = int(count.max())
    index = candidates.new_full((n, width), -1, dtype=torch.int64)  # [n, M] raster order
    index[frame, place] = pixel
    valid = index >= 0
    safe = index.clamp(min=0)
    points = embedding.gather(2, safe[:, None].expand(-1, d, -1)).transpose(1, 2).contiguous()  # [n, M, D]
    points = points if points.dtype == torch.float64 else points.float()
    first = priority.gather(1, safe).masked_fill(~valid, -torch.inf)  # [n, M]
    gap = points.new_full((n, width), torch.inf).masked_fill_(~valid, -1)  # -1: taken or not a candidate
    steps = min(num_points, width)
    picks, reach = index.new_empty((steps, n, 1)), gap.new_empty((steps, n, 1))
    rows, place = torch.arange(n, device=embedding.device)[:, None] * width, index.new_empty((n, 1))
    flat, newest = points.flatten(0, 1), points.new_empty((n, 1, d))
    difference, square = torch.empty_like(points), torch.empty_like(gap)
    for k, (pick, farthest) in enumerate(zip(picks, reach, strict=True)):
        # both searches take the lowest index of equal values
        if k:
            torch.max(gap, 1, keepdim=True, out=(farthest, pick))
        else:
            farthest.copy_(gap.gather(1, torch.argmax(first, 1, keepdim=True, out=pick)))
        torch.index_select(flat, 0, torch.add(rows, pick, out=place).view(-1), out=newest.view(n, d))
        torch.sum(torch.sub(points, newest, out=difference).square_(), 2, out=square)
        torch.minimum(gap, square, out=gap).scatter_(1, pick, -1)
    picks, reach = picks.squeeze(2), reach.squeeze(2)
    out = index.new_full((n, num_points), -1)
    out[:, :steps] = index.gather(1, picks.T).where(reach.T >= 0, -1)
    return out
