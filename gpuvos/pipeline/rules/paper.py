"""The paper's rule: one track starts the foreground, thresholds give the background, Eq. 7-12."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos import functional as F
from gpuvos.config import Config
from gpuvos.pipeline.rules.base import Reason, StreamWindow
from gpuvos.pipeline.tracking import initial_foreground, track_seeds
from gpuvos.types import Features, Labels, Motion, Regions, Seeds, SeedSets, Segmentation, Tracks


class PaperRule:
    """Labels by the letter of the paper."""

    def saliency(self, features: Features, regions: Regions, config: Config) -> tuple[Tensor, Tensor, Tensor]:
        """Distance of a region's flow to that of the initial background, Eq. 7-8; it is the evidence as well."""
        seeds = regions.seeds
        region_flow = F.region_mean(features.flow, regions.forest.label, config.num_seeds)
        saliency = F.motion_saliency(
            region_flow,
            seeds.objectness,
            seeds.valid,
            num_background=config.num_background,
            squared=config.squared_saliency,
        )
        return region_flow, saliency, saliency

    def label(self, features: Features, regions: Regions, motion: Motion, config: Config) -> Labels:
        """The best track, the initial foreground around it, and the seed sets, Eq. 9-12."""
        del features
        return self.label_track(regions, motion, track_seeds(regions.seeds, motion.saliency, config), config)

    def label_stream(
        self, window: StreamWindow, place: slice, regions: Regions, motion: Motion, config: Config
    ) -> Labels:
        """The same with the tracks through the window."""
        return self.label_track(regions, motion, window.tracks(place), config)

    def label_track(self, regions: Regions, motion: Motion, tracks: Tracks, config: Config) -> Labels:
        """The initial foreground around the foreground seeds of ``tracks``, and the seed sets, Eq. 11-12."""
        seeds = regions.seeds
        initial = initial_foreground(regions, motion, tracks.foreground_seed, config)
        sets = F.seed_sets(
            initial,
            regions.forest.label,
            seeds.objectness,
            motion.saliency,
            seeds.valid,
            tracks.foreground_seed,
            motion.initial_background,
            coverage=config.coverage,
            background_objectness=config.background_objectness,
            background_saliency=config.background_saliency,
        )
        return Labels(*sets, seeds.objectness * motion.saliency, torch.zeros_like(seeds.valid), tracks, initial)

    def under_mask(self, seeds: Seeds, labels: Labels, sets: SeedSets, config: Config) -> None:
        """Only the seeds of frame 0 count (A.1)."""
        del seeds, labels, sets, config

    def soft_weights(self, labels: Labels, regions: Regions, motion: Motion, config: Config) -> tuple[Tensor, Tensor]:
        """The thresholds of Eq. 12 as soft steps; the foreground, Eq. 10-11, stays a choice."""
        background = F.soft_background(
            regions.seeds.objectness,
            motion.saliency,
            labels.foreground,
            regions.seeds.valid,
            softness=config.softness,
            background_objectness=config.background_objectness,
            background_saliency=config.background_saliency,
        )
        return labels.foreground.to(background.dtype), background

    def reasons(self, result: Segmentation, config: Config) -> Tensor:
        """Which part of Eq. 10-12 made a seed what it is."""
        assert result.foreground_seed is not None
        assert result.initial_foreground is not None
        valid, foreground, background = result.seeds.valid, result.foreground, result.background
        number = torch.arange(valid.shape[1], device=valid.device)
        track = number == result.foreground_seed[:, None]
        share = F.region_mean(result.initial_foreground[:, None].float(), result.forest.label, len(number))[..., 0]
        objectness = result.seeds.objectness
        covered = share > config.coverage
        initial = F.initial_background(objectness, valid, num_background=config.num_background)
        dull, quiet = objectness < config.background_objectness, result.saliency < config.background_saliency
        # the first that holds
        cases = (
            (foreground & track, Reason.TRACK),
            (foreground & covered, Reason.COVERED),
            (foreground, Reason.EDITED),
            (background & (track | covered), Reason.EDITED),
            (background & dull, Reason.LOW_OBJECTNESS),
            (background & quiet, Reason.LOW_SALIENCY),
            (background & initial, Reason.INITIAL),
            (background, Reason.EDITED),
            (valid & (track | covered | dull | quiet), Reason.EDITED),
        )
        reason = torch.full(valid.shape, Reason.NONE.value, dtype=torch.int64, device=valid.device)
        for holds, why in reversed(cases):
            reason = torch.where(holds, why.value, reason)
        return reason
