"""What is measured of the masks of one sequence: a row of one foreground, or one a true object."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gpuvos.errors import fail
from gpuvos.metrics import boundary_accuracy, foreground_score, object_scores, region_similarity, summary
from gpuvos.paper.datasets import LabelledVideo
from gpuvos.paper.variants import mean_of, stability


class Row(NamedTuple):
    """Result of one sequence, or of one object of it, by one method; NaN is what was not measured."""

    sequence: str  # "judo_1" is the first object of judo
    method: str
    frames: int  # that the method computed; 0 for objects after the first of a sequence
    scored: int  # frames whose masks count
    j: float
    j_recall: float
    j_decay: float
    f: float
    f_recall: float
    f_decay: float
    t: float = math.nan  # also NaN if no two successive frames are annotated and have an outline
    seed_accuracy: float = math.nan  # share of frames whose foreground seed lies on the object
    feature_seconds: float = 0.0
    method_seconds: float = 0.0
    precision: float = math.nan  # of FBMS, over all scored frames of the sequence together
    recall: float = math.nan
    f_measure: float = math.nan


def score(
    video: LabelledVideo,
    method: str,
    annotated: Tensor,
    *,
    seed: float = math.nan,
    seconds: tuple[float, float] = (0.0, 0.0),
    temporal: bool = True,
) -> Row:
    """The row of one foreground.

    Args:
        video: the sequence.
        method: its name.
        annotated: ``[A, H, W]`` bool, masks of the annotated frames.
        seed: share of frames whose foreground seed lies on the object.
        seconds: that features and method took.
        temporal: measure T, which takes longer than all the rest.
    """
    mask, truth = annotated[video.counted], video.mask[video.counted]
    t = mean_of(stability(annotated, video)) if temporal else None
    measured = foreground_score(mask, truth)
    return Row(
        video.name,
        method,
        len(video.frames),
        len(truth),
        *_statistics(region_similarity(mask, truth)),
        *_statistics(boundary_accuracy(mask, truth)),
        math.nan if t is None else t,
        seed,
        *seconds,
        *(value.item() for value in measured),
    )


def score_objects(
    video: LabelledVideo, method: str, proposals: Tensor, *, seconds: tuple[float, float] = (0.0, 0.0)
) -> list[Row]:
    """A row for every true object, matched as ``object_scores`` does it.

    Args:
        video: the sequence, with ``ids``.
        method: its name.
        proposals: ``[N, A, H, W]`` bool, the objects of the method in the annotated frames.
        seconds: that features and method took.

    Raises:
        InputError: if the sequence shows no object in its first frame.
    """
    assert video.ids is not None
    ids = video.ids[video.counted]
    count = int(ids.max())
    if count == 0:
        raise fail("root", f"'{video.name}' without an object", "the number of an object somewhere in the first mask")
    number = torch.arange(1, count + 1, dtype=ids.dtype, device=ids.device)
    found = object_scores(proposals[:, video.counted], ids == number[:, None, None, None])
    rows = []
    for place, (j, f) in enumerate(zip(found.j, found.f, strict=True)):
        first = place == 0
        row = Row(
            f"{video.name}_{place + 1}",
            method,
            len(video.frames) if first else 0,
            len(ids),
            *_statistics(j),
            *_statistics(f),
            feature_seconds=seconds[0] if first else 0.0,
            method_seconds=seconds[1] if first else 0.0,
        )
        rows.append(row)
    return rows


def _statistics(values: Tensor) -> tuple[float, float, float]:
    """Mean, recall and decay of values by frame."""
    mean, recall, decay = summary(values.double())
    return mean.item(), recall.item(), decay.item()
