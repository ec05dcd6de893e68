"""The steps of the method, in the paper's order. Everything that runs the method runs these.

Every tensor has two leading dimensions here: B videos of T frames.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gpuvos import functional as F
from gpuvos.config import Config
from gpuvos.functional.edges import embedding_graph
from gpuvos.functional.probability import join_probabilities
from gpuvos.pipeline.rules import RULES
from gpuvos.types import Features, Labels, Motion, Regions, Seeds, SeedSets


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


def probability(
    features: Features,
    regions: Regions,
    motion: Motion,
    labels: Labels,
    config: Config,
    lengths: Tensor | None = None,
) -> Tensor:
    """Soft foreground probability ``[B, T, H, W]``, Eq. 13-15, under the sets of ``config.source_frames``.

    Args:
        features: embedding ``[B, T, D, H, W]``.
        regions: the regions of these features.
        motion: the motion of these regions.
        labels: what the rule says of their seeds.
        config: parameters of the method.
        lengths: ``[B]`` frames of each video; None: T.
    """
    foreground, background = labels[:2]
    if config.softness:
        foreground, background = RULES[config.rule].soft_weights(labels, regions, motion, config)
    sets = SeedSets(regions.seeds.embedding, foreground, background)
    return probability_under(features.embedding, sets, config, source_frames(features.embedding, config, lengths))


def source_frames(embedding: Tensor, config: Config, lengths: Tensor | None = None) -> Tensor:
    """``config.source_frames`` of the frames of ``[B, T, D, H, W]``: ``[n, T]``, with lengths ``[n, B, T]``."""
    count = embedding.shape[1]
    number = torch.arange(count, device=embedding.device)
    return config.source_frames(number, count - 1 if lengths is None else lengths[:, None] - 1)


def probability_under(embedding: Tensor, sets: SeedSets, config: Config, sources: Tensor) -> Tensor:
    """Eq. 15 under several seed sets, joined to one probability ``[B, T, H, W]`` (``join_probabilities``).

    Args:
        embedding: ``[B, T, D, H, W]``.
        sets: of S frames, ``[B, S, K, ...]``.
        config: parameters of the method.
        sources: int64 ``[n, T]`` or ``[n, B, T]``, for every frame the n of the S frames whose sets are meant.
    """
    respond = F.soft_foreground_probability if config.softness else F.foreground_probability
    temperature = config.temperature
    if not isinstance(temperature, Tensor):  # on the device once
        dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
        temperature = embedding.new_full((), temperature, dtype=dtype)
    if sources.ndim == 2:
        chosen = [value[:, sources] for value in sets]  # [B, n, T, K, ...]
    else:
        video = torch.arange(len(embedding), device=embedding.device)[:, None, None]
        chosen = [value[video, sources.transpose(0, 1)] for value in sets]
    each = (SeedSets(*(value[:, n] for value in chosen)) for n in range(len(sources)))
    return join_probabilities([respond(embedding, *one, temperature=temperature) for one in each])


def mask_sets(embedding: Tensor, label: Tensor, first_mask: Tensor, config: Config) -> SeedSets:
    """Seeds and seed sets ``[B, 1, K, ...]`` of frame 0 from its mask ``[B, h, w]``: semi-supervised mode (A.1).

    Args:
        embedding: ``[B, 1, D, H, W]`` of frame 0.
        label: ``[B, 1, H, W]`` its regions.
        first_mask: ``[B, h, w]`` bool, of any size.
        config: parameters of the method.
    """
    share = interpolate(first_mask[:, None].float(), size=embedding.shape[-2:], mode="area")
    mask = share >= share.amax((-2, -1), keepdim=True).clamp(max=0.5).clamp(min=torch.finfo(share.dtype).tiny)
    return SeedSets(*F.mask_seed_sets(embedding, label, mask, config.num_seeds, coverage=config.mask_coverage))


def probability_from_mask(
    features: Features,
    regions: Regions,
    labels: Labels,
    first_mask: Tensor,
    config: Config,
    lengths: Tensor | None = None,
) -> tuple[Labels, Tensor]:
    """Probability of every frame under a mask of frame 0 (A.1), and the labels of its seeds.

    Args:
        features: embedding ``[B, T, D, H, W]``.
        regions: the regions of these features.
        labels: what the rule says without the mask.
        first_mask: ``[B, h, w]`` bool, of any size.
        config: parameters of the method.
        lengths: ``[B]`` frames of each video; None: T.
    """
    first = mask_sets(features.embedding[:, :1], regions.forest.label[:, :1], first_mask, config)
    known, sets = sets_under_mask(regions.seeds, labels, first, config)
    under_mask = config_under_mask(config)
    sources = source_frames(features.embedding, under_mask, lengths)
    return known, probability_under(features.embedding, sets, under_mask, sources)


def config_under_mask(config: Config) -> Config:
    """The config of Eq. 13-15 with ``sets_under_mask``: new sets in every frame or one for all, and no soft ones."""
    return replace(config, adapt_every=1 if config.mask_vote else None, softness=0.0)


def sets_under_mask(seeds: Seeds, labels: Labels, first: SeedSets, config: Config) -> tuple[Labels, SeedSets]:
    """Labels and seed sets of frames ``[B, T, ...]`` under those of frame 0 (``mask_sets``).

    The seeds of each frame join them where the rule labels those as well (``Rule.under_mask``).
    """
    t = labels.foreground.shape[1]
    sets = SeedSets(*(value.expand(-1, t, *value.shape[2:]) for value in first))
    known = labels._replace(foreground=sets.foreground, background=sets.background)
    own = RULES[config.rule].under_mask(seeds, labels, sets, config)
    if own is None:
        return known, sets
    known = labels._replace(foreground=own, background=seeds.valid & ~own)
    joined = (
        torch.cat((sets.embedding, seeds.embedding), -2),
        torch.cat((sets.foreground, known.foreground), -1),
        torch.cat((sets.background, known.background), -1),
    )
    return known, SeedSets(*joined)
