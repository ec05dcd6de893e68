"""Boxes cut out of images at one size, by the operator of torchvision without the rest of it."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from gpuvos.errors import values_readable

_LIBRARIES = ("_C_stable", "_C")  # that hold the operator: of torchvision 0.27 and later, and before


def cut_boxes(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cuts one box out of every image and resamples it by ``torchvision.ops.roi_align``, pixels aligned.

    Importing torchvision brings ``torch._dynamo`` and sympy, two seconds of processor time. Where only the operator
    itself is wanted, on the CPU without gradients and outside of traces, its library is loaded alone.

    Args:
        images: ``[N, C, H, W]`` float32.
        boxes: ``[N, 4]`` float32: left, top, right and bottom in pixels, where pixel x spans x to x + 1.
        size: rows and columns of what is cut out.

    Returns:
        ``[N, C, rows, columns]`` float32.

    Raises:
        ImportError: torchvision is missing.

    Example:
        >>> cut_boxes(torch.arange(4.0).view(1, 1, 1, 4), torch.tensor([[1.0, 0.0, 3.0, 1.0]]), (1, 2))
        tensor([[[[1., 2.]]]])
    """
    rows = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)[:, None]
    numbered = torch.cat((rows, boxes), 1)
    differentiable = torch.is_grad_enabled() and images.requires_grad
    if images.device.type == "cpu" and not differentiable and values_readable(images) and _load_operator():
        cut: Tensor = torch.ops.torchvision.roi_align(images, numbered, 1.0, *size, -1, True)
    else:
        from torchvision.ops import roi_align

        cut = roi_align(images, numbered, size, aligned=True)
    return cut


def _load_operator() -> bool:
    """Whether the operator is there; loads the library that registers it where it is not."""
    if hasattr(torch.ops.torchvision, "roi_align"):
        return True
    package = find_spec("torchvision")
    for folder in [] if package is None else package.submodule_search_locations or []:
        for name in _LIBRARIES:
            for suffix in EXTENSION_SUFFIXES:
                library = Path(folder) / f"{name}{suffix}"
                if library.is_file() and _loads(library):
                    return True
    return False


def _loads(library: Path) -> bool:
    try:
        torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    except OSError:  # of another build, say; importing torchvision tells
        return False
    return hasattr(torch.ops.torchvision, "roi_align")
