"""The tensors that flow between the steps, and the glossary of shape letters.

=====  ==========================================================================
 B      videos in one call (ragged batches carry ``lengths [B]``)
 T      frames of a video
 H, W   rows and columns of the grid the method works on (by default a quarter of the image)
 D      channels of the embedding
 K      seeds of a frame
 C      channels of anything else
=====  ==========================================================================

An index of -1 means "none" everywhere: an invalid seed, a pixel that no seed reaches, a track that never began.
Every type below may carry one more leading dimension B.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Features(NamedTuple):
    """What a front end returns for a clip, on the grid of the method."""

    embedding: Tensor  # [T, D, H, W] float
    objectness: Tensor  # [T, H, W] float in [0, 1], Eq. 3
    flow: Tensor  # [T, 2, H, W] float, (x, y) in pixels of the image from frame t to t + 1


class EdgeWeights(NamedTuple):
    """Weights of the embedding graph: Euclidean distances between 4-neighbours."""

    right: Tensor  # [T, H, W-1] between (y, x) and (y, x+1)
    down: Tensor  # [T, H-1, W] between (y, x) and (y+1, x)


class Seeds(NamedTuple):
    """Diverse representative points of every frame, Eq. 6, in the order in which they were chosen."""

    index: Tensor  # type: ignore[assignment]  # [T, K] int64 raster index y * W + x; -1 where invalid
    valid: Tensor  # [T, K] bool; False where a frame has fewer candidates than K
    embedding: Tensor  # [T, K, D]; 0 where invalid
    objectness: Tensor  # [T, K]; 0 where invalid


class Forest(NamedTuple):
    """Geodesic regions of the seeds in the embedding graph."""

    label: (
        Tensor  # [T, H, W] int64 number of the seed whose region a pixel is in; -1 where a frame has no seed
    )
    distance: Tensor  # [T, H, W] geodesic distance to that seed; inf where there is none
    seed_distance: Tensor  # [T, K, K] geodesic distance between seeds; inf where one is invalid


class Segmentation(NamedTuple):
    """Masks and everything that led to them."""

    mask: Tensor  # [T, h, w] bool, at the size asked for
    probability: Tensor  # [T, h, w] in [0, 1], Eq. 15
    confidence: Tensor  # [T, h, w] in [0, 1], |2 * probability - 1|
    seeds: Seeds
    forest: Forest
    tracks: Tensor  # [T, K] int64, Eq. 9
    track_score: Tensor  # [K], Eq. 10; -inf for a track that never began
    foreground_seed: Tensor  # [T] int64, the members of the best track
    initial: Tensor  # [T, H, W] bool, Eq. 11
    foreground: Tensor  # [T, K] bool, seeds of the object
    background: Tensor  # [T, K] bool, seeds of the rest, Eq. 12
    region_flow: Tensor  # [T, K, 2] mean flow of the seeds' regions
    saliency: Tensor  # [T, K] in [0, 1], Eq. 7-8
    seed_score: (
        Tensor  # [T, K] share of confident neighbours (robust rule), O(s) M(s) of Eq. 10 (paper's rule)
    )
    confident: Tensor  # [T, K] bool, seeds whose smoothed evidence is high (robust rule)
