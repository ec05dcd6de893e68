"""Why a mask is as it is: the seed behind every pixel, the reason behind every seed, what to know of every frame."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gpuvos.config import Config
from gpuvos.errors import check_positive, check_tensor, fail
from gpuvos.functional.precision import full_precision
from gpuvos.interactive.session import config_of
from gpuvos.kernels.nearest_seeds import nearest_seeds
from gpuvos.pipeline.rules import RULES
from gpuvos.pipeline.tracking import tracks_of
from gpuvos.types import Features, Segmentation, Tracks


class Explanation(NamedTuple):
    """What decided, on the grid of the method.

    Pixels are explained by the seed sets of their own frame. With ``Config.adjacent_sets`` those of the frames around
    it have a say in the mask as well, which may differ where they disagree.
    """

    seed: Tensor  # [T, H, W] int64, the nearest seed of either set: it decides; -1 where there is none
    frame: Tensor  # [T] int64, the frame that this seed is of (``Config.adapt_every``)
    margin: Tensor  # [T, H, W] in [0, 1], (far - near) / (far + near), distances to the nearest seed of both sets
    score: Tensor  # [T, K], share of confident neighbours (robust rule) or O(s) M(s) of Eq. 10 (paper's rule)
    track: Tensor  # [T, K] int64, the best track through a seed; -1 for none
    reason: Tensor  # [T, K] int64, a ``Reason``
    still: Tensor  # [T] bool, nothing moves: no seed has any motion saliency
    empty: Tensor  # [T] bool, no seed of the frame is foreground
    occluded: Tensor  # [T] bool, empty, after a frame that is not
    tie: Tensor  # [T] bool, another track through another seed scores (nearly) as high as the best


class Flags(NamedTuple):
    """What is unusual about each frame, ``[T]`` bool; ``Explanation`` says what each means."""

    still: Tensor
    empty: Tensor
    occluded: Tensor
    tie: Tensor


@full_precision
def explain(
    result: Segmentation, features: Features, *, config: Config | None = None, tie: float = 0.05
) -> Explanation:
    """Explains the segmentation of a video: pixels by seeds, seeds by rules, frames by what is unusual.

    Args:
        result: a result of ``segment`` for one video, made without ``first_mask``. It may have been relabelled, or come
            from a ``StreamingSegmenter`` whose ``config.adapt_every`` is 1. Flags only compare frames of the result.
        features: the features that the result was segmented from.
        config: parameters it was segmented with; those that the result carries where absent.
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
    config = config_of(result, config)
    _check(result, features)
    check_positive("tie", tie, zero=True)
    embedding, t = features.embedding, result.foreground.shape[0]
    source = config.source_frame(torch.arange(t, device=embedding.device))
    seed, margin = _deciding(embedding, result, source)
    tracks = tracks_of(result, config)
    flags = frame_flags(result, tracks, tie=tie)
    return Explanation(
        seed=seed,
        frame=source,
        margin=margin,
        score=result.seed_score,
        track=tracks_through(tracks),
        reason=RULES[config.rule].reasons(result, config),
        still=flags.still,
        empty=flags.empty,
        occluded=flags.occluded,
        tie=flags.tie,
    )


def frame_flags(result: Segmentation, tracks: Tracks, *, tie: float = 0.05) -> Flags:
    """What is unusual about the frames of a result.

    Args:
        result: a result of ``segment`` for one video, or the frames of a stream.
        tracks: its tracks; the scores may be ``[T, K]``, one row a frame, as those of a stream are.
        tie: tracks tie where the score of one lacks at most this share of the best.
    """
    best = tracks.score.amax(-1, keepdim=True)
    rival = tracks.score >= (1 - tie) * best
    other = (tracks.index >= 0) & (tracks.index != tracks.foreground_seed[:, None])
    empty = ~result.foreground.any(1)
    return Flags(
        still=(result.saliency == 0).all(1),
        empty=empty,
        occluded=empty & ((~empty).cumsum(0) > 0),
        tie=(other & rival & (best > 0)).any(1),
    )


def _check(result: Segmentation, features: Features) -> None:
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
        embedding.detach().flatten(2),
        result.seeds.embedding[source].detach(),
        result.foreground[source],
        result.background[source],
    )
    seed = torch.where(near_fg < near_bg, seed_fg, seed_bg)
    seed = torch.where(seed < 0, torch.maximum(seed_fg, seed_bg), seed)
    far, near = torch.maximum(near_fg, near_bg).sqrt(), torch.minimum(near_fg, near_bg).sqrt()
    finite = (far - near) / (far + near).clamp(min=torch.finfo(far.dtype).tiny)
    margin = torch.where(far.isinf(), near.isfinite().to(far.dtype), finite)  # one set alone leaves no doubt
    return seed.view_as(result.forest.label), margin.view_as(result.forest.distance)


def tracks_through(tracks: Tracks) -> Tensor:
    """The best track through every seed, ``[T, K]``; of equal ones the lowest."""
    k = tracks.index.shape[1]
    order = tracks.score.sort(descending=True, stable=True).indices  # best first
    rank = order.argsort()
    member = tracks.index >= 0
    lowest = torch.full_like(tracks.index, k).scatter_reduce(
        1, tracks.index.clamp(min=0), torch.where(member, rank, k), "amin"
    )
    return torch.where(lowest < k, order[lowest.clamp(max=k - 1)], -1)
