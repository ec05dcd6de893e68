"""A clip at a glance: numbers and flags of every frame."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from gpuvos.config import Config
from gpuvos.interactive.explain import Flags, frame_flags
from gpuvos.interactive.session import config_of
from gpuvos.pipeline.tracking import tracks_of
from gpuvos.types import Segmentation


class Timeline(NamedTuple):
    """What becomes of the object from frame to frame."""

    share: Tensor  # [T] in [0, 1], of the picture that the mask covers
    motion: Tensor  # [T] pixels a frame, mean speed of the foreground regions against the ground; 0 without any
    confidence: Tensor  # [T] in [0, 1], mean over the mask; over the picture where the mask is empty
    flags: Flags  # [T] bool each


def timeline(result: Segmentation, *, config: Config | None = None, tie: float = 0.05) -> Timeline:
    """Sums every frame up: how large the object is, how fast, how sure the mask is, and what is unusual.

    Args:
        result: a result of ``segment`` for one video, or some frames of a stream.
        config: parameters it was segmented with; those that the result carries where absent.
        tie: see ``explain``.

    Returns:
        Timeline.

    Raises:
        InputError: the result is of several videos.

    Example:
        >>> import torch
        >>> from gpuvos import VideoSegmenter
        >>> found = timeline(VideoSegmenter()(torch.zeros(2, 3, 32, 48, dtype=torch.uint8)))
        >>> found.share.tolist(), found.flags.still.tolist()
        ([0.0, 0.0], [True, True])
    """
    config = config_of(result, config)
    tracks = tracks_of(result, config)
    mask = result.mask.flatten(1)
    counted = mask | ~mask.any(1, keepdim=True)
    confidence = (result.confidence.flatten(1).double() * counted).sum(1) / counted.sum(1)
    flow = result.region_flow
    speed = (flow - flow.median(1, keepdim=True).values).norm(dim=-1)  # most regions are the ground's
    members = result.foreground & result.seeds.valid
    motion = (speed * members).sum(1) / members.sum(1).clamp(min=1)
    return Timeline(mask.double().mean(1), motion, confidence, frame_flags(result, tracks, tie=tie))
