"""Fully connected conditional random field by mean field, at the resolution of the image."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from gpuvos.errors import (
    check_count,
    check_positive,
    check_probability_and_image,
    check_tensor,
    check_values,
    fail,
)
from gpuvos.functional import plain
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.lattice import LARGEST_SIDE, Lattice, build_lattice, filter_values, image_features
from gpuvos.functional.precision import full_precision
from gpuvos.kernels.backend import needs_plain
from gpuvos.kernels.blocks import blocks
from gpuvos.kernels.gaussian_filter import gaussian_filter
from gpuvos.kernels.logistic import logistic
from gpuvos.kernels.packing import MAX_BITS, MAX_FEATURES, key_bits
from gpuvos.kernels.shapes import is_open

_BYTES_A_CORNER = 100  # of a pixel's simplex, at the peak of building the lattice
_CPU_BUDGET, _DEVICE_BUDGET = 256 << 20, 4 << 30
_FRAME_BITS = 10  # of a lattice key; no block has more frames
_REACH = 5.0  # standard deviations at which the smoothness kernel, then 4e-6, ends


@full_precision
def dense_crf(
    probability: Tensor,
    image: Tensor,
    *,
    iterations: int = 10,
    appearance_weight: float = 4.0,
    appearance_sigma: float = 67.0,
    color_sigma: float = 3.0,
    smoothness_weight: float = 3.0,
    smoothness_sigma: float = 1.0,
    clip: float = 1e-5,
    subsample: int = 1,
    mask: Tensor | None = None,
    lattice_points: int | None = None,
    validate: bool = True,
) -> Tensor:
    """Refines foreground probabilities by a dense CRF over background and foreground, with unaries ``-log P``.

    ``dense_crf_marginals`` says what is computed; the defaults are DeepLab's for PASCAL VOC. Differentiable with
    respect to ``probability`` where it lies inside ``[clip, 1 - clip]``.

    Args:
        probability: ``[T, H, W]`` in [0, 1] (any leading dimensions), at the resolution of the image.
        image: ``[T, C, H, W]`` uint8 or floating point in [0, 1]; usually C = 3.
        iterations: mean-field updates.
        appearance_weight: weight of the kernel of position and colour; 0 leaves the kernel out.
        appearance_sigma: its standard deviation in pixels.
        color_sigma: its standard deviation in grey levels of 0 to 255.
        smoothness_weight: weight of the kernel of position alone; 0 leaves the kernel out.
        smoothness_sigma: its standard deviation in pixels.
        clip: least probability of either label, so that a 0 or a 1 can be changed.
        subsample: pixels of the image per pixel of the field. Above 1, probability and image are means over squares of
            so many pixels (the mask left out), the standard deviations still count in pixels of the image, and what
            comes out is resampled bilinearly: with 2 an outline is as good, in a quarter of the time.
        mask: ``[T, H, W]`` bool, pixels to leave alone.
        lattice_points: room in the lattice, see ``dense_crf_marginals``.
        validate: look for NaN and values out of range; it reads back from the device.

    Returns:
        Probability ``[T, H, W]`` of the foreground; float64 where ``probability`` is, else float32.

    Raises:
        InputError: a shape, dtype, device or value does not fit.

    Example:
        >>> image = torch.zeros(1, 3, 8, 8)
        >>> image[..., 4:] = 1.0
        >>> probability = 0.4 + 0.3 * image[:, 0]
        >>> probability[0, 2, 2] = 0.9
        >>> (dense_crf(probability, image) > 0.5).sum(1)
        tensor([[0, 0, 0, 0, 8, 8, 8, 8]])
    """
    sizes = check_probability_and_image(probability, image, validate=validate)
    if not 0 < clip < 0.5:
        raise fail("clip", repr(clip), "a number between 0 and 0.5")
    model = _Model(iterations, appearance_weight, appearance_sigma, color_sigma, smoothness_weight, smoothness_sigma)
    _check(mask, model, lattice_points, sizes, probability, probability.shape[:-2])
    check_count("subsample", subsample)
    share = merge_leading(probability, 2)[:, None]  # [N, 1, H, W]
    share = share.to(torch.float64 if share.dtype == torch.float64 else torch.float32)
    frames = merge_leading(image.detach(), 3)
    alone = None if mask is None else merge_leading(mask, 2)
    if subsample == 1 or share.numel() == 0:
        return logistic(_solve(_logit(share, clip), frames, alone, model, lattice_points)).reshape(probability.shape)
    coarse, coarse_image, coarse_mask = _coarsened(share, frames, alone, subsample)
    logit = _solve(_logit(coarse, clip), coarse_image, coarse_mask, model.scaled(1 / subsample), lattice_points)
    refined = _resampled(logistic(logit), coarse_mask, subsample)[..., : sizes["H"], : sizes["W"]]
    if alone is not None:
        refined = torch.where(alone[:, None], share.clamp(clip, 1 - clip), refined)
    return refined.reshape(probability.shape)


def _logit(share: Tensor, clip: float) -> Tensor:
    return share.clamp(clip, 1 - clip).log() - (1 - share).clamp(clip, 1 - clip).log()


def _coarsened(share: Tensor, frames: Tensor, mask: Tensor | None, size: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Means of ``[N, 1, H, W]`` and ``[N, C, H, W]`` over squares without the pixels of ``mask``.

    The last result says which squares lie in the mask altogether.
    """
    scale = 1 if frames.is_floating_point() else 255
    budget = _CPU_BUDGET if share.device.type == "cpu" else _DEVICE_BUDGET
    parts = []
    for block in blocks(len(share), 4 * share.element_size() * frames[0].numel(), budget=budget):
        values = torch.cat((share[block], frames[block].to(share.dtype) / scale), 1)
        if mask is None:
            parts.append(_square_means(values, size))
            continue
        counts = (~mask[block, None]).to(share.dtype)
        there = _square_means(counts, size)
        means = _square_means(values * counts, size) / torch.where(there > 0, there, 1)
        parts.append(torch.cat((means, there), 1))
    joined = torch.cat(parts)
    channels = frames.shape[1] + 1
    left = None if mask is None else joined[:, channels] == 0
    return joined[:, :1], joined[:, 1:channels], left


def _resampled(values: Tensor, mask: Tensor | None, factor: int) -> Tensor:
    """``[N, 1, H, W]`` at ``factor`` times the resolution; squares of ``mask [N, H, W]`` say nothing to others."""
    if mask is None:
        return interpolate(values, scale_factor=factor, mode="bilinear")
    weight = (~mask[:, None]).to(values.dtype)
    total, share = (interpolate(part, scale_factor=factor, mode="bilinear") for part in (values * weight, weight))
    return total / torch.where(share > 0, share, 1)


def _square_means(values: Tensor, size: int) -> Tensor:
    """Means of ``[N, C, H, W]`` over squares of ``size`` pixels; the last row and column stand in for missing ones."""
    h, w = values.shape[-2:]
    return avg_pool2d(pad(values, (0, -w % size, 0, -h % size), mode="replicate"), size)


@full_precision
def dense_crf_marginals(
    unary: Tensor,
    image: Tensor,
    *,
    iterations: int = 10,
    appearance_weight: float = 4.0,
    appearance_sigma: float = 67.0,
    color_sigma: float = 3.0,
    smoothness_weight: float = 3.0,
    smoothness_sigma: float = 1.0,
    mask: Tensor | None = None,
    lattice_points: int | None = None,
    validate: bool = True,
) -> Tensor:
    r"""Marginals of a fully connected CRF of any number of labels, by mean field.

    With Potts compatibility and ``K`` the sum of the two kernels, each made symmetric by
    ``k_pq / sqrt(sum_r k_pr  sum_r k_qr)`` and weighted, every iteration sets

        Q <- softmax(-U + K Q),   first Q = softmax(-U),

        k_pq = exp(-|x_p - x_q|^2 / 2 appearance_sigma^2 - |I_p - I_q|^2 / 2 color_sigma^2)   appearance
        k_pq = exp(-|x_p - x_q|^2 / 2 smoothness_sigma^2)                                     smoothness

    over all pairs of pixels, ``q = p`` included. The appearance kernel is filtered on a permutohedral lattice, which
    approximates the Gaussian; the smoothness kernel is a separable convolution that ends at 5 standard deviations.
    Against the exact sum over all pairs, marginals of crops of DAVIS differ by 0.001 to 0.005 on average and 99.5 to
    99.9 % of the labels agree; the lattice is at its worst (97 %) in smooth texture that spreads over some 10
    standard deviations of colour, and where unaries say nothing and small errors decide.

    Differentiable with respect to ``unary``. Runs are equal bit for bit.

    Args:
        unary: ``[T, L, H, W]`` energies, low for likely labels (any leading dimensions).
        image: ``[T, C, H, W]`` uint8 or floating point in [0, 1].
        iterations: mean-field updates.
        appearance_weight: weight of the kernel of position and colour; 0 leaves the kernel out.
        appearance_sigma: its standard deviation in pixels.
        color_sigma: its standard deviation in grey levels of 0 to 255.
        smoothness_weight: weight of the kernel of position alone; 0 leaves the kernel out.
        smoothness_sigma: its standard deviation in pixels.
        mask: ``[T, H, W]`` bool, pixels to leave alone: they keep ``softmax(-U)`` and no other pixel hears of them.
            (To hold a pixel and let it speak, give its label a unary 100 below the others.)
        lattice_points: memory for so many lattice points a frame. Without it a pass over the image counts them, and
            one number is read back from the device (while tracing or capturing a graph, when nothing can be read,
            there is room for the most there can be, C + 3 a pixel). With it nothing is read back, and frames that
            need more come out as NaN.
        validate: look for NaN and values out of range; it reads back from the device.

    Returns:
        ``[T, L, H, W]`` in [0, 1], float64 where ``unary`` is, else float32; over L they sum to 1.

    Raises:
        InputError: a shape, dtype, device or value does not fit.

    Example:
        >>> dense_crf_marginals(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5, dtype=torch.uint8)).shape
        torch.Size([2, 3, 4, 5])
    """
    sizes = check_tensor("unary", unary, "... L H W")
    model = _Model(iterations, appearance_weight, appearance_sigma, color_sigma, smoothness_weight, smoothness_sigma)
    grid = {"H": sizes["H"], "W": sizes["W"]}
    leading = unary.shape[:-3]
    seen = check_tensor("image", image, "... C H W", kind="frames", sizes=grid, leading=leading, like=unary)
    _check(mask, model, lattice_points, seen, unary, leading)
    if validate:
        check_values("unary", unary)
        check_values("image", image, low=0, high=1)
    energy = merge_leading(unary, 3)  # [N, L, H, W]
    energy = energy.to(torch.float64 if energy.dtype == torch.float64 else torch.float32)
    if sizes["L"] < 2:
        return torch.softmax(-energy, 1).reshape(unary.shape)
    if sizes["L"] == 2:
        logit = _solve(energy[:, :1] - energy[:, 1:], image, mask, model, lattice_points)
        return logistic(torch.cat((-logit, logit), 1)).reshape(unary.shape)
    return torch.softmax(_solve(-energy, image, mask, model, lattice_points), 1).reshape(unary.shape)


class _Model(NamedTuple):
    iterations: int
    appearance_weight: float
    appearance_sigma: float
    color_sigma: float
    smoothness_weight: float
    smoothness_sigma: float

    def scaled(self, factor: float) -> _Model:
        """The same model of an image that is ``factor`` times as large."""
        return self._replace(
            appearance_sigma=self.appearance_sigma * factor, smoothness_sigma=self.smoothness_sigma * factor
        )


class _Pairwise(NamedTuple):
    """The kernels of a block of frames. Their scales hold weight and symmetric normalisation, [n, 1, H, W] each."""

    lattice: Lattice | None
    appearance_scale: Tensor
    reach: int | None  # of the smoothness kernel in pixels; None where there is none
    smoothness_scale: Tensor


def _check(
    mask: Tensor | None,
    model: _Model,
    lattice_points: int | None,
    sizes: dict[str, int],
    like: Tensor,
    leading: torch.Size,
) -> None:
    """Raises InputError unless the mask and the numbers suit an image of ``sizes``."""
    if mask is not None:
        check_tensor("mask", mask, "... H W", kind="bool", sizes=sizes, leading=leading, like=like)
    check_count("iterations", model.iterations, 0)
    for name, value in model._asdict().items():
        check_positive(name, value, zero=not name.endswith("sigma"))
        if math.isinf(value):
            raise fail(name, repr(value), "a finite number")
    if lattice_points is not None:
        check_count("lattice_points", lattice_points)
    if sizes["C"] + 2 > MAX_FEATURES:
        raise fail("image", f"{sizes['C']} channels", f"at most {MAX_FEATURES - 2}")
    h, w = (LARGEST_SIDE,) * 2 if is_open(sizes["H"], sizes["W"]) else (sizes["H"], sizes["W"])
    extent = [w / model.appearance_sigma, h / model.appearance_sigma]
    extent += [255 / model.color_sigma] * sizes["C"]
    if model.appearance_weight > 0 and key_bits(extent, 1) > MAX_BITS - _FRAME_BITS:
        raise fail(
            "appearance_sigma, color_sigma",
            f"{model.appearance_sigma} and {model.color_sigma}",
            f"a lattice of less than 2^{MAX_BITS - _FRAME_BITS} cells over this image",
            "raise one of them",
        )


def _solve(unary: Tensor, image: Tensor, mask: Tensor | None, model: _Model, lattice_points: int | None) -> Tensor:
    """Logits ``[N, C, H, W]`` after the last iteration, a few frames at a time; see ``_mean_field``."""
    if unary.numel() == 0:
        return unary
    image = merge_leading(image.detach(), 3)
    speaks = None if mask is None else ~merge_leading(mask, 2)[:, None]
    budget = _CPU_BUDGET if unary.device.type == "cpu" else _DEVICE_BUDGET
    bytes_each = _BYTES_A_CORNER * (image.shape[1] + 3) * unary[0, 0].numel()
    bytes_each = max(bytes_each, budget >> _FRAME_BITS)
    scale = 255 if image.is_floating_point() else 1
    parts = [
        _mean_field(
            unary[block],
            image[block].to(unary.dtype) * scale,
            None if speaks is None else speaks[block],
            model,
            lattice_points,
        )
        for block in blocks(unary.shape[0], bytes_each, budget=budget)
    ]
    return torch.cat(parts)


def _mean_field(
    unary: Tensor, levels: Tensor, speaks: Tensor | None, model: _Model, lattice_points: int | None
) -> Tensor:
    """Logits ``[n, C, H, W]`` of a block of frames from those of the unaries.

    A single channel is the difference of two labels' logits: it says everything, as tanh of its half, the difference
    of their marginals, does of their messages.
    """
    ones = torch.ones_like(unary[:, :1]) if speaks is None else speaks.to(unary.dtype)
    pairwise, overflow = _pairwise(levels, ones, model, lattice_points)
    logit = unary
    for _ in range(model.iterations):
        belief = torch.tanh(logit / 2) if unary.shape[1] == 1 else torch.softmax(logit, 1)
        logit = unary
        if pairwise.lattice is not None:
            message = filter_values(belief * pairwise.appearance_scale, pairwise.lattice)
            logit = torch.addcmul(logit, message, pairwise.appearance_scale)
        if pairwise.reach is not None:
            message = (belief * pairwise.smoothness_scale).flatten(0, 1)
            message = _smooth(message, model.smoothness_sigma, pairwise.reach).view(belief.shape)
            logit = torch.addcmul(logit, message, pairwise.smoothness_scale)
    return logit if overflow is None else logit.masked_fill(overflow[:, None, None, None], torch.nan)


def _pairwise(
    levels: Tensor, ones: Tensor, model: _Model, lattice_points: int | None
) -> tuple[_Pairwise, Tensor | None]:
    """Kernels among the pixels where ``ones [n, 1, H, W]`` is 1, and which frames the lattice has no room for."""
    lattice, overflow, appearance, smoothness = None, None, ones, ones
    if model.appearance_weight > 0:
        features, extent = image_features(levels, model.appearance_sigma, model.color_sigma)
        lattice, overflow = build_lattice(features, extent, lattice_points)
        appearance = _scale(filter_values(ones, lattice), ones, model.appearance_weight)
    reach = None
    if model.smoothness_weight > 0:
        reach = math.ceil(_REACH * model.smoothness_sigma)
        if not is_open(*ones.shape[-2:]):
            reach = min(reach, max(ones.shape[-2:]) - 1)
        total = _smooth(ones[:, 0], model.smoothness_sigma, reach)
        smoothness = _scale(total[:, None], ones, model.smoothness_weight)
    return _Pairwise(lattice, appearance, reach, smoothness), overflow if lattice_points is not None else None


def _smooth(values: Tensor, sigma: float, reach: int) -> Tensor:
    take = plain.gaussian_filter if needs_plain(values) else gaussian_filter
    return take(values, sigma, reach)


def _scale(total: Tensor, ones: Tensor, weight: float) -> Tensor:
    """``sqrt(weight / total)``, and 0 where a pixel is left alone."""
    return torch.where(ones > 0, total, 1).rsqrt() * ones * math.sqrt(weight)
