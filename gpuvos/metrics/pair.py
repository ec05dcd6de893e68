"""What the measures of two masks share: checking the pair, and going through the frames."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gpuvos.errors import fail

_WANTED = "a bool or integer tensor [..., H, W], non-zero where the object is"

# Pixels measured at once. On a CPU the maps of a chunk should stay in the cache (one frame of 480 x 854 at a
# time, several times faster than a whole sequence); elsewhere only the memory is bounded, to roughly 0.5 GB.
_CPU_PIXELS = 2**19
_DEVICE_PIXELS = 2**26


def check_mask(argument: str, value: object) -> None:
    """Raises InputError unless ``value`` is a bool or integer tensor ``[..., H, W]`` with at least one pixel."""
    if not isinstance(value, Tensor):
        raise fail(argument, type(value).__name__, _WANTED, "convert it with torch.as_tensor")
    if value.dtype.is_floating_point or value.dtype.is_complex:
        raise fail(argument, str(value.dtype), _WANTED, "threshold probabilities first, mask = probability > 0.5")
    if value.layout != torch.strided:
        raise fail(argument, f"layout {value.layout}", _WANTED, "make it dense with .to_dense()")
    if value.ndim < 2 or 0 in value.shape[-2:]:
        raise fail(argument, f"shape {tuple(value.shape)}", f"{_WANTED}, H and W at least 1")


def check_pair(mask: Tensor, truth: Tensor, *, second: str = "truth") -> None:
    """Raises InputError unless both are masks (see ``check_mask``) of one shape on one device."""
    check_mask("mask", mask)
    check_mask(second, truth)
    if truth.shape != mask.shape:
        remedy = "resize one of them; the measures compare pixel by pixel"
        raise fail(second, f"shape {tuple(truth.shape)}", f"the shape {tuple(mask.shape)} of mask", remedy)
    if truth.device != mask.device:
        raise fail(second, f"device {truth.device}", f"device {mask.device} of mask", "move it with .to(device)")


def measure_frames(measure: Callable[..., Tensor], *masks: Tensor) -> Tensor:
    """Applies ``measure``, bool ``[N, H, W]`` each -> [N], to masks ``[..., H, W]``, chunk by chunk -> [...].

    Every id but 0 is the object, so the objects of a multi-object mask are merged.
    """
    leading, (height, width) = masks[0].shape[:-2], masks[0].shape[-2:]
    limit = _CPU_PIXELS if masks[0].device.type == "cpu" else _DEVICE_PIXELS
    frames = [mask.reshape(math.prod(leading), height, width) for mask in masks]
    chunks = zip(*(torch.split(mask, max(1, limit // (height * width))) for mask in frames), strict=True)
    return torch.cat([measure(*(mask.bool() for mask in chunk)) for chunk in chunks]).reshape(leading)
