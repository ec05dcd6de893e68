"""The steps of the method, in the paper's order. Everything that runs the method runs these.

Every tensor has two leading dimensions here: B videos of T frames.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gpuvos import functional as F
from gpuvos.config import Config
from gpuvos.functional.edges import embedding_graph
from gpuvos.pipeline.rules import RULES
from gpuvos.types import Features, Labels, Motion, Regions, Seeds


def present_frames(embedding: Tensor, lengths: Tensor | None) -> Tensor | None:
    """Which frames of a ragged batch ``[B, T, D, H, W]`` belong to their videos, ``[B, T]`` bool; None: all do."""
    if lengths is None:
        return None
    return torch.arange(embedding.shape[1], device=embedding.device) < lengths[:, None]


def regions(features: Features, present: Tensor | None, config: Config) -> Regions:
    """Edge map, candidate points, diverse seeds and their geodesic regions, Eq. 4-6.

    Args:
        features: embedding ``[B, T, D, H, W]``, objectness ``[B, T, H, W]``.
        present: ``[B, T]`` bool; other frames have no seed. None: all are.
        config: parameters of the method.
    """
    weights, candidates = embedding_graph(
        features.embedding, reduce=config.edge_reduce, temperature=config.temperature, window=config.window
    )
    if present is not None:
        candidates = candidates & present[..., None, None]
    seeds = F.select_seeds(features.embedding, features.objectness, candidates, num_seeds=config.num_seeds)
    grow = F.minimax_forest if config.distance == "minimax" else F.shortest_forest
    return Regions(seeds, weights, grow(weights, seeds.index, seeds.valid))


def motion(features: Features, regions: Regions, config: Config) -> Motion:
    """Region flow, motion saliency and the initial background, Eq. 7-8. How saliency is measured is the rule's.

    Args:
        features: objectness ``[B, T, H, W]``, flow ``[B, T, 2, H, W]``.
        regions: the regions of these features.
        config: parameters of the method.
    """
    seeds = regions.seeds
    background = F.initial_background(seeds.objectness, seeds.valid, num_background=config.num_background)
    region_flow, saliency, evidence = RULES[config.rule].saliency(features, regions, config)
    return Motion(region_flow, saliency, evidence, background)


def probability(features: Features, regions: Regions, motion: Motion, labels: Labels, config: Config) -> Tensor:
    """Soft foreground probability, Eq. 13-15, with seed sets renewed every ``adapt_every`` frames: ``[B, T, H, W]``."""
    source = config.source_frame(torch.arange(features.embedding.shape[1], device=features.embedding.device))
    sets, respond = labels[:2], F.foreground_probability
    if config.softness:
        sets = RULES[config.rule].soft_weights(labels, regions, motion, config)
        respond = F.soft_foreground_probability
    foreground, background = (members[:, source] for members in sets)
    seeds = regions.seeds.embedding[:, source]
    return respond(features.embedding, seeds, foreground, background, temperature=config.temperature)


def mask_sets(embedding: Tensor, label: Tensor, first_mask: Tensor, config: Config) -> tuple[Tensor, Tensor, Tensor]:
    """Seeds and seed sets ``[B, 1, K, ...]`` of frame 0 from its mask ``[B, h, w]``: semi-supervised mode (A.1).

    Args:
        embedding: ``[B, 1, D, H, W]`` of frame 0.
        label: ``[B, 1, H, W]`` its regions.
        first_mask: ``[B, h, w]`` bool, of any size.
        config: parameters of the method.
    """
    share = interpolate(first_mask[:, None].float(), size=embedding.shape[-2:], mode="area")
    mask = share >= share.amax((-2, -1), keepdim=True).clamp(max=0.5).clamp(min=torch.finfo(share.dtype).tiny)
    return F.mask_seed_sets(embedding, label, mask, config.num_seeds, coverage=config.mask_coverage)


def probability_from_mask(
    features: Features, regions: Regions, labels: Labels, first_mask: Tensor, config: Config
) -> tuple[Labels, Tensor]:
    """Probability of every frame under a mask of frame 0 (A.1), and the seed sets behind it.

    Args:
        features: embedding ``[B, T, D, H, W]``.
        regions: the regions of these features.
        labels: what the rule says without the mask.
        first_mask: ``[B, h, w]`` bool, of any size.
        config: parameters of the method.
    """
    sets = mask_sets(features.embedding[:, :1], regions.forest.label[:, :1], first_mask, config)
    return probability_from_sets(features.embedding, regions.seeds, labels, sets, config)


def probability_from_sets(
    embedding: Tensor, seeds: Seeds, labels: Labels, sets: tuple[Tensor, Tensor, Tensor], config: Config
) -> tuple[Labels, Tensor]:
    """Probability of frames ``[B, T, D, H, W]`` under the seeds and seed sets of frame 0 (``mask_sets``), Eq. 13-15.

    The seeds of each frame join them where the rule labels those as well (``Rule.under_mask``).
    """
    t = embedding.shape[1]
    reference, foreground, background = (value.expand(-1, t, *value.shape[2:]) for value in sets)
    known = labels._replace(foreground=foreground, background=background)
    own = RULES[config.rule].under_mask(seeds, labels, (reference, foreground, background), config)
    if own is not None:
        known = labels._replace(foreground=own, background=seeds.valid & ~own)
        reference = torch.cat((reference, seeds.embedding), -2)
        foreground = torch.cat((foreground, known.foreground), -1)
        background = torch.cat((background, known.background), -1)
    probability = F.foreground_probability(embedding, reference, foreground, background, temperature=config.temperature)
    return known, probability
