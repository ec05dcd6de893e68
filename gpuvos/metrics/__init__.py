"""Measures: region similarity J, boundary accuracy F, temporal stability T, FBMS precision and recall, endpoint error.

>>> import torch
>>> from gpuvos.metrics import boundary_accuracy, region_similarity, summary
>>> truth = torch.zeros(3, 32, 32, dtype=torch.bool)
>>> truth[:, 8:24, 8:24] = True
>>> mask = truth.roll(1, dims=-1)
>>> print(f"{summary(region_similarity(mask, truth)).mean:.3f}")  # 15 of 17 columns agree
0.882
>>> boundary_accuracy(mask, truth)  # the tolerance is one pixel at this size
tensor([1., 1., 1.])
"""

from gpuvos.metrics.boundary import boundary_accuracy
from gpuvos.metrics.flow import endpoint_error
from gpuvos.metrics.foreground import ForegroundScore, foreground_score
from gpuvos.metrics.objects import ObjectScores, object_scores
from gpuvos.metrics.region import region_similarity
from gpuvos.metrics.statistics import Summary, davis2016_frames, summary
from gpuvos.metrics.temporal import DAVIS2016_OCCLUDED, temporal_stability

__all__ = [
    "DAVIS2016_OCCLUDED",
    "ForegroundScore",
    "ObjectScores",
    "Summary",
    "boundary_accuracy",
    "davis2016_frames",
    "endpoint_error",
    "foreground_score",
    "object_scores",
    "region_similarity",
    "summary",
    "temporal_stability",
]
