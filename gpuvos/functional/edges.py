"""The embedding graph, the edge map (Eq. 4) and the candidate points (Eq. 5)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from gpuvos.errors import check_choice, check_positive, check_tensor, fail
from gpuvos.functional.batch import merge_leading
from gpuvos.kernels.grid_edges import grid_edges
from gpuvos.types import EdgeWeights


def _squared_edges(embedding: Tensor) -> EdgeWeights:
    check_tensor("embedding", embedding, "... D H W")
    lead = embedding.shape[:-3]
    right, down = grid_edges(merge_leading(embedding, 3))
    return EdgeWeights(right.reshape(*lead, *right.shape[1:]), down.reshape(*lead, *down.shape[1:]))


def edge_weights(embedding: Tensor) -> EdgeWeights:
    """Weights of the embedding graph: ``w_pq = ||e_p - e_q||`` between 4-neighbours.

    Args:
        embedding: ``[T, D, H, W]`` (any leading dimensions); half types are computed in float32.

    Returns:
        ``right [T, H, W-1]`` and ``down [T, H-1, W]``.

    Example:
        >>> edge_weights(torch.tensor([[[[0.0, 3.0]], [[0.0, 4.0]]]])).right
        tensor([[[5.]]])
    """
    squared = _squared_edges(embedding)
    return EdgeWeights(*(_safe_sqrt(value) for value in squared))


def _safe_sqrt(value: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite."""
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, 1).sqrt(), 0)


def edge_map(
    embedding: Tensor, *, reduce: str = "max", temperature: float = 1.0, squared_distance: bool = False
) -> Tensor:
    """Edge map ``c(p) = max over neighbours q of (1 - R(p, q))``, Eq. 4, with ``1 - R = tanh(d2 / 2)``.

    Args:
        embedding: ``[T, D, H, W]`` (any leading dimensions).
        reduce: ``max`` or ``mean`` over the neighbours that exist.
        temperature: what squared distances are divided by before Eq. 1.
        squared_distance: give the largest (or mean) ``d2`` itself. ``tanh`` is 1 in float32 from ``d2`` = 18 on, so
            large distances tie in the map; their order is kept here.

    Returns:
        ``[T, H, W]``; 0 on a grid of one pixel.

    Example:
        >>> edge_map(torch.tensor([[[[0.0, 0.0, 1.0]]]]), squared_distance=True)
        tensor([[[0., 1., 1.]]])
    """
    check_choice("reduce", reduce, ("max", "mean"))
    check_positive("temperature", temperature)
    right, down = _squared_edges(embedding)
    if not squared_distance and reduce == "mean":
        right, down = torch.tanh(right / (2 * temperature)), torch.tanh(down / (2 * temperature))
    sides = torch.stack(
        (pad(right, (0, 1)), pad(right, (1, 0)), pad(down, (0, 0, 0, 1)), pad(down, (0, 0, 1, 0)))
    )
    if reduce == "mean":
        h, w = sides.shape[-2:]
        across = torch.arange(w, device=sides.device)
        along = torch.arange(h, device=sides.device)
        count = ((across > 0).int() + (across < w - 1).int()) + ((along > 0).int() + (along < h - 1).int())[
            :, None
        ]
        return sides.sum(0) / count.clamp(min=1)
    largest = sides.amax(0)
    return largest if squared_distance else torch.tanh(largest / (2 * temperature))


def candidate_mask(edge_map: Tensor, *, window: int = 9) -> Tensor:
    """Candidate points: pixels whose edge value is the minimum of the window centred on them, Eq. 5.

    Every pixel of a flat minimum is a candidate, so a frame always has at least one.

    Args:
        edge_map: ``[T, H, W]`` (any leading dimensions).
        window: n, an odd side length in pixels; the window is cut at the border.

    Returns:
        ``[T, H, W]`` bool.

    Example:
        >>> candidate_mask(torch.tensor([[[3.0, 1.0, 2.0, 0.0]]]), window=3)
        tensor([[[False,  True, False,  True]]])
    """
    check_tensor("edge_map", edge_map, "... H W")
    if window < 1 or window % 2 == 0:
        raise fail("window", str(window), "a positive odd number")
    flat = merge_leading(edge_map, 2)[:, None]
    smallest = -max_pool2d(-flat, (1, window), stride=1, padding=(0, window // 2))
    smallest = -max_pool2d(-smallest, (window, 1), stride=1, padding=(window // 2, 0))
    return (flat == smallest).reshape(edge_map.shape)
