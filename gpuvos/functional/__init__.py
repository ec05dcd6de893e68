"""The method, one file a step, in the paper's order. Pure functions of tensors, batched over frames and videos.

They check shapes and options but not the values of features, which would wait for the device: a NaN that goes in comes
out where it counts (a probability of a pixel whose embedding is NaN is NaN). ``gpuvos.segment`` looks before it begins.
"""

from gpuvos.functional.calibration import estimate_temperature
from gpuvos.functional.camera import residual_flow
from gpuvos.functional.crf import dense_crf, dense_crf_marginals
from gpuvos.functional.edges import candidate_mask, edge_map, edge_weights
from gpuvos.functional.foreground import (
    initial_foreground,
    initial_foreground_shortest,
    mask_seed_sets,
    seed_sets,
)
from gpuvos.functional.guided import guided_filter
from gpuvos.functional.motion import initial_background, motion_saliency, normalize_saliency
from gpuvos.functional.probability import foreground_probability
from gpuvos.functional.regions import largest_edges, minimax_forest, region_mean, shortest_forest
from gpuvos.functional.relaxed import soft_background, soft_foreground_probability
from gpuvos.functional.seeds import gather_pixels, select_seeds
from gpuvos.functional.similarity import similarity, squared_distance
from gpuvos.functional.tracks import best_track, link_tracks, track_scores
from gpuvos.functional.voting import smooth_seed_labels, vote_labels

__all__ = [
    "best_track",
    "candidate_mask",
    "dense_crf",
    "dense_crf_marginals",
    "edge_map",
    "edge_weights",
    "estimate_temperature",
    "foreground_probability",
    "gather_pixels",
    "guided_filter",
    "initial_background",
    "initial_foreground",
    "initial_foreground_shortest",
    "largest_edges",
    "link_tracks",
    "mask_seed_sets",
    "minimax_forest",
    "motion_saliency",
    "normalize_saliency",
    "region_mean",
    "residual_flow",
    "seed_sets",
    "select_seeds",
    "shortest_forest",
    "similarity",
    "smooth_seed_labels",
    "soft_background",
    "soft_foreground_probability",
    "squared_distance",
    "track_scores",
    "vote_labels",
]
