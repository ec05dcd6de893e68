"""From frames to masks, a whole clip at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gpuvos.config import Config, checked_config
from gpuvos.errors import check_count, check_tensor, check_values, fail
from gpuvos.features.base import FrontEnd, accepted
from gpuvos.pipeline.chunked import explain_memory, in_parts
from gpuvos.pipeline.result import with_probability
from gpuvos.pipeline.segment import check_mask_of_frames, segment
from gpuvos.types import Features, Progress, Segmentation

_SAID = 8  # frames of the CRF between two calls of progress


class VideoSegmenter(nn.Module):
    """From frames to masks: a front end, then the method.

    Args:
        front_end: anything that returns Features for a clip; ``SaliencyFeatures()`` (the
            networks inside the package) where absent.
        config: parameters of the method.
        crf: refines probabilities by the frames: ``gpuvos.nn.DenseCRF()``, or ``gpuvos.nn.GuidedFilter()``, which is
            much quicker; none where absent.
        chunk: frames that the front end and the CRF see at a time (and one beside them, for the flow), which bounds
            the memory of a long clip; None: the whole clip, and smaller parts only where memory runs out. The bits
            are the same as long as the features of a frame depend on it and on its neighbours alone.

    Example:
        >>> frames = torch.zeros(3, 3, 32, 48, dtype=torch.uint8)
        >>> VideoSegmenter()(frames).mask.shape
        torch.Size([3, 32, 48])
    """

    def __init__(
        self,
        front_end: FrontEnd | None = None,
        config: Config | None = None,
        *,
        crf: nn.Module | None = None,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        if chunk is not None:
            check_count("chunk", chunk)
        if front_end is None:
            from gpuvos.features.saliency import SaliencyFeatures

            front_end = SaliencyFeatures()
        self.front_end = front_end
        self.config = checked_config(config)
        self.crf, self.chunk = crf, chunk

    @explain_memory("frames")
    @torch.no_grad()
    def forward(
        self,
        frames: Tensor,
        *,
        first_mask: Tensor | None = None,
        validate: bool = True,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segments one video.

        Args:
            frames: ``[T, 3, H, W]`` uint8, or floating point in [0, 1].
            first_mask: ``[H, W]`` bool with the H and W of the frames, the object in frame 0: semi-supervised mode.
            validate: whether to look at the values, see ``segment``; front end, flow and CRF do not look either.
            progress: called as ``progress(stage, done, total)`` with frames that are done: "network" and "flow"
                ("features" of a front end that takes no ``progress``), "method", "refine".

        Returns:
            Segmentation with masks ``[T, H, W]``.

        Raises:
            InputError: frames of a wrong shape, dtype or range, or none at all; a mask of another size, or empty.
            OutOfMemoryError: memory does not suffice; it is an InputError as well.
        """
        if first_mask is not None and isinstance(frames, Tensor) and frames.ndim == 4:
            check_mask_of_frames(first_mask, frames, validate=validate)
        features = self.features(frames, validate=validate, progress=progress)
        result = self.label(features, frames, first_mask=first_mask, validate=validate, progress=progress)
        return self.refine(result, frames, validate=validate, progress=progress)

    def label(
        self,
        features: Features,
        frames: Tensor,
        *,
        first_mask: Tensor | None = None,
        validate: bool = True,
        progress: Progress | None = None,
    ) -> Segmentation:
        """The method alone, on the features of ``frames``; masks are as large as these."""
        size, count = (frames.shape[-2], frames.shape[-1]), len(frames)
        if progress is not None:
            progress("method", 0, count)
        result = segment(*features, config=self.config, size=size, first_mask=first_mask, validate=validate)
        if progress is not None:
            progress("method", count, count)
        return result

    def refine(
        self, result: Segmentation, frames: Tensor, *, validate: bool = True, progress: Progress | None = None
    ) -> Segmentation:
        """Mask, probability and confidence after the CRF, where there is one; ``frames`` as large as the masks."""
        if self.crf is None:
            return result
        crf = self.crf

        def part(first: int, last: int) -> list[Tensor]:
            refined = crf(result.probability[first:last], frames[first:last], validate=validate)
            if progress is not None:
                progress("refine", last, len(frames))
            return [refined]

        chunk = self.chunk if progress is None else self.chunk or _SAID
        (probability,) = in_parts(part, len(frames), chunk)
        return with_probability(result, probability)

    def features(self, frames: Tensor, *, validate: bool = True, progress: Progress | None = None) -> Features:
        """Checks frames ``[T, 3, H, W]`` and runs the front end on them, ``chunk`` at a time."""
        sizes = check_tensor("frames", frames, "T 3 H W", kind="frames")
        if min(sizes.values()) == 0:
            raise fail("frames", f"shape {tuple(frames.shape)}", "at least one frame of at least one pixel")
        if validate:
            check_values("frames", frames, low=0, high=1)
        return Features._make(in_parts(lambda a, b: self._part(frames, a, b, progress), len(frames), self.chunk))

    def _part(self, frames: Tensor, first: int, last: int, progress: Progress | None) -> Features:
        """Features of the frames from ``first`` to before ``last``, with one neighbour for their flow."""
        stop = min(last + 1, len(frames))
        start = first if stop - first > 1 else max(0, first - 1)
        told = None if progress is None else partial(_told, progress, start, last, len(frames))
        options = accepted(self.front_end, validate=False, progress=told)  # ``features`` has looked at the values
        features: Any = self.front_end(frames[start:stop], **options)
        if progress is not None and "progress" not in options:
            progress("features", last, len(frames))
        if not isinstance(features, tuple) or len(features) != 3:
            raise fail(
                "front_end", f"a result of type {type(features).__name__}", "Features(embedding, objectness, flow)"
            )
        if stop - start == len(frames) == last - first:
            return Features._make(features)
        if not all(isinstance(value, Tensor) and value.shape[:1] == (stop - start,) for value in features):
            raise fail("front_end", "features of another number of frames", f"tensors [{stop - start}, ...]")
        return Features._make(value[first - start : last - start] for value in features)


def _told(progress: Progress, start: int, last: int, total: int, stage: str, done: int, _: int) -> None:
    """Progress of a part of a clip as that of the clip; frames seen beside the part do not count."""
    progress(stage, min(start + done, last), total)
