"""Labels of the seeds by either rule, and their weights in place of labels for training (``Config.softness``)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gpuvos import functional as F
from gpuvos.config import Config
from gpuvos.functional.softness import soft_below
from gpuvos.functional.voting import Vote
from gpuvos.types import Forest, Seeds


class Labels(NamedTuple):
    """What the seeds of frames are, ``[T, K]`` each (any leading dimensions)."""

    foreground: Tensor  # bool
    background: Tensor  # bool
    score: Tensor  # share of confident neighbours (robust rule), O(s) M(s) of Eq. 10 (paper's rule)
    confident: Tensor  # bool; none with the paper's rule


def vote_options(config: Config) -> dict[str, Any]:
    """Options of ``take_vote``."""
    return {
        "neighbors": config.smoothing_neighbors,
        "largest_share": config.smoothing_share,
        "frames": config.smoothing_frames,
        "confident_share": config.confident_share,
    }


def labels_of_vote(vote: Vote, valid: Tensor, config: Config) -> Labels:
    """Robust rule: foreground is what enough of the neighbours speak for, background the rest."""
    chosen = (vote.share > config.vote_threshold) & valid
    confident = vote.confident > 0.5 if config.softness else vote.confident
    return Labels(chosen, valid & ~chosen, vote.share, confident)


def labels_of_paper(
    initial: Tensor,
    seeds: Seeds,
    forest: Forest,
    saliency: Tensor,
    foreground_seed: Tensor,
    start: Tensor,
    config: Config,
) -> Labels:
    """Paper's rule, Eq. 12."""
    sets = F.seed_sets(
        initial, forest.label, seeds.objectness, saliency, seeds.valid, foreground_seed, start,
        coverage=config.coverage, background_objectness=config.background_objectness,
        background_saliency=config.background_saliency,
    )  # fmt: skip
    return Labels(*sets, seeds.objectness * saliency, torch.zeros_like(seeds.valid))


def soft_weights(labels: Labels, seeds: Seeds, saliency: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """How much seeds are foreground and background: the rule's thresholds as steps of the width ``config.softness``.

    Robust rule: both of its thresholds, on the smoothed evidence (in the vote already) and on the share of confident
    neighbours. Paper: those of Eq. 12; its foreground, Eq. 10-11, stays a choice.

    Args:
        labels: of ``labels_of_vote`` or ``labels_of_paper``.
        seeds: Seeds of a sequence (any leading dimensions).
        saliency: ``[T, K]``.
        config: its ``softness`` is above 0.

    Returns:
        Two times ``[T, K]`` in [0, 1]; 0 where invalid.
    """
    if config.rule == "robust":
        rest = soft_below(labels.score, config.vote_threshold, softness=config.softness)
        return (1 - rest).masked_fill(~seeds.valid, 0), rest.masked_fill(~seeds.valid, 0)
    background = F.soft_background(
        seeds.objectness, saliency, labels.foreground, seeds.valid, softness=config.softness,
        background_objectness=config.background_objectness, background_saliency=config.background_saliency,
    )  # fmt: skip
    return labels.foreground.to(background.dtype), background
