"""Coarse-to-fine variational optical flow on pyramids of grey images.

The flow u from image I to image J minimises the energy of Brox et al. (2004) with normalised constraints::

    sum_p sum_c k_c psi(n_c (J_c(p + u_p) - I_c(p))^2)  +  smoothness * sum_pq e_pq psi(|u_p - u_q|^2)

c runs over brightness and its two derivatives; n_c = 1 / (|grad I_c|^2 + noise^2) turns a difference of
values into a distance in pixels; psi(s) = 2 sqrt(s + eps^2); e_pq = exp(-edge |I_p - I_q|) lets the flow
break at image edges. Every level of the pyramid warps and relinearises a fixed number of times; each linear
system is solved by block Jacobi steps with Chebyshev acceleration; a 3 x 3 median takes out pixels that went
astray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gpuvos.errors import check_count, check_positive, fail

_COARSEST = 6  # pixels: below it the shorter side is not halved any more
_FILLS_CACHE = 1 << 14  # pixels from which on a CPU is quicker with one pair at a time: some 20 maps of them
_TIE = 1e-6  # holds a pixel with neither data nor neighbours (a 1 x 1 image) where it is


@dataclass(frozen=True, kw_only=True)
class FlowParameters:
    """Parameters of the weight-free flow.

    Raises:
        InputError: one of them is out of its range.

    Example:
        >>> FlowParameters(scale=1.0).steps
        10
    """

    scale: float = 0.5
    """Finest level relative to the image, in (0, 1]. 0.5 takes a quarter of the time of 1."""
    smoothness: float = 0.2
    """Weight of the smoothness term."""
    brightness: float = 0.15
    """Weight of brightness constancy; that of gradient constancy is 1."""
    noise: float = 0.07
    """Image gradients (intensity a pixel, intensities in [0, 1]) well below it tie the flow little."""
    edge: float = 10.0
    """How strongly an image edge lets the flow break; 0 ignores edges."""
    data_eps: float = 0.005
    """Width, in pixels, of the quadratic part of the robust data term."""
    smooth_eps: float = 0.03
    """The same of the robust smoothness term, in pixels of flow a pixel."""
    warps: int = 5
    """Linearisations a level, but for the finest."""
    finest_warps: int = 5
    """Linearisations on the finest level, which has three quarters of all pixels. A pyramid of a single level has
    ``warps``."""
    steps: int = 10
    """Solver steps a linearisation."""

    def __post_init__(self) -> None:
        for name in ("scale", "noise", "data_eps", "smooth_eps"):
            check_positive(name, getattr(self, name))
        for name in ("smoothness", "brightness", "edge"):
            check_positive(name, getattr(self, name), zero=True)
        for name in ("warps", "finest_warps", "steps"):
            check_count(name, getattr(self, name))
        if self.scale > 1:
            raise fail("scale", repr(self.scale), "a number in (0, 1]")


FOR_NETWORKS = FlowParameters(finest_warps=1)
"""What the bundled front ends take, in half the time: they average the flow over 2 x 2 pixels of the finest level or
more, and networks tell them where outlines are."""


def gradient(values: Tensor) -> tuple[Tensor, Tensor]:
    """Fourth-order central differences along x and y, borders repeated, each of the shape of ``values``."""
    x = F.pad(values, (2, 2, 0, 0), mode="replicate")
    y = F.pad(values, (0, 0, 2, 2), mode="replicate")
    along_x = torch.sub(x[..., 3:-1], x[..., 1:-3]).mul_(2 / 3)
    along_x.add_(x[..., 4:], alpha=-1 / 12).add_(x[..., :-4], alpha=1 / 12)
    along_y = torch.sub(y[..., 3:-1, :], y[..., 1:-3, :]).mul_(2 / 3)
    along_y.add_(y[..., 4:, :], alpha=-1 / 12).add_(y[..., :-4, :], alpha=1 / 12)
    return along_x, along_y


def warp(image: Tensor, flow: Tensor, *, mode: str = "bilinear", margin: float = 0.0) -> tuple[Tensor, Tensor]:
    """Samples ``image`` ``[N, C, H, W]`` at p + flow(p), borders repeated.

    Returns:
        The warped image ``[N, C, H, W]`` and a bool mask ``[N, 1, H, W]`` of the pixels whose sample lies at most
        ``margin`` pixels outside of the outermost pixels' centres.
    """
    height, width = image.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype) + flow[:, 0]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + flow[:, 1]
    inside = (x >= -margin) & (x <= width - 1 + margin) & (y >= -margin) & (y <= height - 1 + margin)
    grid = torch.stack((x.mul_(2 / max(width - 1, 1)).sub_(1), y.mul_(2 / max(height - 1, 1)).sub_(1)), dim=-1)
    return F.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=True), inside[:, None]


def median3(values: Tensor, *, dilation: int = 1) -> Tensor:
    """Median of the 3 x 3 values ``dilation`` apart, borders repeated.

    With sorted columns, which neighbouring windows share, it is the median of the largest low, the median middle and
    the smallest high value: of the other six, three are not above it and three not below.
    """
    padded = F.pad(values, (dilation,) * 4, mode="replicate")
    rows, columns = padded.shape[-2] - 2 * dilation, padded.shape[-1] - 2 * dilation
    low, middle, high = _sorted3(*(padded.narrow(-2, i * dilation, rows) for i in range(3)))
    lows, middles, highs = (
        [value.narrow(-1, i * dilation, columns) for i in range(3)] for value in (low, middle, high)
    )
    largest_low = torch.maximum(torch.maximum(lows[0], lows[1]), lows[2])
    smallest_high = torch.minimum(torch.minimum(highs[0], highs[1]), highs[2])
    return _median_of_three(largest_low, _median_of_three(*middles), smallest_high)


def _sorted3(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three values of every place in ascending order."""
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    b, c = torch.minimum(b, c), torch.maximum(b, c)
    return torch.minimum(a, b), torch.maximum(a, b), c


def _median_of_three(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def resize(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes ``[N, C, H, W]`` bilinearly, low-passed where it shrinks."""
    if tuple(values.shape[-2:]) == size:
        return values
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=True)


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes a flow ``[N, 2, H, W]`` and rescales its vectors to pixels of the new size."""
    height, width = flow.shape[-2:]
    if (height, width) == size:
        return flow
    resized = F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
    resized[:, 0] *= size[1] / width
    resized[:, 1] *= size[0] / height
    return resized


def pyramid(grey: Tensor, *, scale: float) -> list[Tensor]:
    """Halves ``[N, 1, H, W]``, first reduced by ``scale``, as long as it stays large enough; finest first."""
    height, width = (max(1, round(side * scale)) for side in grey.shape[-2:])
    levels = [resize(grey, (height, width))]
    while min(height, width) >= 2 * _COARSEST:
        height, width = (height + 1) // 2, (width + 1) // 2
        levels.append(resize(levels[-1], (height, width)))
    return levels


def coarse_to_fine(first: list[Tensor], second: list[Tensor], parameters: FlowParameters) -> Tensor:
    """Flow ``[N, 2, h, w]``, in pixels of the finest level, between two pyramids of images ``[N, 1, h, w]``."""
    flow = first[-1].new_zeros(()).expand(first[-1].shape[0], 2, *first[-1].shape[-2:])
    for number in reversed(range(len(first))):
        source, target = first[number], second[number]
        warps = parameters.warps if number or len(first) == 1 else parameters.finest_warps
        height, width = source.shape[-2:]
        flow = resize_flow(flow, (height, width))
        alone = source.device.type == "cpu" and height * width >= _FILLS_CACHE
        parts = [torch.split(value, 1) if alone else (value,) for value in (source, target, flow)]
        flow = torch.cat([_level(a, b, start, warps, parameters) for a, b, start in zip(*parts, strict=True)])
    return flow


def _level(source: Tensor, target: Tensor, flow: Tensor, warps: int, parameters: FlowParameters) -> Tensor:
    """One level of the pyramid: flow ``[N, 2, h, w]`` between images ``[N, 1, h, w]``, from one to begin with."""
    edges = tuple(
        torch.exp(-parameters.edge * torch.diff(source, dim=dim).abs()).mul_(0.5 * parameters.smoothness)
        for dim in (-1, -2)
    )
    for _ in range(warps):
        flow = median3(_refine(source, target, flow, edges, parameters))
    # a wider one, once a level, keeps small wrong regions from growing on the way to finer levels
    return median3(median3(flow, dilation=2))


def _refine(
    source: Tensor, target: Tensor, flow: Tensor, edges: tuple[Tensor, ...], parameters: FlowParameters
) -> Tensor:
    """One linearisation around ``flow`` and the solution of its linear system."""
    a11, a12, a22, b = _data_term(source, target, flow, parameters)
    right, down = _smoothness_weights(flow, edges, parameters)
    total = F.pad(right, (0, 1)).add_(_TIE)
    total[..., 1:] += right
    total[..., :-1, :] += down
    total[..., 1:, :] += down
    b[:, :1].addcmul_(a11, flow[:, :1]).addcmul_(a12, flow[:, 1:])
    b[:, 1:].addcmul_(a12, flow[:, :1]).addcmul_(a22, flow[:, 1:])
    b.add_(flow, alpha=_TIE)
    a11 += total
    a22 += total
    scale = (a11 * a22).addcmul_(a12, a12, value=-1).reciprocal_()
    diagonal = torch.cat((a22, a11), dim=1).mul_(scale)
    return _solve(flow, b, diagonal, a12.mul_(scale).neg_(), right, down, parameters.steps)


def _data_term(
    source: Tensor, target: Tensor, flow: Tensor, parameters: FlowParameters
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The linearised data term's 2 x 2 system: a11, a12, a22 ``[N, 1, H, W]``, right-hand side ``[N, 2, H, W]``."""
    warped, inside = warp(target, flow, mode="bicubic")
    difference = warped - source
    both = torch.cat((torch.lerp(source, warped, 0.5), difference), dim=1)
    both_x, both_y = gradient(both)
    mean_x, difference_x = both_x[:, :1], both_x[:, 1:]
    mean_y, difference_y = both_y[:, :1], both_y[:, 1:]
    (xx, xy), (_, yy) = gradient(mean_x), gradient(mean_y)
    row_x = torch.cat((mean_x, xx, xy), dim=1)
    row_y = torch.cat((mean_y, xy, yy), dim=1)
    residual = torch.cat((difference, difference_x, difference_y), dim=1)
    normal = (row_x * row_x).addcmul_(row_y, row_y).add_(parameters.noise**2).reciprocal_()
    weight = (residual * residual).mul_(normal).add_(parameters.data_eps**2).rsqrt_().mul_(normal).mul_(inside)
    weight[:, 0] *= parameters.brightness
    weighted_x, weighted_y = weight * row_x, weight.mul_(row_y)
    right_side = torch.cat(
        ((weighted_x * residual).sum(1, keepdim=True), (weighted_y * residual).sum(1, keepdim=True)), dim=1
    )
    a12 = (weighted_x * row_y).sum(1, keepdim=True)
    a11 = weighted_x.mul_(row_x).sum(1, keepdim=True)
    a22 = weighted_y.mul_(row_y).sum(1, keepdim=True)
    return a11, a12, a22, right_side.neg_()


def _smoothness_weights(flow: Tensor, edges: tuple[Tensor, ...], parameters: FlowParameters) -> tuple[Tensor, Tensor]:
    """Diffusivities between neighbours, ``[N, 1, H, W-1]`` and ``[N, 1, H-1, W]``."""
    x = torch.diff(flow, dim=-1).square_().sum(1, keepdim=True)
    y = torch.diff(flow, dim=-2).square_().sum(1, keepdim=True)
    # |grad u|^2 of a pixel: the mean of the squared differences on both sides of it, along each axis
    squared = F.pad(x, (0, 1))
    squared[..., 1:] += x
    squared[..., :-1, :] += y
    squared[..., 1:, :] += y
    diffusivity = squared.mul_(0.5).add_(parameters.smooth_eps**2).rsqrt_()
    right = (diffusivity[..., 1:] + diffusivity[..., :-1]).mul_(edges[0])
    down = (diffusivity[..., 1:, :] + diffusivity[..., :-1, :]).mul_(edges[1])
    return right, down


def _solve(
    flow: Tensor, b: Tensor, diagonal: Tensor, off_diagonal: Tensor, right: Tensor, down: Tensor, steps: int
) -> Tensor:
    """Chebyshev-accelerated block Jacobi: u <- M (b + sum of weighted neighbours), M given by its entries."""
    radius = 0.98  # bound on the spectral radius that the acceleration assumes; a safe one for few steps
    before = now = _views(flow.contiguous())
    total, *room = (_views(torch.empty_like(b)) for _ in range(4))
    first, others = b[..., :1], b[..., 1:]
    omega = 1.0
    for step in range(steps):
        total.first_column.copy_(first)
        torch.addcmul(others, right, now.to_column, out=total.from_column)
        total.to_column.addcmul_(right, now.from_column)
        total.from_row.addcmul_(down, now.to_row)
        total.to_row.addcmul_(down, now.from_row)
        after = room[step % 3]
        torch.mul(diagonal, total.all, out=after.all)
        after.x.addcmul_(off_diagonal, total.y)
        after.y.addcmul_(off_diagonal, total.x)
        if step:
            omega = 2 / (2 - radius**2) if step == 1 else 1 / (1 - radius**2 * omega / 4)
            torch.lerp(before.all, after.all, omega, out=after.all)
        before, now = now, after
    return now.all


class _Views(NamedTuple):
    """A flow ``[N, 2, H, W]`` and the parts that the solver works on; making one takes as long as a small sum."""

    all: Tensor
    first_column: Tensor
    from_column: Tensor  # from the second on, and so on
    to_column: Tensor
    from_row: Tensor
    to_row: Tensor
    x: Tensor
    y: Tensor


def _views(t: Tensor) -> _Views:
    return _Views(t, t[..., :1], t[..., 1:], t[..., :-1], t[..., 1:, :], t[..., :-1, :], t[:, :1], t[:, 1:])
