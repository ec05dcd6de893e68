"""Boxes around objects: found, cut out of images at one size, and put back."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from gpuvos.errors import values_readable

_LEAST_MARGIN = 16  # pixels; a network makes little of an object without any ground around it
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


def object_boxes(mask: Tensor, margin: float) -> Tensor:
    """Boxes around masks, larger on every side by a share of the longer side, and cut to the frame.

    Args:
        mask: ``[N, H, W]`` bool.
        margin: in lengths of the longer side; it counts 16 pixels at least.

    Returns:
        ``[N, 4]`` float32: left, top, right and bottom in pixels, where pixel x spans x to x + 1; the whole frame
        where the mask is empty.

    Example:
        >>> mask = torch.zeros(1, 100, 100, dtype=torch.bool)
        >>> mask[0, 40:60, 30:80] = True
        >>> object_boxes(mask, 0.4)
        tensor([[ 10.,  20., 100.,  80.]])
    """
    sides = []
    for axis, size in ((1, mask.shape[-1]), (2, mask.shape[-2])):  # columns, then rows; all of them of an empty mask
        line = mask.any(axis).to(torch.int32)
        first, last = line.argmax(1), size - line.flip(1).argmax(1)
        sides.append((first.float(), last.float(), size))
    longer = torch.maximum(*(last - first for first, last, _ in sides))
    wider = (margin * longer).clamp(min=_LEAST_MARGIN)
    (left, right, columns), (top, bottom, rows) = sides
    return torch.stack(
        (
            (left - wider).clamp(min=0),
            (top - wider).clamp(min=0),
            (right + wider).clamp(max=columns),
            (bottom + wider).clamp(max=rows),
        ),
        1,
    )


def paste(values: Tensor, boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Values of boxes, resampled to the pixels of the frame that the boxes lie in.

    Args:
        values: ``[N, h, w]`` float, one grid over each box.
        boxes: ``[N, 4]``: left, top, right and bottom in pixels of the frame.
        size: H and W of the frame.

    Returns:
        ``[N, H, W]``, meaningless outside the boxes, and bool ``[N, H, W]``, whether a pixel's centre is inside.

    Example:
        >>> values, inside = paste(torch.ones(1, 2, 2), torch.tensor([[1.0, 0.0, 3.0, 1.0]]), (2, 4))
        >>> (values * inside)[0]
        tensor([[0., 1., 1., 0.],
                [0., 0., 0., 0.]])
    """
    left, top, right, bottom = boxes[:, :, None].unbind(1)  # [N, 1]
    x = torch.arange(size[1], device=boxes.device, dtype=boxes.dtype) + 0.5
    y = torch.arange(size[0], device=boxes.device, dtype=boxes.dtype) + 0.5
    x, y = 2 * (x - left) / (right - left) - 1, 2 * (y - top) / (bottom - top) - 1
    inside = (x.abs() <= 1)[:, None, :] & (y.abs() <= 1)[:, :, None]
    shape = (boxes.shape[0], *size)
    grid = torch.stack((x[:, None, :].expand(shape), y[:, :, None].expand(shape)), -1)
    sampled = grid_sample(values[:, None].to(grid.dtype), grid, padding_mode="border", align_corners=False)
    return sampled[:, 0], inside


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
