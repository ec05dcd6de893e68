"""The embedding graph, the edge map (Eq. 4) and the candidate points (Eq. 5)."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.config import Reduce
from gpuvos.errors import check_choice, check_count, check_tensor, fail
from gpuvos.functional import plain
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.similarity import check_temperature
from gpuvos.kernels.backend import needs_plain
from gpuvos.kernels.edge_candidates import dissimilarity, edge_candidates, is_window_minimum, reduce_edges
from gpuvos.kernels.grid_edges import grid_edges
from gpuvos.types import EdgeWeights


def _squared_edges(embedding: Tensor) -> EdgeWeights:
    check_tensor("embedding", embedding, "... D H W", filled=True)
    lead = embedding.shape[:-3]
    flat = merge_leading(embedding, 3)
    right, down = plain.grid_edges(flat) if needs_plain(flat) else grid_edges(flat)
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


def embedding_graph(
    embedding: Tensor, *, reduce: Reduce = "max", temperature: float | Tensor = 1.0, window: int = 9
) -> tuple[EdgeWeights, Tensor]:
    """Edge weights, and candidate points by Eq. 4-5, from one read of the embedding; without a gradient.

    What ``edge_weights`` and ``candidate_mask`` of the edge map give. With ``max`` the order of the map is that of the
    squared distance itself, which does not saturate as ``1 - R`` does.

    Args:
        embedding: ``[T, D, H, W]`` (any leading dimensions).
        reduce: how neighbours are combined, see ``edge_map``.
        temperature: see ``edge_map``; it only matters with ``reduce="mean"``.
        window: side of the window of Eq. 5, see ``candidate_mask``.

    Returns:
        EdgeWeights and candidates ``[T, H, W]`` bool.

    Example:
        >>> weights, candidates = embedding_graph(torch.tensor([[[[0.0, 2.0, 3.0]]]]), window=3)
        >>> weights.right, candidates
        (tensor([[[2., 1.]]]), tensor([[[ True, False,  True]]]))
    """
    _check_map_options(reduce, temperature)
    _check_window(window)
    right, down = (value.detach() for value in _squared_edges(embedding))
    across, along = merge_leading(right, 2), merge_leading(down, 2)
    if isinstance(temperature, Tensor):  # it is not looked at, so the distances are divided here
        if reduce == "mean":
            across, along = across / temperature.detach(), along / temperature.detach()
        temperature = 1.0
    flat = edge_candidates(across, along, window, reduce, float(temperature))
    return EdgeWeights(right.sqrt(), down.sqrt()), flat.reshape(*right.shape[:-1], down.shape[-1])


def edge_map(
    embedding: Tensor,
    *,
    reduce: Reduce = "max",
    temperature: float | Tensor = 1.0,
    squared_distance: bool = False,
) -> Tensor:
    """Edge map ``c(p) = max over neighbours q of (1 - R(p, q))``, Eq. 4, with ``1 - R = tanh(d2 / 2)``.

    Args:
        embedding: ``[T, D, H, W]`` (any leading dimensions).
        reduce: ``max`` or ``mean`` over the neighbours that exist.
        temperature: the number by which squared distances are divided before Eq. 1.
        squared_distance: give the largest (or mean) ``d2`` itself. ``tanh`` is 1 in float32 from ``d2`` = 18 on, so
            large distances tie in the map; their order is kept here.

    Returns:
        ``[T, H, W]``; 0 on a grid of one pixel.

    Example:
        >>> edge_map(torch.tensor([[[[0.0, 0.0, 1.0]]]]), squared_distance=True)
        tensor([[[0., 1., 1.]]])
    """
    _check_map_options(reduce, temperature)
    right, down = _squared_edges(embedding)
    if squared_distance:
        return reduce_edges(right, down, reduce)
    if reduce == "max":
        return dissimilarity(reduce_edges(right, down, reduce), temperature)
    return reduce_edges(dissimilarity(right, temperature), dissimilarity(down, temperature), reduce)


def _check_map_options(reduce: Reduce, temperature: float | Tensor) -> None:
    check_choice("reduce", reduce, ("max", "mean"))
    check_temperature(temperature)


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
    check_tensor("edge_map", edge_map, "... H W", filled=True)
    _check_window(window)
    return is_window_minimum(edge_map, window)


def _check_window(window: int) -> None:
    check_count("window", window)
    if window % 2 == 0:
        raise fail("window", str(window), "a positive odd number")
