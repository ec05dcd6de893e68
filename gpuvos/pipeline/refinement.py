"""Refinement by a closer look: a network of salient objects sees every frame again, cut out around what was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, max_pool2d

from gpuvos.errors import check_choice, check_count, check_positive, check_probability_and_image, check_share
from gpuvos.features.base import accepted
from gpuvos.features.context import frames_at_once
from gpuvos.features.network.u2net import U2NetP
from gpuvos.features.network.weights import load_saliency
from gpuvos.features.saliency import saliency_maps, saliency_network
from gpuvos.flow.inference import InferenceModule
from gpuvos.functional.batch import is_open, merge_leading
from gpuvos.nn import DenseCRF, GuidedFilter, Refinement
from gpuvos.pipeline.crops import cut_boxes

RefinementName = Literal["guided", "zoom", "crf", "zoom-crf"]
REFINEMENTS: tuple[RefinementName, ...] = get_args(RefinementName)
_LEAST_MARGIN = 16  # pixels; a network makes little of an object without any ground around it


def refinement(name: RefinementName, *, size: int = 320) -> nn.Module:
    """A new module that refines probabilities ``[T, H, W]`` by images ``[T, 3, H, W]``.

    Args:
        name: ``guided`` (a guided filter), ``zoom`` (``ZoomRefinement``), ``crf`` (a dense CRF as the paper has
            it) or ``zoom-crf`` (the closer look, then 5 updates of a dense CRF at half the resolution).
        size: side of the square at which the network of ``zoom`` sees the part around the object.

    Raises:
        InputError: another name, or no size.

    Example:
        >>> refinement("guided")
        GuidedFilter(radius=8, epsilon=0.0001, subsample=4)
    """

    def zoom() -> ZoomRefinement:
        return ZoomRefinement(load_saliency(size=size), size=size)

    kinds: dict[str, Callable[[], nn.Module]] = {
        "guided": GuidedFilter,
        "zoom": zoom,
        "crf": DenseCRF,
        "zoom-crf": lambda: Refinements(zoom(), DenseCRF(iterations=5, subsample=2)),
    }
    check_choice("name", name, REFINEMENTS)
    check_count("size", size)
    return kinds[name]()


class Refinements(nn.Module):
    """Refinements one after the other; each is called with the probability of the one before and with the image.

    Args:
        steps: modules called with probability and image.

    Example:
        >>> refine = Refinements(GuidedFilter(), DenseCRF(iterations=1))
        >>> refine(torch.rand(2, 24, 32), torch.rand(2, 3, 24, 32)).shape
        torch.Size([2, 24, 32])
    """

    __call__: Refinement  # what forward takes and gives, which a call of a module does not say

    def __init__(self, *steps: nn.Module) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, probability: Tensor, image: Tensor, *, validate: bool = True) -> Tensor:
        """Probability ``[T, H, W]`` of the foreground given ``probability [T, H, W]`` and ``image [T, 3, H, W]``."""
        for number, module in enumerate(self.steps):
            probability = module(probability, image, **accepted(module, validate=validate and number == 0))
        return probability


class ZoomRefinement(InferenceModule):
    r"""Refines foreground probabilities by a closer look at the object that was found.

    A network of salient objects sees a whole frame in 320 x 320 pixels, and a small object in a few of them. Here it
    sees the part of the frame around the object instead, so that outlines get sharper, and ground that was taken along
    is let go:

        P' = refinement(P)                                       P, unless a refinement is given
        B  = bounding box of P' > 1/2, larger on every side by ``margin`` of its longer side
             (at least 16 pixels), inside the frame
        s  = network(frame cut to B), resampled to the pixels of B
        P" = (1 - w) P' + w s    at the pixels of B that are at most ``reach`` columns and rows from P' > 1/2
             P'                  elsewhere

    A frame in which nothing was found stays as P' is. Frames do not depend on each other. Shapes depend on those of
    the arguments alone, so nothing is read back from the device.

    Args:
        network: as for ``SaliencyFeatures``; None: U2NetP, the weights that come with the library.
            ``gpuvos.features.network.weights.load_saliency(detail=True)`` has its whole decoder, which is twice as slow
            and a little better.
        refinement: a module called with probability and image that goes before, such as ``gpuvos.nn.GuidedFilter()``.
        weight: w, in [0, 1]; above 0.5 the network overrules a probability of 0 or 1.
        margin: of the box, in lengths of its longer side.
        reach: pixels around what was found in which the network has a say.
        size: height and width in pixels of what the network sees.
        chunk: frames at a time; None: 1 on the CPU and 16 elsewhere.

    Raises:
        InputError: an option out of its range, or weights that are damaged.

    Example:
        >>> frames = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        >>> frames[..., 8:24] = 200
        >>> probability = torch.full((1, 32, 32), 0.3)
        >>> probability[..., 10:26] = 0.6  # two pixels too far right
        >>> refine = ZoomRefinement(lambda images: (images.mean(1) > 0.5).float(), size=32)
        >>> (refine(probability, frames)[0, 16] > 0.5).int()
        tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                0, 0, 0, 0, 0, 0, 0, 0], dtype=torch.int32)
    """

    __call__: Refinement  # what forward takes and gives, which a call of a module does not say

    def __init__(
        self,
        network: Callable[[Tensor], Tensor] | None = None,
        *,
        refinement: nn.Module | None = None,
        weight: float = 0.45,
        margin: float = 0.15,
        reach: int = 10,
        size: int = 320,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        check_share("weight", weight)
        check_positive("margin", margin, zero=True)
        check_count("reach", reach, low=0)
        check_count("size", size)
        if chunk is not None:
            check_count("chunk", chunk)
        self.network = saliency_network(network)
        if isinstance(self.network, U2NetP):
            self.freeze(self.network)
        self.refinement = refinement
        self.weight, self.margin, self.reach, self.size, self.chunk = weight, margin, reach, size, chunk
        self.eval()

    def forward(self, probability: Tensor, image: Tensor, *, validate: bool = True) -> Tensor:
        """Refines the probabilities of some frames.

        Args:
            probability: ``[T, H, W]`` in [0, 1] (any leading dimensions), at the resolution of the image.
            image: ``[T, 3, H, W]`` uint8, or floating point in [0, 1].
            validate: look for NaN and values out of range; it reads back from the device.

        Returns:
            Probability ``[T, H, W]`` of the foreground, in the dtype of ``probability`` or what ``refinement`` returns.

        Raises:
            InputError: a shape, dtype, device or value does not fit, or the network's maps do not.
        """
        check_probability_and_image(probability, image, channels=3, validate=validate)
        before = probability
        if self.refinement is not None:
            before = self.refinement(probability, image, **accepted(self.refinement, validate=False))
        if before.numel() == 0:
            return before
        flat, frames = merge_leading(before, 2), merge_leading(image, 3)
        if is_open(flat.shape[0]):
            return self._refined(flat, frames).reshape(before.shape)
        chunk = frames_at_once(self.chunk, flat.device)
        parts = [
            self._refined(*pair) for pair in zip(torch.split(flat, chunk), torch.split(frames, chunk), strict=True)
        ]
        return torch.cat(parts).reshape(before.shape)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"weight={self.weight}, margin={self.margin}, reach={self.reach}, size={self.size}"

    def _refined(self, probability: Tensor, frames: Tensor) -> Tensor:
        """``probability [n, H, W]`` after the look at the cut-outs of ``frames [n, 3, H, W]``."""
        found = probability.detach() > 0.5
        boxes = object_boxes(found, self.margin)
        images = frames.to(torch.float32) / (1 if frames.is_floating_point() else 255)
        cut = cut_boxes(images, boxes, (self.size, self.size))
        saliency, inside = paste(saliency_maps(self.network, cut), boxes, (found.shape[-2], found.shape[-1]))
        heard = inside & _grown(found, self.reach)
        return torch.where(heard, torch.lerp(probability, saliency.to(probability.dtype), self.weight), probability)


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


def _grown(mask: Tensor, reach: int) -> Tensor:
    """Pixels of ``mask [N, H, W]`` and those at most ``reach`` columns and rows from one."""
    grown = mask[:, None].to(torch.float32)
    for window in ((2 * reach + 1, 1), (1, 2 * reach + 1)):
        grown = max_pool2d(grown, window, 1, (window[0] // 2, window[1] // 2))
    return grown[:, 0] > 0
