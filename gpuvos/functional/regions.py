"""Geodesic regions of the seeds in the embedding graph, and means over them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpuvos.errors import check_count, check_index, check_tensor, check_values, fail
from gpuvos.functional import plain
from gpuvos.functional.batch import merge_leading
from gpuvos.kernels import minimax_forest as minimax_op
from gpuvos.kernels import shortest_forest as shortest_op
from gpuvos.kernels.backend import needs_plain
from gpuvos.kernels.region_sum import region_sum
from gpuvos.types import EdgeWeights, Forest


def _check_graph(weights: EdgeWeights, index: Tensor, valid: Tensor, name: str = "index") -> None:
    if not isinstance(weights, tuple) or len(weights) != 2:
        raise fail(
            "weights",
            type(weights).__name__,
            "EdgeWeights(right, down)",
            "see gpuvos.functional.edge_weights",
        )
    sizes = check_tensor("weights.right", weights[0], "... H V")
    grid = {"U": sizes["H"] - 1, "W": sizes["V"] + 1}
    lead = weights[0].shape[:-2]
    check_tensor("weights.down", weights[1], "... U W", sizes=grid, leading=lead, like=weights[0])
    if weights[1].dtype != weights[0].dtype:
        raise fail("weights.down", str(weights[1].dtype), f"{weights[0].dtype}, that of weights.right")
    k = check_tensor(name, index, "... K", kind="int64", leading=lead, like=weights[0], filled=True)["K"]
    check_tensor("valid", valid, "... K", kind="bool", sizes={"K": k}, leading=lead, like=weights[0])
    if valid.device.type == "cpu":  # elsewhere a look at the values would wait for the device
        for side, value in zip(("weights.right", "weights.down"), weights, strict=True):
            check_values(side, value.detach(), low=0, infinite=True)
        check_index(name, index.masked_fill(~valid, 0), 0, sizes["H"] * grid["W"])


def _frames(weights: EdgeWeights, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    right, down = (merge_leading(value.detach(), 2) for value in weights)
    return right, down, merge_leading(index, 1), merge_leading(valid, 1)


def minimax_forest(weights: EdgeWeights, index: Tensor, valid: Tensor) -> Forest:
    """Regions by minimax geodesics: a pixel belongs to the seed that it reaches over the lowest largest edge.

    A minimum spanning forest rooted at the seeds (edges ordered by weight, then position) decides, so regions are
    connected and ties do not depend on the device. For any pixel p and seed t the minimax distance is
    ``max(distance[p], seed_distance[label[p], t])``, exactly.

    Args:
        weights: ``right [T, H, W-1]`` and ``down [T, H-1, W]``, non-negative (any leading dimensions).
        index: ``[T, K]`` int64 raster index of the seeds.
        valid: ``[T, K]`` bool.

    Returns:
        Forest(label, distance, seed_distance).

    Example:
        >>> w = EdgeWeights(torch.tensor([[[1.0, 5.0, 2.0]]]), torch.zeros(1, 0, 4))
        >>> forest = minimax_forest(w, torch.tensor([[0, 3]]), torch.ones(1, 2, dtype=torch.bool))
        >>> forest.label, forest.seed_distance[0, 0, 1]
        (tensor([[[0, 0, 1, 1]]]), tensor(5.))
    """
    _check_graph(weights, index, valid)
    lead = weights[0].shape[:-2]
    label, distance, seed_distance = minimax_op.minimax_forest(*_frames(weights, index, valid))
    grid = label.shape[1:]
    return Forest(
        label.reshape(*lead, *grid),
        distance.reshape(*lead, *grid),
        seed_distance.reshape(*lead, *seed_distance.shape[1:]),
    )


def shortest_forest(weights: EdgeWeights, index: Tensor, valid: Tensor) -> Forest:
    """Regions by additive shortest paths, the other reading of "shortest geodesic distance".

    Args:
        weights: the edge weights of the graph, see ``minimax_forest``.
        index: ``[T, K]`` int64.
        valid: ``[T, K]`` bool.

    Returns:
        Forest whose ``distance`` is the length of the shortest path to the own seed. ``seed_distance`` is the length
        of the shortest chain of region crossings between two seeds, an upper bound of their geodesic distance.

    Example:
        >>> w = EdgeWeights(torch.tensor([[[1.0, 5.0, 2.0]]]), torch.zeros(1, 0, 4))
        >>> shortest_forest(w, torch.tensor([[0, 3]]), torch.ones(1, 2, dtype=torch.bool)).distance
        tensor([[[0., 1., 2., 0.]]])
    """
    _check_graph(weights, index, valid)
    lead = weights[0].shape[:-2]
    right, down, seeds, exists = _frames(weights, index, valid)
    label, distance, _ = shortest_op.shortest_forest(right, down, seeds, exists)
    seed_distance = _chain_lengths(right, down, label, distance, exists)
    grid = label.shape[1:]
    return Forest(
        label.reshape(*lead, *grid),
        distance.reshape(*lead, *grid),
        seed_distance.reshape(*lead, *seed_distance.shape[1:]),
    )


def _chain_lengths(right: Tensor, down: Tensor, label: Tensor, distance: Tensor, valid: Tensor) -> Tensor:
    n, k = valid.shape
    table = distance.new_full((n, k * k + 1), torch.inf)  # the last slot takes what is no crossing
    crossings = (
        (label[:, :, :-1], label[:, :, 1:], distance[:, :, :-1] + right + distance[:, :, 1:]),
        (label[:, :-1], label[:, 1:], distance[:, :-1] + down + distance[:, 1:]),
    )
    for one, two, length in crossings:
        crossing = (one != two) & (one >= 0) & (two >= 0)
        for first, second in ((one, two), (two, one)):
            slot = torch.where(crossing, first * k + second, k * k).flatten(1)
            table = table.scatter_reduce(1, slot, length.flatten(1), "amin")
    table = table[:, :-1].reshape(n, k, k)
    own = torch.eye(k, dtype=torch.bool, device=label.device) & valid[:, :, None]
    table = table.masked_fill(own, 0)
    for step in range(k):
        table = torch.minimum(table, table[:, :, step, None] + table[:, step, None, :])
    return table


def largest_edges(weights: EdgeWeights, source: Tensor, valid: Tensor) -> Tensor:
    """Largest edge on the additive shortest path from each source to each pixel.

    Args:
        weights: the edge weights of the graph, see ``minimax_forest``.
        source: ``[T, S]`` int64 raster indices.
        valid: ``[T, S]`` bool.

    Returns:
        ``[T, S, H, W]``; inf where the source is invalid.

    Example:
        >>> w = EdgeWeights(torch.tensor([[[1.0, 5.0, 2.0]]]), torch.zeros(1, 0, 4))
        >>> largest_edges(w, torch.tensor([[0]]), torch.ones(1, 1, dtype=torch.bool))
        tensor([[[[0., 1., 5., 5.]]]])
    """
    _check_graph(weights, source, valid, "source")
    lead, count = weights[0].shape[:-2], source.shape[-1]
    right, down, index, exists = _frames(weights, source, valid)
    right, down = right.repeat_interleave(count, 0), down.repeat_interleave(count, 0)
    largest: Tensor = shortest_op.shortest_forest(right, down, index.reshape(-1, 1), exists.reshape(-1, 1))[2]
    return largest.reshape(*lead, count, *largest.shape[1:])


def region_mean(values: Tensor, label: Tensor, num_regions: int) -> Tensor:
    """Mean of ``values`` over the pixels of each region; 0 for an empty region.

    Args:
        values: ``[T, C, H, W]`` (any leading dimensions).
        label: ``[T, H, W]`` int64; pixels outside of ``[0, num_regions)`` are left out.
        num_regions: the number of regions, K.

    Returns:
        ``[T, K, C]``.

    Example:
        >>> region_mean(torch.tensor([[[[1.0, 3.0, 8.0]]]]), torch.tensor([[[0, 0, 1]]]), 2).flatten()
        tensor([2., 8.])
    """
    return region_means((values,), label, num_regions)[0]


def region_means(values: Sequence[Tensor], label: Tensor, num_regions: int) -> list[Tensor]:
    """``region_mean`` of one to three tensors over the same regions, whose labels are read once for all of them.

    Args:
        values: tensors ``[T, C, H, W]`` (any leading dimensions), each with channels of its own.
        label: ``[T, H, W]`` int64, as of ``region_mean``.
        num_regions: the number of regions, K.

    Returns:
        ``[T, K, C]`` for each of the tensors.

    Example:
        >>> label = torch.tensor([[[0, 0, 1]]])
        >>> mean, double = region_means((torch.ones(1, 1, 1, 3), 2 * torch.ones(1, 2, 1, 3)), label, 2)
        >>> mean.flatten(), double.shape
        (tensor([1., 1.]), torch.Size([1, 2, 2]))
    """
    sizes = [check_tensor("values", value, "... C H W", filled=True) for value in values]
    for value, size in zip(values, sizes, strict=True):
        grid = {"H": size["H"], "W": size["W"]}
        check_tensor("label", label, "... H W", kind="int64", sizes=grid, leading=value.shape[:-3], like=value)
    check_count("num_regions", num_regions)
    flat, regions = [merge_leading(value.flatten(-2), 2) for value in values], merge_leading(label.flatten(-2), 1)
    if len({value.dtype for value in values}) == 1 and not needs_plain(*flat, regions):
        first, *more = flat
        total, count = region_sum(first, regions, num_regions, sizes[0]["W"], *more)
        sums = [(part, count) for part in torch.split(total, [size["C"] for size in sizes], -1)]
    else:
        sums = [sum_regions(value, regions, num_regions, width=sizes[0]["W"]) for value in flat]
    means = [total / count.clamp(min=1)[..., None] for total, count in sums]
    return [mean.reshape(*value.shape[:-3], *mean.shape[-2:]) for mean, value in zip(means, values, strict=True)]


def sum_regions(values: Tensor, label: Tensor, num_regions: int, *, width: int = 0) -> tuple[Tensor, Tensor]:
    """Sums ``[N, K, C]`` of ``values [N, C, P]`` over the labels ``[N, P]``, and the pixels ``[N, K]`` of each.

    ``width`` is that of the image, where P are its pixels: kernels then sum in squares, which is quicker.

    Example:
        >>> sum_regions(torch.tensor([[[1.0, 3.0, 8.0]]]), torch.tensor([[0, 0, 1]]), 2)[0].flatten()
        tensor([4., 8.])
    """
    if needs_plain(values, label):
        return plain.region_sum(values, label, num_regions)
    return region_sum(values, label, num_regions, width)
