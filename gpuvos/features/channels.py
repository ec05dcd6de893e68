"""Channels that front ends add to an embedding: position in the frame, and motion."""

from __future__ import annotations

import torch
from torch import Tensor


def position(like: Tensor) -> Tensor:
    """Coordinates of the grid, [-1, 1] along the longer side, ``[T, 2, H, W]`` for anything ``[T, C, H, W]``."""
    t, _, h, w = like.shape
    longer = max(h, w, 2) - 1
    y = (torch.arange(h, dtype=like.dtype, device=like.device) * 2 - (h - 1)) / longer
    x = (torch.arange(w, dtype=like.dtype, device=like.device) * 2 - (w - 1)) / longer
    return torch.stack((x.expand(h, w), y[:, None].expand(h, w))).expand(t, 2, h, w)


def squash(flow: Tensor) -> Tensor:
    """Shortens motion vectors ``[T, 2, H, W]`` to less than 1, relative to the typical length in the frame."""
    length: Tensor = flow.norm(dim=1, keepdim=True)
    typical: Tensor = length.flatten(1).mean(1)[:, None, None, None].clamp(min=0.25)
    return flow / (length + 2 * typical)


def grid_stride(h: int, w: int) -> int:
    """Pixels of the image per pixel of the grid.

    4, and less for frames whose shorter side would have fewer than 48 pixels on the grid, where small objects fall
    between the candidates.
    """
    return min(4, max(1, min(h, w) // 48))
