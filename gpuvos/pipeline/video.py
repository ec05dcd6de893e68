"""From frames to masks, a whole clip at once."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gpuvos.config import Config, checked_config
from gpuvos.errors import InputError, check_count, check_tensor, check_values, fail, values_readable
from gpuvos.features.base import FrontEnd, accepted
from gpuvos.functional.batch import is_open
from gpuvos.pipeline.chunked import explain_memory, in_parts
from gpuvos.pipeline.result import with_probability
from gpuvos.pipeline.segment import check_mask_of_frames, segment
from gpuvos.types import Device, Features, Progress, Segmentation, map_tensors, plain_tensor

_SAID = 8  # frames of the refinement between two calls of progress


class VideoSegmenter(nn.Module):
    """From frames to masks: a front end, then the method.

    Args:
        front_end: anything that returns Features for a clip; ``SaliencyFeatures()`` (the
            networks inside the package) where absent.
        config: parameters of the method.
        refinement: refines probabilities by the frames: ``gpuvos.ZoomRefinement()``, with which the commands begin,
            ``gpuvos.nn.GuidedFilter()``, which is much quicker, or ``gpuvos.nn.DenseCRF()``; none where absent.
        chunk: frames that the front end and the refinement see at a time (and one beside them, for the flow), which
            bounds the memory of a long clip; None: the whole clip, and smaller parts only where memory runs out. The
            bits are the same as long as the features of a frame depend on it and on its neighbours alone.
        device: where the parameters go; None leaves them.

    ``train()`` reaches modules of your own; the front ends of the library stay in evaluation mode until
    ``front_end.trainable()`` is called.

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
        refinement: nn.Module | None = None,
        chunk: int | None = None,
        device: Device = None,
    ) -> None:
        super().__init__()
        if chunk is not None:
            check_count("chunk", chunk)
        if front_end is None:
            from gpuvos.features.saliency import SaliencyFeatures

            front_end = SaliencyFeatures()
        self.front_end: FrontEnd = front_end
        self.config = checked_config(config)
        self.refinement, self.chunk = refinement, chunk
        if isinstance(self.config.temperature, nn.Parameter):
            self.temperature = self.config.temperature
        if device is not None:
            self.to(device)

    if TYPE_CHECKING:

        def __call__(  # noqa: D102, what forward says
            self,
            frames: Tensor,
            *,
            lengths: Tensor | None = None,
            first_mask: Tensor | None = None,
            validate: bool = True,
            progress: Progress | None = None,
        ) -> Segmentation: ...

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> VideoSegmenter:
        """Loads a segmenter from a folder that ``save_pretrained`` wrote, or from the Hugging Face Hub.

        Args:
            name: the folder, or an id such as ``"owner/name"``.
            options: ``revision``, ``cache_dir``, ``local_files_only``, ``token`` as of ``huggingface_hub``; those of
                this class, which come before what is stored. A front end or a refinement of your own must be given.

        Returns:
            VideoSegmenter in evaluation mode.

        Raises:
            InputError: huggingface_hub is missing, there is no such folder or id, a file is damaged, or a front end or
                a refinement has to be given.
        """
        _need_hub()
        from gpuvos.pipeline.pretrained import PretrainedSegmenter

        try:
            loaded: VideoSegmenter = PretrainedSegmenter.from_pretrained(str(name), **options)
        except InputError:
            raise
        except (OSError, ValueError) as error:  # no such folder, which is no valid id either, or nothing at that id
            reason = (str(error) or type(error).__name__).splitlines()[0]
            wanted = "a folder that save_pretrained wrote, or the id of one"
            raise fail("name", f"'{name}' ({reason})", wanted) from error
        return loaded

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes ``config.json`` and ``model.safetensors`` into a folder, which is made where it is missing.

        Args:
            folder: ``from_pretrained`` reads it, and ``huggingface_hub.upload_folder`` publishes it.

        Returns:
            The folder.
        """
        _need_hub()
        from gpuvos.pipeline.pretrained import write_folder

        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        write_folder(self, target)
        return target

    @explain_memory("frames")
    def forward(
        self,
        frames: Tensor,
        *,
        lengths: Tensor | None = None,
        first_mask: Tensor | None = None,
        validate: bool = True,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segments one video, or several.

        Gradients follow the caller: call it under ``torch.no_grad()`` where the front end has parameters that learn
        and no gradient is wanted. ``Config.softness`` says through what they reach objectness and flow.

        Args:
            frames: ``[T, 3, H, W]`` uint8, or floating point in [0, 1]; ``[B, T, 3, H, W]`` for several videos, each of
                which the front end sees alone.
            lengths: ``[B]`` int64, frames of each video; what fills up the others changes nothing. They are read back
                from the device.
            first_mask: ``[H, W]`` bool (``[B, H, W]``) with the H and W of the frames, the object in frame 0:
                semi-supervised mode.
            validate: whether to look at the values, see ``segment``; front end, flow and refinement do
                not look either.
            progress: called as ``progress(stage, done, total)`` with frames that are done: "network" and "flow"
                ("features" of a front end that takes no ``progress``), "method", "refine". Of several videos, those of
                the whole batch.

        Returns:
            Segmentation with masks ``[T, H, W]`` (``[B, T, H, W]``).

        Raises:
            InputError: frames of a wrong shape, dtype or range, or none at all; a mask of another size, or empty.
            OutOfMemoryError: memory does not suffice; it is an InputError as well.
        """
        frames = plain_tensor(frames)
        if isinstance(frames, Tensor) and frames.ndim == 5:
            return self._forward_videos(frames, lengths, first_mask, validate, progress)
        if lengths is not None:
            raise fail("lengths", "a tensor", "None for a single video", "give the frames a leading dimension B")
        if first_mask is not None and isinstance(frames, Tensor) and frames.ndim == 4:
            check_mask_of_frames(first_mask, frames, validate=validate)
        features = self.features(frames, validate=validate, progress=progress)
        result = self.label(features, frames, first_mask=first_mask, validate=validate, progress=progress)
        return self.refine(result, frames, validate=validate, progress=progress)

    def _forward_videos(
        self,
        frames: Tensor,
        lengths: Tensor | None,
        first_mask: Tensor | None,
        validate: bool,
        progress: Progress | None,
    ) -> Segmentation:
        """``forward`` of a batch; front end and refinement see each video alone."""
        sizes = check_tensor("frames", frames, "B T 3 H W", kind="frames", filled=True)
        if is_open(sizes["B"]):
            remedy = "trace one video, or segment, which takes any number of them"
            raise fail("frames", "a number of videos that is open", "a fixed one in a traced program", remedy)
        if lengths is not None:
            check_tensor("lengths", lengths, "B", kind="int64", sizes={"B": sizes["B"]}, like=frames)
            if not values_readable(lengths):
                raise fail("lengths", "values that cannot be read", "None in a traced program", "trace segment instead")
        if first_mask is not None:
            check_tensor("first_mask", first_mask, "B H W", kind="bool", sizes=sizes, like=frames)
            for mask in first_mask:
                check_mask_of_frames(mask, frames, validate=validate)
        counts = _counts(frames, lengths)
        told = [None if progress is None else _share(progress, counts, number) for number in range(len(counts))]
        features = self._features_of_videos(frames, counts, validate, told)
        result = self.label(
            features, frames, lengths=lengths, first_mask=first_mask, validate=validate, progress=progress
        )
        if self.refinement is None:
            return result
        probability = result.probability.clone()
        for number, count in enumerate(counts):
            part = map_tensors(lambda value, n=number, c=count: value[n][:c], result._replace(track_score=None))
            refined = self.refine(part, frames[number, :count], validate=False, progress=told[number]).probability
            probability[number, :count] = refined if lengths is None else refined * (lengths[number] > 0)
        return with_probability(result, probability)

    def _features_of_videos(
        self, frames: Tensor, counts: list[int], validate: bool, told: list[Progress | None]
    ) -> Features:
        """Features ``[B, T, ...]`` of videos, each alone, 0 where a video has ended."""
        videos = [
            self.features(video[:count], validate=validate, progress=progress)
            for video, count, progress in zip(frames, counts, told, strict=True)
        ]
        t = frames.shape[1]
        padded = [
            [nn.functional.pad(value, (0, 0) * (value.ndim - 1) + (0, t - len(value))) for value in video]
            for video in videos
        ]
        return Features(*(torch.stack(values) for values in zip(*padded, strict=True)))

    def current_config(self) -> Config:
        """The config with the temperature that this module holds, which sharding and loading may exchange."""
        held = self._parameters.get("temperature")
        if held is None or held is self.config.temperature:
            return self.config
        return dataclasses.replace(self.config, temperature=held)

    def label(
        self,
        features: Features,
        frames: Tensor,
        *,
        lengths: Tensor | None = None,
        first_mask: Tensor | None = None,
        validate: bool = True,
        progress: Progress | None = None,
    ) -> Segmentation:
        """The method alone, on the features of ``frames``, of one video or several; masks are as large as these."""
        size, count = (frames.shape[-2], frames.shape[-1]), math.prod(frames.shape[:-3])
        if progress is not None:
            progress("method", 0, count)
        result = segment(
            *features,
            config=self.current_config(),
            lengths=lengths,
            size=size,
            first_mask=first_mask,
            validate=validate,
        )
        if progress is not None:
            progress("method", count, count)
        return result

    def refine(
        self, result: Segmentation, frames: Tensor, *, validate: bool = True, progress: Progress | None = None
    ) -> Segmentation:
        """Mask, probability and confidence after the refinement, if any; ``frames`` are as large as the masks."""
        if self.refinement is None:
            return result
        refinement = self.refinement

        def part(first: int, last: int) -> list[Tensor]:
            refined = refinement(result.probability[first:last], frames[first:last], validate=validate)
            if progress is not None:
                progress("refine", last, len(frames))
            return [refined]

        chunk = self.chunk if progress is None else self.chunk or _SAID
        (probability,) = in_parts(part, len(frames), chunk)
        return with_probability(result, probability)

    def features(self, frames: Tensor, *, validate: bool = True, progress: Progress | None = None) -> Features:
        """Checks frames ``[T, 3, H, W]`` and runs the front end on them, ``chunk`` at a time."""
        sizes = check_tensor("frames", frames, "T 3 H W", kind="frames")
        if any(size == 0 for size in sizes.values()):
            raise fail("frames", f"shape {tuple(frames.shape)}", "at least one frame of at least one pixel")
        if validate:
            check_values("frames", frames, low=0, high=1)
        return Features._make(in_parts(lambda a, b: self._part(frames, a, b, progress), frames.shape[0], self.chunk))

    def _part(self, frames: Tensor, first: int, last: int, progress: Progress | None) -> Features:
        """Features of the frames from ``first`` to before ``last``, with one neighbour for their flow."""
        if torch.compiler.is_compiling():  # the whole clip: its length may be open
            return Features._make(self.front_end(frames))
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


def _counts(frames: Tensor, lengths: Tensor | None) -> list[int]:
    """Frames of each video of a batch that the front end sees, at least one."""
    b, t = frames.shape[:2]
    return [t] * b if lengths is None else [min(max(int(count), 1), t) for count in lengths.tolist()]


def _need_hub() -> None:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise InputError("from_pretrained, save_pretrained: huggingface_hub is missing; pip install 'gpuvos[hub]'")


def _share(progress: Progress, counts: list[int], number: int) -> Progress:
    """Progress of one video of a batch as that of all frames of the batch."""
    before, total = sum(counts[:number]), sum(counts)
    return lambda stage, done, _: progress(stage, before + done, total)


def _told(progress: Progress, start: int, last: int, total: int, stage: str, done: int, _: int) -> None:
    """Progress of a part of a clip as that of the clip; frames seen beside the part do not count."""
    progress(stage, min(start + done, last), total)
