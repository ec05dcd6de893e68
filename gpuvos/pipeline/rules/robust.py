"""The robust rule, ours: seeds that look alike anywhere in the video vote on what they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos import functional as F
from gpuvos.config import Config
from gpuvos.functional.camera import camera_weight
from gpuvos.functional.regions import region_means
from gpuvos.functional.relaxed import soft_below
from gpuvos.functional.voting import Vote, take_vote
from gpuvos.pipeline.rules.base import Reason, StreamWindow
from gpuvos.pipeline.tracking import initial_foreground, track_seeds
from gpuvos.types import Features, Labels, Motion, Regions, Seeds, SeedSets, Segmentation, Tracks


class RobustRule:
    """Labels by a vote on objectness and on the motion that a camera model leaves over.

    It uses neither tracks nor the initial foreground (Eq. 9-11); ``Config.track_seeds`` adds them to its labels.
    """

    def saliency(self, features: Features, regions: Regions, config: Config) -> tuple[Tensor, Tensor, Tensor]:
        """Size of the flow that the camera model leaves over; the evidence is ``sqrt(saliency * objectness)``."""
        label, valid = regions.forest.label, regions.seeds.valid
        # the object should not bend the camera model
        residual = F.residual_flow(features.flow, weight=camera_weight(features.objectness))
        pixels = (features.flow, residual, features.objectness[:, :, None])
        region_flow, rest, objectness = region_means(pixels, label, config.num_seeds)
        length = rest.norm(dim=-1)
        length = length * (length.amax(-1, keepdim=True) >= config.min_motion)
        saliency = F.normalize_saliency(length, valid)
        squared = saliency * objectness[..., 0].clamp(min=0)
        tiny = torch.finfo(squared.dtype).tiny  # the root of 0 has no gradient
        return region_flow, saliency, squared.clamp(min=tiny).sqrt().masked_fill(squared == 0, 0)

    def label(self, features: Features, regions: Regions, motion: Motion, config: Config) -> Labels:
        """The vote over whole videos."""
        del features
        seeds = regions.seeds
        vote = take_vote(
            seeds.embedding, motion.evidence, seeds.valid, **vote_options(config), softness=config.softness
        )
        labels = _labels(vote, seeds.valid, config)
        if not config.track_seeds:
            return labels
        return _with_tracks(labels, regions, motion, track_seeds(seeds, motion.saliency, config), config)

    def label_stream(
        self, window: StreamWindow, place: slice, regions: Regions, motion: Motion, config: Config
    ) -> Labels:
        """The vote of the seeds that a stream remembers."""
        labels = _labels(window.vote(place), regions.seeds.valid, config)
        if not config.track_seeds:
            return labels
        return _with_tracks(labels, regions, motion, window.tracks(place), config)

    def under_mask(self, seeds: Seeds, labels: Labels, sets: SeedSets, config: Config) -> Tensor | None:
        """Seeds that the first mask and the vote take for foreground together, where the vote counts.

        ``(1 - w) P + w min(1, s / 2v) > 1 / 2``: P is Eq. 15 of the seed's own embedding under the sets of frame 0, s
        the share of its neighbours that are confident, v ``config.vote_threshold`` and w ``config.mask_vote``. At s = v
        the vote is undecided, as the mask is at P = 1/2.
        """
        if not config.mask_vote:
            return None
        points = seeds.embedding.transpose(-1, -2).unsqueeze(-2)  # an image of one row, [B, T, D, 1, K]
        alike = F.foreground_probability(points, *sets, temperature=config.temperature).squeeze(-2)
        tiny = torch.finfo(labels.score.dtype).tiny
        voted = (labels.score / max(2 * config.vote_threshold, tiny)).clamp(max=1)
        return ((1 - config.mask_vote) * alike + config.mask_vote * voted > 0.5) & seeds.valid

    def soft_weights(self, labels: Labels, regions: Regions, motion: Motion, config: Config) -> tuple[Tensor, Tensor]:
        """The threshold of the vote as a soft step; that of confidence is soft in the vote already."""
        del motion
        invalid = ~regions.seeds.valid
        rest = soft_below(labels.score, config.vote_threshold, softness=config.softness)
        return (1 - rest).masked_fill(invalid, 0), rest.masked_fill(invalid, 0)

    def reasons(self, result: Segmentation, config: Config) -> Tensor:
        """Whether a seed was confident itself, and what its neighbours said."""
        valid, foreground, background = result.seeds.valid, result.foreground, result.background
        chosen = (result.seed_score > config.vote_threshold) & valid
        yes = torch.where(result.confident, Reason.CONFIDENT.value, Reason.VOTED.value)
        no = torch.where(result.confident, Reason.OUTVOTED.value, Reason.QUIET.value)
        reason = torch.where(chosen, yes, no)
        edited = (chosen != foreground) | (chosen == background)
        return torch.where(edited, Reason.EDITED.value, reason).masked_fill(~valid, Reason.NONE.value)


def vote_options(config: Config) -> dict[str, Any]:
    """Options of ``functional.voting.take_vote`` by their names there."""
    return {**neighbor_options(config), "frames": config.smoothing_frames, "confident_share": config.confident_share}


def neighbor_options(config: Config) -> dict[str, Any]:
    """Options of the search for neighbours by their names in ``functional.voting``."""
    return {"neighbors": config.smoothing_neighbors, "largest_share": config.smoothing_share}


def _labels(vote: Vote, valid: Tensor, config: Config) -> Labels:
    """Foreground is what enough of the neighbours speak for, background the rest."""
    chosen = (vote.share > config.vote_threshold) & valid
    confident = vote.confident > 0.5 if config.softness else vote.confident
    return Labels(chosen, valid ^ chosen, vote.share, confident)


def _with_tracks(labels: Labels, regions: Regions, motion: Motion, tracks: Tracks, config: Config) -> Labels:
    initial = initial_foreground(regions, motion, tracks.foreground_seed, config)
    return labels._replace(tracks=tracks, initial_foreground=initial)
