"""Every function of ``gpuvos.metrics``, ``gpuvos.viz.maps`` and ``gpuvos.nn`` under arguments of every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from gpuvos import metrics, nn, viz

MASKS = {"mask": "mask ... H W", "truth": "mask ... H W"}
CLIP = {"frames": "frames T 3 H W", "mask": "bool T H W"}
Cases = dict[str, tuple[Callable[..., Any], dict[str, str], dict[str, Any], list[str]]]


def dense_crf(probability: Tensor, image: Tensor, validate: bool = True, **options: Any) -> Tensor:
    return nn.DenseCRF(**options)(probability, image, validate=validate)


def guided_filter(probability: Tensor, image: Tensor, validate: bool = True, **options: Any) -> Tensor:
    return nn.GuidedFilter(**options)(probability, image, validate=validate)


def temporal_stability(mask: Tensor) -> Tensor:
    return metrics.temporal_stability(mask).nan_to_num(nan=0.0)  # NaN where a frame has no outline


def davis2016_frames(count: int = 8) -> None:
    assert isinstance(metrics.davis2016_frames(count), slice)


def save_png(path: Path, image: Tensor) -> None:
    viz.save_png(path, image)


METRICS: Cases = {
    "region_similarity": (metrics.region_similarity, {**MASKS, "void": "mask ... H W"}, {}, ["unit ..."]),
    "boundary_accuracy": (metrics.boundary_accuracy, MASKS, {"tolerance": (0, 0.008, 0.5, 1, 3)}, ["unit ..."]),
    "temporal_stability": (temporal_stability, {"mask": "mask ... T H W"}, {}, ["positive ... T-1"]),
    "foreground_score": (
        metrics.foreground_score, {"mask": "mask ... T H W", "truth": "mask ... T H W"}, {},
        ["unit ...", "unit ...", "unit ..."],
    ),
    "object_scores": (
        metrics.object_scores, {"proposals": "mask N T H W", "truth": "mask M T H W"},
        {"tolerance": (0, 0.008, 0.5, 1, 3)}, ["unit M T", "unit M T", "index M"],
    ),
    "endpoint_error": (
        metrics.endpoint_error, {"flow": "float ... 2 H W", "truth": "float ... 2 H W"}, {}, ["positive ..."]
    ),
    "summary": (
        metrics.summary, {"values": "unit ... T"}, {"threshold": (0.5, 0.0, 1)},
        ["float ...", "unit ...", "float ..."],
    ),
    "davis2016_frames": (davis2016_frames, {}, {"count": (3, 4, 100)}, []),
}  # fmt: skip
VIZ: Cases = {
    "embedding_colors": (viz.embedding_colors, {"embedding": "float T D h w"}, {"size": (None,)}, ["uint8 T 3 h w"]),
    "heatmap": (viz.heatmap, {"values": "float T h w"}, {"low": (None, -1.0), "high": (None, 2.0)}, ["uint8 T 3 h w"]),
    "flow_colors": (viz.flow_colors, {"flow": "float T 2 h w"}, {"largest": (None, 3.0)}, ["uint8 T 3 h w"]),
    "flow_scale": (viz.flow_scale, {"flow": "float T 2 h w"}, {}, ["positive "]),
    "region_colors": (viz.region_colors, {"label": "index<9 T h w"}, {"borders": "flag"}, ["uint8 T 3 h w"]),
    "draw_points": (
        viz.draw_points,
        {"image": "frames T 3 H W", "index": "index<12 T K", "valid": "bool T K", "group": "index<9 T K"},
        {"grid": "grid", "radius": "radius", "color": ((1, 2, 3), (255, 255, 255))}, ["uint8 T 3 H W"],
    ),
    "overlay": (
        viz.overlay, CLIP, {"color": ((1, 2, 3), (255, 0, 0)), "alpha": "share", "contour": "flag"}, ["uint8 T 3 H W"]
    ),
    "mask_contour": (viz.mask_contour, {"mask": "bool T H W"}, {"thickness": "count"}, ["bool T H W"]),
    "saliency_map": (
        viz.saliency_map, {"label": "index<K T h w", "values": "float T K"}, {}, ["float T h w"]
    ),
    "to_frames": (viz.to_frames, {"image": "frames T 3 H W"}, {}, ["uint8 T 3 H W"]),
    "save_png": (save_png, {"path": "path .png", "image": "frames 3 H W"}, {}, []),
}  # fmt: skip
NN: Cases = {
    "DenseCRF": (
        dense_crf, {"probability": "unit ... H W", "image": "frames ... 3 H W"},
        {"iterations": "count", "appearance_weight": "weight", "appearance_sigma": (2.0, 67.0), "smoothness_weight": "weight",
         "smoothness_sigma": "number", "subsample": (1, 2), "lattice_points": (None, 5000)}, ["unit ... H W"],
    ),
    "GuidedFilter": (
        guided_filter, {"probability": "unit ... H W", "image": "frames ... 3 H W"},
        {"radius": (1, 2), "epsilon": (1e-4, 0.1), "subsample": (1, 2)}, ["unit ... H W"],
    ),
}  # fmt: skip
CASES = METRICS | VIZ | NN


def test_every_public_name_has_a_case(public: Callable) -> None:
    drawn = {"bar_chart", "contact_sheet", "line_chart"}  # pages, which have tests of their own
    for module, cases in ((metrics, METRICS), (viz, VIZ), (nn, NN)):
        assert public(module) - drawn == set(cases)


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_refused_by_name_or_as_promised(holds: Callable, name: str) -> None:
    holds(CASES[name])
