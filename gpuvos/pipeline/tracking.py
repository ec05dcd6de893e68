"""Tracks of the seeds and the initial foreground that grows from the best of them, Eq. 9-11."""

from __future__ import annotations

from torch import Tensor

from gpuvos import functional as F
from gpuvos.config import Config
from gpuvos.types import Motion, Regions, Seeds, Segmentation, Tracks


def track_seeds(seeds: Seeds, saliency: Tensor, config: Config) -> Tracks:
    """Links the seeds to tracks and ranks these, Eq. 9-10.

    Args:
        seeds: the seeds of all frames of a video (any leading dimensions).
        saliency: ``[T, K]`` motion saliency of the seeds.
        config: parameters of the method.
    """
    index = F.link_tracks(seeds, link_by=config.link_by)
    score = F.track_scores(index, seeds.objectness, saliency, rank_by=config.rank_by)
    return Tracks(index, score, F.best_track(index, score))


def tracks_of(result: Segmentation, config: Config) -> Tracks:
    """The tracks of a result, found now where its rule did not need them."""
    if result.tracks is None or result.track_score is None or result.foreground_seed is None:
        return track_seeds(result.seeds, result.saliency, config)
    return Tracks(result.tracks, result.track_score, result.foreground_seed)


def initial_foreground(regions: Regions, motion: Motion, foreground_seed: Tensor, config: Config) -> Tensor:
    """Pixels nearer to the foreground seed ``[T]`` than to the initial background, Eq. 11: ``[T, H, W]`` bool."""
    if config.distance == "minimax":
        return F.initial_foreground(regions.forest, foreground_seed, motion.initial_background)
    return F.initial_foreground_shortest(
        regions.weights,
        regions.seeds.index,
        foreground_seed,
        motion.initial_background,
        num_background=config.num_background,
    )
