"""Tracks of seeds, Eq. 9, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks


def link_tracks(embedding: Tensor, valid: Tensor, to_mean: bool) -> Tensor:
    """Extends a track from every seed of frame 0, frame by frame, by the most similar valid seed of the next frame.

    Ties go to the lowest number. A track ends before the first frame without a valid seed.

    Args:
        embedding: ``[N, T, K, D]`` of the seeds of N videos; half types are computed in float32.
        valid: ``[N, T, K]`` bool, which seeds exist.
        to_mean: similarity is that to the mean embedding of the track so far; otherwise, to the track's last seed.

    Returns:
        ``[N, T, K]`` int64: the seed of frame t in the track that began at seed k; -1 where the track has none.
    """
    n, t, k, d = embedding.shape
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    tracks = valid.new_full((n, t, k), -1, dtype=torch.int64)
    tracks[:, :1] = torch.arange(k, device=valid.device)
    for block in blocks(n, 64 * k * k):
        rows = embedding[block].to(dtype)
        total = rows[:, :1].squeeze(1)
        sought = total
        for frame in range(1, t):
            nearest = _nearest(sought, rows[:, frame], valid[block, frame])
            tracks[block, frame] = nearest
            sought = rows[:, frame].gather(1, nearest[..., None].expand(-1, -1, d))
            if to_mean:
                total = total + sought
                sought = total / (frame + 1)
    ended = (~valid.any(-1)).cumsum(-1) > 0
    return tracks.masked_fill_(ended[..., None] | ~valid[:, :1], -1)


def _nearest(sought: Tensor, rows: Tensor, valid: Tensor) -> Tensor:
    """Number of the valid row ``[N, K, D]`` nearest to each of ``sought`` ``[N, K, D]``.

    Products of matrices are quick but lose the digits of small distances, so they name the rows that may be nearest
    within their rounding, a few, and exact distances decide among these.
    """
    lengths = sought.square().sum(-1, keepdim=True) + rows.square().sum(-1)[:, None]
    rough = torch.baddbmm(lengths, sought, rows.mT, alpha=-2)
    error = lengths * ((sought.shape[-1] + 3) * torch.finfo(sought.dtype).eps)
    most = (rough + error).masked_fill_(~valid[:, None], torch.inf).amin(-1, keepdim=True)
    pairs = ((rough - error <= most) & valid[:, None]).nonzero(as_tuple=True)
    distance = torch.full_like(rough, torch.inf)
    distance[pairs] = (sought[pairs[0], pairs[1]] - rows[pairs[0], pairs[2]]).square_().sum(-1)
    return distance.argmin(-1)
