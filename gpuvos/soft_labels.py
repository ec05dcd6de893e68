"""Weights of the seeds in place of their labels, for training: ``Config.softness``."""

from __future__ import annotations

from torch import Tensor

from gpuvos import functional as F
from gpuvos.config import Config
from gpuvos.functional.softness import soft_below
from gpuvos.functional.voting import take_vote
from gpuvos.types import Seeds


def soft_sets(
    seeds: Seeds, saliency: Tensor, evidence: Tensor, foreground: Tensor, config: Config
) -> tuple[Tensor, Tensor]:
    """How much seeds are foreground and background: the rule's thresholds as steps of a width.

    Robust rule: both of its thresholds, on the smoothed evidence and on the share of confident neighbours. Paper:
    those of Eq. 12; its foreground, Eq. 10-11, stays a choice.

    Args:
        seeds: Seeds of a sequence (any leading dimensions).
        saliency: ``[T, K]``.
        evidence: ``[T, K]``, what the robust rule votes on.
        foreground: ``[T, K]`` bool, as chosen.
        config: its ``softness`` is above 0.

    Returns:
        Two times ``[T, K]`` in [0, 1]; 0 where invalid.
    """
    if config.rule == "robust":
        share = take_vote(
            seeds.embedding, evidence, seeds.valid, neighbors=config.smoothing_neighbors,
            largest_share=config.smoothing_share, frames=config.smoothing_frames,
            confident_share=config.confident_share, softness=config.softness,
        ).share  # fmt: skip
        rest = soft_below(share, config.vote_threshold, softness=config.softness)
        return (1 - rest).masked_fill(~seeds.valid, 0), rest.masked_fill(~seeds.valid, 0)
    background = F.soft_background(
        seeds.objectness, saliency, foreground, seeds.valid, softness=config.softness,
        background_objectness=config.background_objectness, background_saliency=config.background_saliency,
    )  # fmt: skip
    return foreground.to(background.dtype), background
