"""The differentiable ops in plain torch: what forward mode, the transforms of ``torch.func`` and ONNX see.

The fused ops of ``gpuvos.kernels`` take less memory and time, and have gradients of first and second order; torch knows
no forward mode of them. Each function here has the arguments and the result of the op of its name, up to rounding, and
changes nothing in place, so that it may be batched.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from gpuvos.kernels.logistic import logistic
from gpuvos.kernels.nearest_seeds import nearest_seeds


def _wide(*values: Tensor) -> torch.dtype:
    return torch.float64 if any(value.dtype == torch.float64 for value in values) else torch.float32


def grid_edges(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances ``[N, H, W-1]`` and ``[N, H-1, W]`` between neighbours of ``[N, D, H, W]``.

    Example:
        >>> grid_edges(torch.tensor([[[[0.0, 3.0]], [[0.0, 4.0]]]]))[0]
        tensor([[[25.]]])
    """
    e = embedding.to(_wide(embedding))
    return (e[..., 1:] - e[..., :-1]).square().sum(1), (e[..., 1:, :] - e[..., :-1, :]).square().sum(1)


def region_sum(values: Tensor, label: Tensor, num_regions: int) -> tuple[Tensor, Tensor]:
    """Sums ``[N, K, C]`` of ``values [N, C, P]`` over the labels ``[N, P]``, and their pixels ``[N, K]``.

    Example:
        >>> region_sum(torch.tensor([[[1.0, 3.0, 8.0]]]), torch.tensor([[0, 0, -1]]), 2)
        (tensor([[[4.],
                 [0.]]]), tensor([[2, 0]]))
    """
    dtype = _wide(values)
    outside = (label < 0) | (label >= num_regions)
    slot = label.masked_fill(outside, num_regions)  # [N, P]
    n, c, _ = values.shape
    places = slot[:, None].expand(-1, c, -1)
    total = values.new_zeros((n, c, num_regions + 1), dtype=dtype).scatter_add(2, places, values.to(dtype))
    count = label.new_zeros((n, num_regions + 1)).scatter_add(1, slot, torch.ones_like(slot))
    return total[:, :, :-1].transpose(1, 2), count[:, :-1]


def foreground_probability(
    embedding: Tensor, seed_embedding: Tensor, foreground: Tensor, background: Tensor, temperature: Tensor
) -> Tensor:
    """Probability ``[N, P]`` of ``embedding [N, D, P]`` from the nearest seeds ``[N, K, D]`` of two sets ``[N, K]``.

    The seeds are found by the op ``nearest_seeds``; their distances are taken here.

    Example:
        >>> e, seeds = torch.tensor([[[0.0, 0.5]]]), torch.tensor([[[0.0], [1.0]]])
        >>> yes = torch.tensor([[True, False]])
        >>> foreground_probability(e, seeds, yes, ~yes, torch.tensor(1.0))
        tensor([[0.6502, 0.5000]])
    """
    with torch.no_grad():
        _, _, nearest_fg, nearest_bg = nearest_seeds(
            embedding.detach(), seed_embedding.detach(), foreground, background
        )
    return probability_of_nearest(embedding, seed_embedding, nearest_fg, nearest_bg, temperature)


def probability_of_nearest(
    embedding: Tensor, seed_embedding: Tensor, nearest_fg: Tensor, nearest_bg: Tensor, temperature: Tensor
) -> Tensor:
    """Eq. 13-15 from the numbers ``[N, P]`` of the nearest seeds, -1 for none.

    Example:
        >>> e, seeds = torch.tensor([[[0.0, 0.5]]]), torch.tensor([[[0.0], [1.0]]])
        >>> nearest = torch.tensor([[0, 0]])
        >>> probability_of_nearest(e, seeds, nearest, nearest - 1, torch.tensor(1.0))
        tensor([[1., 1.]])
    """
    dtype = _wide(embedding)
    t = temperature.to(dtype)
    near, far = (_distance(embedding, seed_embedding, number, dtype) / t for number in (nearest_fg, nearest_bg))
    # softplus(far) - softplus(near), the large parts subtracted first
    gap = far - near + (-far).exp().log1p() - (-near).exp().log1p()
    return logistic(gap).masked_fill(nearest_bg < 0, 1).masked_fill(nearest_fg < 0, 0)


def _distance(embedding: Tensor, seed_embedding: Tensor, nearest: Tensor, dtype: torch.dtype) -> Tensor:
    """Squared distances ``[N, P]`` to the named seeds, to 0 where there is none."""
    padded = pad(seed_embedding.to(dtype).mT, (0, 1))  # [N, D, K + 1]
    slot = nearest.long().masked_fill(nearest < 0, seed_embedding.shape[1])[:, None]
    chosen = padded.gather(2, slot.expand(-1, embedding.shape[1], -1))
    return (embedding.to(dtype) - chosen).square().sum(1)


def gaussian_filter(values: Tensor, sigma: float, reach: int) -> Tensor:
    """Gaussian of grids ``[N, H, W]``, a convolution down the columns and one along the rows, zeros outside.

    Example:
        >>> gaussian_filter(torch.tensor([[[1.0, 0.0]]]), 1.0, 1)
        tensor([[[1.0000, 0.6065]]])
    """
    out = values.to(_wide(values))
    for axis in (1, 2):
        size = out.shape[axis]
        padded = pad(out, (reach, reach) if axis == 2 else (0, 0, reach, reach))
        for distance in range(1, reach + 1):
            tap = math.exp(-0.5 * (distance / sigma) ** 2)
            before, after = (padded.narrow(axis, reach + shift, size) for shift in (-distance, distance))
            out = out + tap * before + tap * after
    return out


def lattice_filter(values: Tensor, index: Tensor, weight: Tensor, neighbor: Tensor) -> Tensor:
    """Splat ``values [N, C, P]`` on a permutohedral lattice, blur along every axis, slice.

    Args:
        values: ``[N, C, P]``.
        index: ``[N, d+1, P]`` points of the lattice, M for none.
        weight: ``[N, d+1, P]`` of those.
        neighbor: ``[2, d+1, M]`` the points beside each.

    Returns:
        ``[N, C, P]``.

    Example:
        >>> one, alone = torch.ones(1, 1, 1), torch.ones(2, 1, 1, dtype=torch.int32)
        >>> lattice_filter(2 * one, (0 * one).int(), one, alone)
        tensor([[[2.]]])
    """
    dtype, capacity = _wide(values, weight), neighbor.shape[2]
    values, weight = values.to(dtype), weight.to(dtype)
    n, channels, p = values.shape
    share = weight[:, None] * values[:, :, None]  # [N, C, d+1, P]
    place = index.long()[:, None].expand(share.shape).transpose(0, 1).flatten(1)  # [C, N (d+1) P]
    point = values.new_zeros((channels, capacity + 1), dtype=dtype)
    point = point.scatter_add(1, place, share.transpose(0, 1).flatten(1))[:, :capacity]
    for axis in range(neighbor.shape[1]):
        padded = pad(point, (0, 1))  # the last: no point
        beside = [padded.index_select(1, neighbor[side, axis].long()) for side in (0, 1)]
        point = point + 0.5 * (beside[0] + beside[1])
    read = pad(point, (0, 1)).gather(1, place).view(channels, n, weight.shape[1], p).transpose(0, 1)
    return (weight[:, None] * read).sum(2)
