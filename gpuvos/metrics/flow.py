"""Accuracy of optical flow."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.errors import check_tensor, fail


def endpoint_error(flow: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean endpoint error of optical flow: ``||flow - truth||`` averaged over the valid pixels of each frame.

    Args:
        flow: ``[..., 2, H, W]`` float, (x, y) in pixels.
        truth: ``[..., 2, H, W]`` float of the same shape; where ``valid`` is False it may hold anything, NaN too.
        valid: ``[..., H, W]`` bool, the pixels whose true flow is known; all of them if None.

    Returns:
        [...] in pixels, float32 (float64 if an input is); NaN for a frame without a valid pixel, and for one
        with a NaN among its valid pixels.

    Raises:
        InputError: if a dtype, shape or device is wrong.

    Example:
        >>> import torch
        >>> truth = torch.zeros(2, 4, 4)
        >>> flow = truth + torch.tensor([3.0, 4.0])[:, None, None]
        >>> endpoint_error(flow, truth)
        tensor(5.)
    """
    sizes = check_tensor("flow", flow, "... 2 H W")
    check_tensor("truth", truth, "... 2 H W", sizes=sizes, like=flow)
    _check_leading("truth", truth.shape[:-3], flow.shape[:-3])
    difference = flow - truth  # [..., 2, H, W]
    # Half precision cannot hold the sum over a frame.
    difference = difference.to(torch.promote_types(difference.dtype, torch.float32))
    if valid is None:
        return _length(difference).mean(dim=(-2, -1))
    check_tensor("valid", valid, "... H W", kind="bool", sizes=sizes, like=flow)
    _check_leading("valid", valid.shape[:-2], flow.shape[:-3])
    difference = difference.masked_fill(~valid.unsqueeze(-3), 0.0)
    return _length(difference).sum(dim=(-2, -1)) / valid.sum(dim=(-2, -1))


def _length(vectors: Tensor) -> Tensor:
    """Euclidean length of vectors ``[..., 2, H, W]`` -> ``[..., H, W]``."""
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-3)
    return length


def _check_leading(argument: str, shape: torch.Size, wanted: torch.Size) -> None:
    if shape != wanted:
        raise fail(argument, f"leading dimensions {tuple(shape)}", f"those of flow, {tuple(wanted)}")
