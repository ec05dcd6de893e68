"""Why a mask is as it is: the seed behind every pixel, the reason behind every seed, what to know of every frame."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from gpuvos.config import Config
from gpuvos.editing import check_one_video
from gpuvos.errors import check_positive, check_tensor, fail
from gpuvos.functional.motion import initial_background
from gpuvos.functional.precision import full_precision
from gpuvos.functional.regions import region_mean
from gpuvos.kernels.nearest_seeds import nearest_seeds
from gpuvos.segmenter import _checked_config
from gpuvos.types import Features, Segmentation


class Reason(IntEnum):
    """Why a seed is what it is. The paper's rule gives the second group, the robust rule the third."""

    NONE = 0
    """Neither foreground nor background, or no seed at all."""
    EDITED = 1
    """Not what the rule says: somebody changed it, see ``relabel``."""

    TRACK = 2
    """Foreground: the member of the best track, Eq. 10."""
    COVERED = 3
    """Foreground: the initial foreground covers its region, Eq. 11."""
    LOW_OBJECTNESS = 4
    """Background, Eq. 12."""
    LOW_SALIENCY = 5
    """Background, Eq. 12, with enough objectness."""
    INITIAL = 6
    """Background: an initial one, where Eq. 12 gives none."""

    CONFIDENT = 7
    """Foreground: its smoothed score is high, and enough of its neighbours agree."""
    VOTED = 8
    """Foreground by its neighbours alone."""
    OUTVOTED = 9
    """Background by its neighbours alone."""
    QUIET = 10
    """Background: neither its smoothed score nor its neighbours speak for it."""


class Explanation(NamedTuple):
    """What decided, on the grid of the method."""

    seed: Tensor  # [T, H, W] int64, the nearest seed of either set: it decides; -1 where there is none
    frame: Tensor  # [T] int64, the frame that this seed is of (``Config.adapt_every``)
    margin: (
        Tensor  # [T, H, W] in [0, 1], (far - near) / (far + near), distances to the nearest seed of both sets
    )
    score: Tensor  # [T, K], share of confident neighbours (robust rule) or O(s) M(s) of Eq. 10 (paper's rule)
    track: Tensor  # [T, K] int64, the best track through a seed; -1 for none
    reason: Tensor  # [T, K] int64, a ``Reason``
    still: Tensor  # [T] bool, nothing moves: no seed has any motion saliency
    empty: Tensor  # [T] bool, no seed of the frame is foreground
    occluded: Tensor  # [T] bool, empty, after a frame that is not
    tie: Tensor  # [T] bool, another track through another seed scores (nearly) as high as the best


@full_precision
def explain(
    result: Segmentation, features: Features, *, config: Config | None = None, tie: float = 0.05
) -> Explanation:
    """Explains the segmentation of a video: pixels by seeds, seeds by rules, frames by what is unusual.

    Args:
        result: of ``segment`` for one video, without ``first_mask``; also after ``relabel``, and of a
            ``StreamingSegmenter`` where ``config.adapt_every`` is 1. Flags compare frames of the result alone.
        features: what it was segmented from.
        config: with which.
        tie: tracks tie where the score of one lacks at most this share of the best.

    Returns:
        Explanation.

    Raises:
        InputError: features that are not of this result, a result of several videos.

    Example:
        >>> from gpuvos import VideoSegmenter
        >>> from gpuvos.data import render_clip
        >>> segmenter = VideoSegmenter()
        >>> frames = render_clip("single", num_frames=3, height=64, width=96).frames
        >>> why = explain(segmenter(frames), segmenter.features(frames))
        >>> why.seed.shape, bool(why.still.any())
        (torch.Size([3, 64, 96]), False)
    """
    config = _checked_config(config)
    _check(result, features)
    check_positive("tie", tie, zero=True)
    embedding, t = features.embedding, result.foreground.shape[0]
    frames = torch.arange(t, device=embedding.device)
    source = frames * 0 if config.adapt_every is None else frames - frames % config.adapt_every
    seed, margin = _deciding(embedding, result, source)
    reason = _reasons(result, config)
    best, rival = result.track_score.amax(-1), result.track_score >= (1 - tie) * result.track_score.amax(-1)
    other = (result.tracks >= 0) & (result.tracks != result.foreground_seed[:, None])
    empty = ~result.foreground.any(1)
    return Explanation(
        seed, source, margin, result.seed_score, _through(result), reason, (result.saliency == 0).all(1), empty,
        empty & ((~empty).cumsum(0) > 0), (other & rival).any(1) & (best > 0),
    )  # fmt: skip


def _check(result: Segmentation, features: Features) -> None:
    check_one_video(result)
    if not isinstance(features, tuple) or len(features) != 3:
        raise fail("features", type(features).__name__, "Features(embedding, objectness, flow)")
    t, h, w = result.forest.label.shape
    sizes = {"T": t, "H": h, "W": w, "D": result.seeds.embedding.shape[-1]}
    like = result.seeds.embedding
    check_tensor("features.embedding", features[0], "T D H W", sizes=sizes, like=like)
    check_tensor("features.objectness", features[1], "T H W", sizes=sizes, like=like)
    check_tensor("features.flow", features[2], "T 2 H W", sizes=sizes, like=like)


def _deciding(embedding: Tensor, result: Segmentation, source: Tensor) -> tuple[Tensor, Tensor]:
    """The seed that decides each pixel, and by what margin."""
    near_fg, near_bg, seed_fg, seed_bg = nearest_seeds(
        embedding.detach().flatten(2), result.seeds.embedding[source].detach(), result.foreground[source],
        result.background[source],
    )  # fmt: skip
    seed = torch.where(near_fg < near_bg, seed_fg, seed_bg)
    seed = torch.where(seed < 0, torch.maximum(seed_fg, seed_bg), seed)
    far, near = torch.maximum(near_fg, near_bg).sqrt(), torch.minimum(near_fg, near_bg).sqrt()
    finite = (far - near) / (far + near).clamp(min=torch.finfo(far.dtype).tiny)
    margin = torch.where(far.isinf(), near.isfinite().to(far.dtype), finite)  # one set alone leaves no doubt
    return seed.view_as(result.forest.label), margin.view_as(result.forest.distance)


def _through(result: Segmentation) -> Tensor:
    """The best track through every seed, ``[T, K]``; of equal ones the lowest."""
    k = result.tracks.shape[1]
    order = result.track_score.sort(descending=True, stable=True).indices  # best first
    rank = order.argsort()
    member = result.tracks >= 0
    lowest = torch.full_like(result.tracks, k).scatter_reduce(
        1, result.tracks.clamp(min=0), torch.where(member, rank, k), "amin"
    )
    return torch.where(lowest < k, order[lowest.clamp(max=k - 1)], -1)


def _reasons(result: Segmentation, config: Config) -> Tensor:
    """Reason ``[T, K]`` of every seed."""
    valid, foreground, background = result.seeds.valid, result.foreground, result.background
    if config.rule == "robust":
        chosen = (result.seed_score > config.vote_threshold) & valid
        yes = torch.where(result.confident, Reason.CONFIDENT.value, Reason.VOTED.value)
        no = torch.where(result.confident, Reason.OUTVOTED.value, Reason.QUIET.value)
        reason = torch.where(chosen, yes, no)
        edited = (chosen != foreground) | (chosen == background)
        return torch.where(edited, Reason.EDITED.value, reason).masked_fill(~valid, Reason.NONE.value)
    number = torch.arange(valid.shape[1], device=valid.device)
    track = number == result.foreground_seed[:, None]
    share = region_mean(result.initial[:, None].float(), result.forest.label, len(number))[..., 0]
    objects, saliency = result.seeds.objectness, result.saliency
    covered = share > config.coverage
    start = initial_background(objects, valid, num_background=config.num_background)
    dull, quiet = objects < config.background_objectness, saliency < config.background_saliency
    # the first that holds
    cases = (
        (foreground & track, Reason.TRACK), (foreground & covered, Reason.COVERED), (foreground, Reason.EDITED),
        (background & (track | covered), Reason.EDITED), (background & dull, Reason.LOW_OBJECTNESS),
        (background & quiet, Reason.LOW_SALIENCY), (background & start, Reason.INITIAL),
        (background, Reason.EDITED), (valid & (track | covered | dull | quiet), Reason.EDITED),
    )  # fmt: skip
    reason = torch.full_like(result.tracks, Reason.NONE.value)
    for holds, why in reversed(cases):
        reason = torch.where(holds, why.value, reason)
    return reason
