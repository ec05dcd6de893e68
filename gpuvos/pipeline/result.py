"""Results put together, resized, cut and joined."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gpuvos.config import Config
from gpuvos.errors import fail
from gpuvos.functional.batch import merge_leading
from gpuvos.types import Labels, Motion, Regions, Segmentation, map_tensors


def build_result(
    probability: Tensor,
    regions: Regions,
    motion: Motion,
    labels: Labels,
    config: Config,
    size: tuple[int, int] | None,
) -> Segmentation:
    """Puts a Segmentation together, with mask and probability at ``size`` (of the grid where it is None)."""
    probability = resize(probability, size)
    tracks = labels.tracks
    return Segmentation(
        mask=probability > 0.5,
        probability=probability,
        confidence=torch.rsub(probability, 1, alpha=2).abs_(),
        seeds=regions.seeds,
        forest=regions.forest,
        foreground=labels.foreground,
        background=labels.background,
        region_flow=motion.region_flow,
        saliency=motion.saliency,
        seed_score=labels.score,
        confident=labels.confident,
        tracks=None if tracks is None else tracks.index,
        track_score=None if tracks is None else tracks.score,
        foreground_seed=None if tracks is None else tracks.foreground_seed,
        initial_foreground=labels.initial_foreground,
        config=None if torch.compiler.is_compiling() else config,
    )


def resize(probability: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Brings ``[B, T, H, W]`` to ``size``, bilinear."""
    if size is None:
        return probability
    flat = interpolate(merge_leading(probability, 2)[:, None], size=size, mode="bilinear", align_corners=False)
    return flat.clamp_(0, 1).reshape(*probability.shape[:2], *size)


def with_probability(result: Segmentation, probability: Tensor) -> Segmentation:
    """The result with another probability, and the mask and confidence that follow from it."""
    confidence = torch.rsub(probability, 1, alpha=2).abs_()
    return result._replace(mask=probability > 0.5, probability=probability, confidence=confidence)


def first_video(result: Segmentation) -> Segmentation:
    """The first video of a batch."""
    cut: Segmentation = map_tensors(lambda value: value[0], result)
    return cut


def one_frame(result: Segmentation, number: int) -> Segmentation:
    """One frame of a Segmentation, as a Segmentation of T = 1.

    Args:
        result: the Segmentation of one video.
        number: the frame to cut out. Scores of tracks belong to no frame and stay as they are.

    Raises:
        InputError: there is no such frame.

    Example:
        >>> from gpuvos import VideoSegmenter
        >>> whole = VideoSegmenter()(torch.zeros(3, 3, 32, 48, dtype=torch.uint8))
        >>> one_frame(whole, 2).mask.shape
        torch.Size([1, 32, 48])
    """
    t = result.mask.shape[0]
    if not 0 <= number < t:
        raise fail("number", str(number), f"a frame in [0, {t - 1}]")
    cut: Segmentation = map_tensors(lambda value: value[number : number + 1], result._replace(track_score=None))
    return cut._replace(track_score=result.track_score)


def join_frames(parts: list[Any]) -> Any:
    """Joins named tuples of tensors ``[1, 1, ...]`` along T."""
    return map_tensors(lambda *values: torch.cat(values, 1), *parts)


def check_one_video(result: object) -> Segmentation:
    """Returns ``result``; raises InputError unless it is the Segmentation of one video."""
    if not isinstance(result, Segmentation) or result.mask.ndim != 3:
        raise fail("result", type(result).__name__, "a Segmentation of one video")
    return result
