"""Refinements of a part of every frame, cut out around what was found: a closer look, and any other at that place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gpuvos.errors import check_choice, check_count, check_positive, check_probability_and_image, check_share
from gpuvos.features.base import accepted
from gpuvos.features.context import frames_at_once
from gpuvos.features.network.u2net import U2NetP
from gpuvos.features.network.weights import load_saliency
from gpuvos.features.saliency import saliency_maps, saliency_network
from gpuvos.flow.inference import InferenceModule
from gpuvos.functional.batch import is_open, merge_leading
from gpuvos.nn import DenseCRF, GuidedFilter, Refinement
from gpuvos.pipeline.crops import cut_boxes, object_boxes, paste

RefinementName = Literal["guided", "zoom", "crf", "zoom-crf"]
REFINEMENTS: tuple[RefinementName, ...] = get_args(RefinementName)
_SIZE = 224  # pixels of a cut-out's side: as good as 320 on DAVIS train, for half the work
_APPEARANCE = 5 / 16  # sides of the cut-out: standard deviation in position of the CRF of zoom-crf


def refinement(name: RefinementName, *, size: int = _SIZE) -> nn.Module:
    """A new module that refines probabilities ``[T, H, W]`` by images ``[T, 3, H, W]``.

    Args:
        name: ``guided`` (a guided filter), ``zoom`` (``ZoomRefinement``), ``crf`` (a dense CRF as the paper has
            it) or ``zoom-crf`` (the closer look, then 5 updates of a dense CRF in ``RoiRefinement``).
        size: side of the square at which the network of ``zoom``, and the CRF after it, see the part around the object.

    Raises:
        InputError: another name, or no size.

    Example:
        >>> refinement("guided")
        GuidedFilter(radius=8, epsilon=0.0001, subsample=4)
    """

    def zoom() -> ZoomRefinement:
        return ZoomRefinement(size=size)

    def zoom_crf() -> Refinements:
        crf = DenseCRF(iterations=5, appearance_sigma=_APPEARANCE * size)
        return Refinements(zoom(), RoiRefinement(crf, weight=0.5, size=size))

    kinds: dict[str, Callable[[], nn.Module]] = {
        "guided": GuidedFilter,
        "zoom": zoom,
        "crf": DenseCRF,
        "zoom-crf": zoom_crf,
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
        network: as for ``SaliencyFeatures``; None: U2NetP of this size, the weights that come with the library.
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
        size: int = _SIZE,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        check_share("weight", weight)
        check_positive("margin", margin, zero=True)
        check_count("reach", reach, low=0)
        check_count("size", size)
        if chunk is not None:
            check_count("chunk", chunk)
        self.network = load_saliency(size=size) if network is None else saliency_network(network)
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
        return _over_frames(self._refined, before, image, self.chunk)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"weight={self.weight}, margin={self.margin}, reach={self.reach}, size={self.size}"

    def _refined(self, probability: Tensor, frames: Tensor) -> Tensor:
        """``probability [n, H, W]`` after the look at the cut-outs of ``frames [n, 3, H, W]``."""
        found = probability.detach() > 0.5
        boxes = object_boxes(found, self.margin)
        cut = cut_boxes(_in_unit_range(frames), boxes, (self.size, self.size))
        saliency, inside = paste(saliency_maps(self.network, cut), boxes, (found.shape[-2], found.shape[-1]))
        heard = inside & _grown(found, self.reach)
        return torch.where(heard, torch.lerp(probability, saliency.to(probability.dtype), self.weight), probability)


class RoiRefinement(nn.Module):
    r"""Refines foreground probabilities in the region of interest alone, at a resolution that follows its size.

        B  = bounding box of P > 1/2, larger on every side by ``margin`` of its longer side
             (at least 16 pixels), inside the frame
        Q  = refinement(P cut to B, frame cut to B), both resampled to ``size x size``
        P' = (1 - w) P + w Q, Q resampled to the pixels of B    inside B
             P                                                  elsewhere

    So a small object is refined at a finer resolution than a large one, and the ground far from it costs nothing. A
    frame in which nothing was found stays as P is. Frames do not depend on each other. Shapes depend on those of the
    arguments alone; whether anything is read back from the device is up to the refinement.

    Args:
        refinement: a module called with probability ``[T, size, size]`` and image ``[T, C, size, size]``, such as
            ``gpuvos.nn.DenseCRF()``. What it counts in pixels are pixels of the cut-out.
        weight: w, in [0, 1]. Below 1 the refinement sharpens what is there and overrules less of it.
        margin: of the box, in lengths of its longer side.
        size: height and width in pixels of what the refinement sees.
        chunk: frames at a time; None: 1 on the CPU and 16 elsewhere.

    Raises:
        InputError: an option out of its range.

    Example:
        >>> from gpuvos.nn import DenseCRF
        >>> refine = RoiRefinement(DenseCRF(iterations=1), size=64)
        >>> refine(torch.rand(2, 24, 32), torch.rand(2, 3, 24, 32)).shape
        torch.Size([2, 24, 32])
    """

    __call__: Refinement  # what forward takes and gives, which a call of a module does not say

    def __init__(
        self,
        refinement: nn.Module,
        *,
        weight: float = 1.0,
        margin: float = 0.15,
        size: int = _SIZE,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        check_share("weight", weight)
        check_positive("margin", margin, zero=True)
        check_count("size", size)
        if chunk is not None:
            check_count("chunk", chunk)
        self.refinement = refinement
        self.weight, self.margin, self.size, self.chunk = weight, margin, size, chunk

    def forward(self, probability: Tensor, image: Tensor, *, validate: bool = True) -> Tensor:
        """Refines the probabilities of some frames.

        Args:
            probability: ``[T, H, W]`` in [0, 1] (any leading dimensions), at the resolution of the image.
            image: ``[T, C, H, W]`` uint8, or floating point in [0, 1].
            validate: look for NaN and values out of range; it reads back from the device.

        Returns:
            Probability ``[T, H, W]`` of the foreground, in the dtype of ``probability``.

        Raises:
            InputError: a shape, dtype, device or value does not fit.
        """
        check_probability_and_image(probability, image, validate=validate)
        return _over_frames(self._refined, probability, image, self.chunk)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"weight={self.weight}, margin={self.margin}, size={self.size}"

    def _refined(self, probability: Tensor, frames: Tensor) -> Tensor:
        """``probability [n, H, W]`` refined in boxes of ``frames [n, C, H, W]``."""
        found = probability.detach() > 0.5
        boxes = object_boxes(found, self.margin)
        both = torch.cat((probability[:, None].to(torch.float32), _in_unit_range(frames)), 1)
        cut = cut_boxes(both, boxes, (self.size, self.size)).clamp(0, 1)  # means of ones may round to more than 1
        refined = self.refinement(cut[:, 0], cut[:, 1:], **accepted(self.refinement, validate=False))
        values, inside = paste(refined, boxes, (found.shape[-2], found.shape[-1]))
        changed = inside & found.flatten(1).any(1)[:, None, None]
        return torch.where(changed, torch.lerp(probability, values.to(probability.dtype), self.weight), probability)


def _over_frames(
    refined: Callable[[Tensor, Tensor], Tensor], probability: Tensor, image: Tensor, chunk: int | None
) -> Tensor:
    """``refined`` of ``probability [..., H, W]`` and ``image [..., C, H, W]``, some frames at a time."""
    if probability.numel() == 0:
        return probability
    flat, frames = merge_leading(probability, 2), merge_leading(image, 3)
    if is_open(flat.shape[0]):
        return refined(flat, frames).reshape(probability.shape)
    chunk = frames_at_once(chunk, flat.device)
    parts = [refined(*pair) for pair in zip(torch.split(flat, chunk), torch.split(frames, chunk), strict=True)]
    return torch.cat(parts).reshape(probability.shape)


def _in_unit_range(frames: Tensor) -> Tensor:
    return frames.to(torch.float32) / (1 if frames.is_floating_point() else 255)


def _grown(mask: Tensor, reach: int) -> Tensor:
    """Pixels of ``mask [N, H, W]`` and those at most ``reach`` columns and rows from one."""
    for axis, sides in ((1, (0, 0, reach, reach)), (2, (reach, reach))):
        mask, width = pad(mask, sides), 1
        while width <= 2 * reach:  # of the windows so far, twice as wide every time
            step = min(width, 2 * reach + 1 - width)
            rest = mask.shape[axis] - step
            mask = mask.narrow(axis, 0, rest) | mask.narrow(axis, step, rest)
            width += step
    return mask
