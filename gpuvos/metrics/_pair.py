"""What the measures of two masks share: checking the pair and reading integer masks."""

from __future__ import annotations

from torch import Tensor

from gpuvos.errors import fail

_WANTED = "a bool or integer tensor [..., H, W], non-zero where the object is"


def check_mask(argument: str, value: object) -> None:
    """Raises InputError unless ``value`` is a bool or integer tensor [..., H, W] with at least one pixel."""
    if not isinstance(value, Tensor):
        raise fail(argument, type(value).__name__, _WANTED, "convert it with torch.as_tensor")
    if value.dtype.is_floating_point or value.dtype.is_complex:
        raise fail(
            argument, str(value.dtype), _WANTED, "threshold probabilities first, mask = probability > 0.5"
        )
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
        raise fail(
            second, f"device {truth.device}", f"device {mask.device} of mask", "move it with .to(device)"
        )


def as_object(mask: Tensor) -> Tensor:
    """The mask as bool: every id but 0 is the object, so the objects of a multi-object mask are merged."""
    return mask.bool()
