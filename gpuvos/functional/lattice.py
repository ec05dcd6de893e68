"""Gaussian filtering in the space of position and colour, over a permutohedral lattice."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gpuvos.errors import values_readable
from gpuvos.functional import plain
from gpuvos.kernels.backend import needs_plain
from gpuvos.kernels.lattice_filter import lattice_filter
from gpuvos.kernels.lattice_neighbors import lattice_neighbors
from gpuvos.kernels.permutohedral_lattice import permutohedral_lattice
from gpuvos.kernels.shapes import is_open

LARGEST_SIDE = 1 << 14  # rows and columns of frames that a program whose H and W are open takes
_ROUND = 1024  # points: kernels are compiled for sizes that divide well, not once more for every image


class Lattice(NamedTuple):
    """Lattice of the pixels of N frames; ``gpuvos.kernels.permutohedral_lattice`` describes the fields."""

    index: Tensor  # type: ignore[assignment]  # [N, d+1, P] int32
    weight: Tensor  # [N, d+1, P]
    order: Tensor  # [N (d+1) P] int32
    row: Tensor  # [N (d+1) P] int32
    first: Tensor  # [N + 1] int64
    neighbor: Tensor  # [2, d+1, M] int32


def image_features(image: Tensor, position_sigma: float, color_sigma: float) -> tuple[Tensor, list[float]]:
    """Position and colour of every pixel in standard deviations, and the largest value each can take.

    Args:
        image: ``[N, C, H, W]`` in grey levels of 0 to 255.
        position_sigma: standard deviation in pixels.
        color_sigma: standard deviation in grey levels.

    Returns:
        ``[N, 2 + C, H W]`` (x, y, then the colours) and 2 + C numbers.
    """
    n, channels, h, w = image.shape
    x = torch.arange(w, device=image.device, dtype=image.dtype).expand(h, w)
    y = torch.arange(h, device=image.device, dtype=image.dtype)[:, None].expand(h, w)
    position = (torch.stack((x, y)) / position_sigma).expand(n, -1, -1, -1)
    features = torch.cat((position, image / color_sigma), 1).flatten(2)
    if is_open(h, w):  # a traced program needs numbers: room for any frame it may see
        h = w = LARGEST_SIDE
    return features, [(w - 1) / position_sigma, (h - 1) / position_sigma] + [255 / color_sigma] * channels


def build_lattice(features: Tensor, extent: list[float], points: int | None) -> tuple[Lattice, Tensor]:
    """Builds the lattice of ``features [N, d, P]`` in ``[0, extent]``.

    Args:
        features: in units of the Gaussian's standard deviation.
        extent: the largest value of each feature.
        points: room for so many lattice points a frame; where absent they are counted (one number is read back from
            the device), or there is room for d + 1 a pixel where nothing can be read.

    Returns:
        The lattice, and ``[N]`` bool: frames that it has no room for.
    """
    index, weight, key, order, row, first = permutohedral_lattice(features.detach(), extent)
    if points is not None:
        capacity = min(points * features.shape[0], key.shape[0])
    elif values_readable(first):
        capacity = -(-int(first[-1].item()) // _ROUND) * _ROUND
    else:
        capacity = key.shape[0]
    neighbor = lattice_neighbors(key, extent, features.shape[0], capacity)
    if points is not None:
        index = index.clamp(max=capacity)
    return Lattice(index, weight, order, row, first, neighbor), first[1:] > capacity


def filter_values(values: Tensor, lattice: Lattice) -> Tensor:
    """Filters ``values [N, C, H, W]``; differentiable with respect to them."""
    flat = values.flatten(2)
    if needs_plain(flat, *lattice):
        filtered = plain.lattice_filter(flat, lattice.index, lattice.weight, lattice.neighbor)
    else:
        filtered = lattice_filter(flat, *lattice, False)
    return filtered.view(values.shape)
