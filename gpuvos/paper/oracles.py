"""Where accuracy is lost: one decision of the method after the other is taken by the truth."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gpuvos import functional as F
from gpuvos.config import Config, checked_config
from gpuvos.pipeline.rules import PaperRule
from gpuvos.pipeline.rules.robust import vote_options
from gpuvos.pipeline.tracking import tracks_of
from gpuvos.types import Motion, Regions, Segmentation

ORACLES = {
    "oracle-track": "true foreground track",
    "oracle-objectness": "true objectness",
    "oracle-seeds": "true labels of the seeds",
    "oracle-regions": "true labels of the regions",
}


def grid_truth(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """Truth ``[A, H, W]`` on the grid: the cells that the object covers by more than half, ``[A, h, w]`` bool.

    Example:
        >>> grid_truth(torch.tensor([[[True, True, False, False]]]), (1, 2))
        tensor([[[ True, False]]])
    """
    return torch.cat(
        [interpolate(part[:, None].float(), size=grid, mode="area")[:, 0] > 0.5 for part in torch.split(mask, 16)]
    )


def enlarge(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Values ``[A, h, w]`` at another size, bilinear, as the method enlarges probabilities."""
    parts = [
        interpolate(part[:, None], size=size, mode="bilinear", align_corners=False)[:, 0].clamp(0, 1)
        for part in torch.split(values, 16)
    ]
    return torch.cat(parts)


def seeds_on(result: Segmentation, truth: Tensor, annotated: Tensor) -> Tensor:
    """Which seeds of the annotated frames lie on the object: ``[A, K]`` bool, from truth ``[A, h, w]``."""
    index = result.seeds.index[annotated]
    return truth.flatten(1).gather(1, index.clamp(min=0)) & result.seeds.valid[annotated]


def with_true_seeds(result: Segmentation, truth: Tensor, annotated: Tensor) -> Segmentation:
    """Seed sets by the truth in the annotated frames; a frame without the object has no foreground."""
    on = seeds_on(result, truth, annotated)
    foreground, background = result.foreground.clone(), result.background.clone()
    foreground[annotated] = on
    background[annotated] = result.seeds.valid[annotated] & ~on
    return result._replace(foreground=foreground, background=background)


def true_track(result: Segmentation, truth: Tensor, annotated: Tensor) -> Tensor:
    """Members ``[T]`` of the track that lies on the object in most annotated frames; the lowest number of several."""
    on = seeds_on(result, truth, annotated)
    index = tracks_of(result, checked_config(result.config)).index
    tracks = index[annotated]
    hits = (on.gather(1, tracks.clamp(min=0)) & (tracks >= 0)).sum(0)
    score = hits.float().masked_fill(~(index >= 0).any(0), -torch.inf)
    return F.best_track(index, score)


def true_regions(label: Tensor, truth: Tensor) -> Tensor:
    """The regions ``[A, h, w]`` that the object covers by more than half, as a mask ``[A, h, w]``."""
    count = int(label.max()) + 1
    share = F.region_mean(truth[:, None].float(), label, max(count, 1))[..., 0]  # [A, K]
    return (share > 0.5).gather(1, label.clamp(min=0).flatten(1)).view_as(label) & (label >= 0)


def with_track(result: Segmentation, embedding: Tensor, seed: Tensor, config: Config) -> Segmentation:
    """The paper's rule, Eq. 11 and 12, from another foreground seed ``[T]``."""
    seeds = result.seeds
    background = F.initial_background(seeds.objectness, seeds.valid, num_background=config.num_background)
    regions = Regions(seeds, F.edge_weights(embedding), result.forest)
    motion = Motion(result.region_flow, result.saliency, result.saliency, background)
    tracks = tracks_of(result, config)._replace(foreground_seed=seed)
    labels = PaperRule().label_track(regions, motion, tracks, config)
    return result._replace(
        foreground_seed=seed,
        initial_foreground=labels.initial_foreground,
        foreground=labels.foreground,
        background=labels.background,
    )


def vote(result: Segmentation, evidence: Tensor, config: Config) -> Tensor:
    """Foreground seeds ``[T, K]`` of the robust rule from other evidence ``[T, K]``."""
    seeds = result.seeds
    return F.vote_labels(
        seeds.embedding, evidence, seeds.valid, **vote_options(config), vote_threshold=config.vote_threshold
    )
