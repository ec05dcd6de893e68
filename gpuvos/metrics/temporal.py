"""Temporal stability T: how much the outline of a mask changes its shape from frame to frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from gpuvos.errors import fail
from gpuvos.metrics.contour import longest_polygon
from gpuvos.metrics.pair import check_mask
from gpuvos.metrics.warping import matching_cost

# The numbers are those of the official toolkit (davis-matlab, measures/t_stability.m); the paper names none.
_TOLERANCE = 1.5  # pixels of Douglas and Peucker; 3 there, in units of half a pixel
_SPACING = 3.0  # most pixels between the points of an outline
_SECTORS, _RINGS = 12, (2.0, 1.0, 0.5, 0.25, 0.125)  # of a shape context; rings end at so many mean distances
_FACTOR = 5.0  # brings T into the range of J and F

# Sequences of DAVIS-2016 of which the toolkit measures no T, for occlusions and the like: 27 of 50 are left.
DAVIS2016_OCCLUDED = frozenset(
    {
        "bmx-bumps",
        "bmx-trees",
        "breakdance",
        "breakdance-flare",
        "dance-twirl",
        "dog",
        "dog-agility",
        "drift-chicane",
        "goat",
        "horsejump-high",
        "horsejump-low",
        "libby",
        "lucia",
        "mallard-fly",
        "motocross-jump",
        "motorbike",
        "paragliding",
        "parkour",
        "rollerblade",
        "scooter-gray",
        "soccerball",
        "swing",
        "tennis",
    }
)

# Most points of an outline: the costs of two such take 130 MB. True masks of DAVIS train have up to 1,300.
_POINTS = 4096

# Costs of pairs of points kept at once: bounds the memory, roughly 20 bytes each.
_CPU_COSTS, _DEVICE_COSTS = 2**23, 2**26
# Costs computed at once: a few tables of this size should stay in a processor's cache.
_CPU_TILE, _DEVICE_TILE = 2**15, 2**24


def temporal_stability(mask: Tensor) -> Tensor:
    """Temporal stability T of DAVIS-2016 (Perazzi et al., CVPR 2016) from frame to frame; lower is better.

    The longest outline of each mask becomes a polygon with a point every 3 pixels or less, and each point p gets a
    shape context (Belongie et al., PAMI 2002), the histogram h_p of where the other points are, seen from it:
    12 sectors by 5 rings, in units of the mean distance between points. Points p and q of successive frames cost
    ``C(p, q) = 1/2 sum_k (h_p[k] - h_q[k])^2 / (h_p[k] + h_q[k])``, in [0, 1]. Dynamic time warping matches the
    outlines in order at the least total cost, twice: the second time it begins behind the cheapest pair of the first.
    Of all pairs of a point only the cheapest stays, and ``T = 5 * mean C`` over those.

    An object that moves without changing has T 0. The function follows the official toolkit of DAVIS in everything
    that decides a tie: where an outline begins, which way it turns where it meets itself at a corner of a pixel, how
    steps and angles are rounded. Known to differ: of more than 4,096 points of a very ragged outline only every n-th
    counts.

    Outlines are followed on the host; shape contexts, costs and matching are computed on the device of the mask.

    Args:
        mask: ``[..., T, H, W]`` bool or integer; every non-zero value is the object.

    Returns:
        ``[..., T - 1]`` float64, of frames t and t + 1; NaN where one of them has no outline (no object, or one of few
        pixels), which the protocol leaves out of the mean, as it does the sequences ``DAVIS2016_OCCLUDED``.

    Raises:
        InputError: if ``mask`` is floating point or has fewer than three dimensions.

    Example:
        >>> import torch
        >>> mask = torch.zeros(3, 60, 80, dtype=torch.bool)
        >>> mask[0, 10:34, 10:34] = mask[1, 12:36, 20:44] = mask[2, 12:36, 20:56] = True
        >>> moved, widened = temporal_stability(mask)
        >>> print(f"{moved:.2f} {widened:.2f}")
        0.00 0.36
    """
    check_mask("mask", mask)
    if mask.ndim < 3:
        raise fail("mask", f"shape {tuple(mask.shape)}", "masks of several frames, [..., T, H, W]")
    *leading, frames, height, width = mask.shape
    clips = (mask != 0).reshape(math.prod(leading), frames, height, width)
    stability = torch.full((len(clips), max(frames - 1, 0)), math.nan, dtype=torch.float64, device=mask.device)
    for clip, values in zip(clips, stability, strict=True):
        _measure(clip, values)
    return stability.reshape(*leading, max(frames - 1, 0))


def _measure(mask: Tensor, stability: Tensor) -> None:
    """Writes T of masks ``[T, H, W]`` into ``stability [T - 1]`` wherever there is an outline."""
    outlines = [_outline(frame) for frame in mask.cpu()]
    contexts = [shape_contexts(outline.to(mask.device)) for outline in outlines]
    for pairs in _batches([len(outline) for outline in outlines], mask.device):
        first, n = _padded([contexts[pair] for pair in pairs])
        second, m = _padded([contexts[pair + 1] for pair in pairs])
        cost = torch.stack([context_costs(one, two) for one, two in zip(first, second, strict=True)])
        stability[torch.tensor(pairs, device=mask.device)] = _FACTOR * matching_cost(cost, n, m)


def _outline(mask: Tensor) -> Tensor:
    """Points ``[N, 2]`` of the longest outline of a mask ``[H, W]``; of one with too many only every n-th."""
    points = longest_polygon(mask.numpy(), tolerance=_TOLERANCE, spacing=_SPACING)
    every = math.ceil(len(points) / _POINTS)
    return torch.from_numpy(points[:: max(every, 1)])


def _batches(counts: list[int], device: torch.device) -> Iterator[list[int]]:
    """Successive frames that have outlines, as many as fit at once, by the first of both."""
    limit = _CPU_COSTS if device.type == "cpu" else _DEVICE_COSTS
    batch: list[int] = []
    rows = columns = 0
    for pair, (one, two) in enumerate(pairwise(counts)):
        if one == 0 or two == 0:
            continue
        rows, columns = max(rows, one), max(columns, two)
        if batch and (len(batch) + 1) * rows * columns > limit:
            yield batch
            batch, rows, columns = [], one, two
        batch.append(pair)
    if batch:
        yield batch


def _padded(contexts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Histograms ``[P, N, K]`` of outlines of unequal length, and their numbers of points [P]."""
    counts = torch.tensor([len(context) for context in contexts], device=contexts[0].device)
    return torch.nn.utils.rnn.pad_sequence(contexts, batch_first=True), counts


def shape_contexts(points: Tensor) -> Tensor:
    """Shape contexts: where the points of an outline are, seen from each of them.

    A point counts for itself, in the first sector of the innermost ring. Sectors begin at the direction down the rows
    and turn towards the columns.

    Args:
        points: ``[N, 2]`` float64 (row, column).

    Returns:
        ``[N, 60]`` float64, sector by sector the five rings, the outermost first; each histogram sums to 1.
    """
    unit = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").mean()
    tile = max(1, _tile(points) // max(1, len(points)))
    count = torch.cat([_histograms(some, points, unit) for some in torch.split(points, tile)])
    return count / count.sum(1, keepdim=True)


def _histograms(centers: Tensor, points: Tensor, unit: Tensor) -> Tensor:
    """Counts ``[R, 60]`` of points ``[N, 2]`` in the bins around centers ``[R, 2]``; rings are in ``unit``."""
    row, column = (points[None, :, axis] - centers[:, None, axis] for axis in (0, 1))  # [R, N]
    distance = (row * row + column * column).sqrt()
    near = distance / unit
    ring = torch.full_like(near, -1, dtype=torch.int64)  # outside
    for edge in _RINGS:
        ring += near < edge
    turn = 2 * math.pi
    # Rounded as the toolkit does it: points on the axes lie on edges of sectors.
    angle = torch.atan2(column, row) + turn
    angle = torch.where(angle >= turn, angle - turn, angle)
    sector = (angle / (turn / _SECTORS)).floor().long().clamp_max(_SECTORS - 1)
    bins = _SECTORS * len(_RINGS)
    place = torch.where(ring >= 0, sector * len(_RINGS) + ring, bins)
    place += torch.arange(len(centers), device=points.device)[:, None] * (bins + 1)
    count = torch.bincount(place.flatten(), minlength=len(centers) * (bins + 1))
    return count.view(len(centers), bins + 1)[:, :-1].to(points.dtype)


def context_costs(first: Tensor, second: Tensor) -> Tensor:
    """Costs of matching points by their shape contexts, ``1/2 sum_k (g_k - h_k)^2 / (g_k + h_k)``.

    Args:
        first: ``[N, K]`` float, histograms g.
        second: ``[M, K]``, histograms h.

    Returns:
        ``[N, M]`` in [0, 1]; a bin that is empty in both counts 0.
    """
    columns = second.T.contiguous()  # [K, M]
    tiny = torch.finfo(first.dtype).eps
    parts = []
    for rows in torch.split(first, max(1, _tile(first) // max(1, len(second)))):
        part = rows.new_zeros(len(rows), len(second))
        # Bin by bin, so that the order of the sum is the same on every device.
        for mine, theirs in zip(rows.T[:, :, None], columns, strict=True):
            difference = mine - theirs
            part += difference.mul_(difference).div_((mine + tiny) + theirs)
        parts.append(part.mul_(0.5))
    return torch.cat(parts)


def _tile(values: Tensor) -> int:
    return _CPU_TILE if values.device.type == "cpu" else _DEVICE_TILE
