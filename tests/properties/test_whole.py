"""Every public name of ``gpuvos`` itself under arguments of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import gpuvos
from gpuvos import Config, Features, Segmentation

FEATURES = {"embedding": "float T D H W", "objectness": "unit T H W", "flow": "float T 2 H W"}
SMALL = Config(num_seeds=4, window=3, track_seeds=True)
RESULT = {"result": "result T D H W"}
PER_PIXEL = ["bool T h w", "unit! T h w", "unit! T h w"]
SEEDS = ["index T num_seeds", "bool T num_seeds", "float T num_seeds D", "unit T num_seeds"]
FOREST = ["index T H W", "positive~ T H W", "positive~ T num_seeds num_seeds"]
LABELS = ["bool T num_seeds", "bool T num_seeds"]
MOTION = ["float T num_seeds 2", "unit T num_seeds", "unit T num_seeds", "bool T num_seeds"]
TRACKS = ["index T num_seeds", "float~ num_seeds", "index T", "bool T H W"]
REST = [*FOREST, *LABELS, *MOTION, *TRACKS]
ALL = [*PER_PIXEL, *SEEDS, *REST]
ON_GRID = [text.replace("h w", "H W") for text in ALL]
DOUBLED = [text.replace("h w", "2*H 2*W") for text in ALL]


def front_end(frames: Tensor) -> Features:
    images = frames / 255 if frames.dtype == torch.uint8 else frames
    return Features(images, images[:, 0], images[:, :2] - 0.5)


def segment(rule: str, num_seeds: int = 4, **arguments: Any) -> Segmentation:
    return gpuvos.segment(config=Config(rule=rule, num_seeds=num_seeds, window=3, track_seeds=True), **arguments)


def first_mask(first_mask: Tensor, **arguments: Any) -> Segmentation:
    return gpuvos.segment(config=SMALL, first_mask=first_mask, **arguments)


def video_segmenter(frames: Tensor, chunk: int | None = None, num_seeds: int = 4) -> Segmentation:
    return gpuvos.VideoSegmenter(front_end, Config(num_seeds=num_seeds, window=3, track_seeds=True), chunk=chunk)(
        frames
    )


def streaming_segmenter(frames: Tensor, window: int = 3, latency: int = 1) -> Tensor:
    stream = gpuvos.StreamingSegmenter(front_end, Config(num_seeds=4, window=3), history=window, latency=latency)
    parts = list(stream.stream(frames))
    return torch.cat([part.mask for part in parts]) if parts else torch.zeros(0, *frames.shape[2:], dtype=torch.bool)


def zoom(probability: Tensor, image: Tensor, **options: Any) -> Tensor:
    return gpuvos.ZoomRefinement(lambda images: images.mean(1), **options)(probability, image)


def region_of_interest(probability: Tensor, image: Tensor, **options: Any) -> Tensor:
    return gpuvos.RoiRefinement(gpuvos.nn.DenseCRF(iterations=1), **options)(probability, image)


def preset(name: Any) -> None:
    if not isinstance(name, str) or name not in MADE:  # each loads two networks
        gpuvos.preset_segmenter(name)
        MADE.add(name)


def config(**options: Any) -> None:
    made = Config(**options)
    assert made == Config(**options)
    assert isinstance(made.num_seeds, int)


def explain(result: Segmentation, embedding: Tensor, objectness: Tensor, flow: Tensor, **options: Any) -> Any:
    return gpuvos.explain(result, Features(embedding, objectness, flow), **options)


def relabel(result: Segmentation, embedding: Tensor, foreground: Any = ()) -> Segmentation:
    return gpuvos.relabel(result, embedding, foreground=foreground)


MADE: set[str] = set()  # presets
CASES: dict[str, tuple[Callable[..., Any], dict[str, str], dict[str, Any], list[str]]] = {
    "segment": (
        segment, FEATURES, {"rule": ("paper", "robust"), "size": (None,), "num_seeds": (4, 9)}, ON_GRID
    ),
    "segment from a mask": (first_mask, {**FEATURES, "first_mask": "bool h w"}, {}, [text.replace("num_seeds", "4") for text in ON_GRID]),
    "VideoSegmenter": (
        video_segmenter, {"frames": "frames T 3 H W"}, {"chunk": "count", "num_seeds": (4,)},
        [text.replace(" D", " 3") for text in ON_GRID],
    ),
    "preset_segmenter": (preset, {}, {"name": ("accurate", "realtime")}, []),
    "ZoomRefinement": (
        zoom, {"probability": "unit ... H W", "image": "frames ... 3 H W"},
        {"weight": "share", "margin": "weight", "reach": (0, 3), "size": "count", "chunk": "count"}, ["unit ... H W"],
    ),
    "RoiRefinement": (
        region_of_interest, {"probability": "unit ... H W", "image": "frames ... 3 H W"},
        {"weight": "share", "margin": "weight", "size": "count", "chunk": "count"}, ["unit ... H W"],
    ),
    "StreamingSegmenter": (
        streaming_segmenter, {"frames": "frames T 3 H W"}, {"window": (3, 8), "latency": (0, 1, 2)}, ["bool T H W"]
    ),
    "Config": (
        config, {}, {
            "rule": ("paper", "robust"), "num_seeds": "count", "window": "odd", "edge_reduce": ("max", "mean"),
            "distance": ("minimax", "shortest"), "num_background": "count", "rank_by": ("both", "motion"),
            "coverage": "share", "background_objectness": "share", "background_saliency": "share",
            "temperature": "number", "mask_coverage": "share", "min_motion": "weight", "smoothing_frames": "count",
            "smoothing_share": "number", "smoothing_neighbors": "count", "confident_share": "share",
            "vote_threshold": "share", "mask_vote": "share",
        }, [],
    ),
    "explain": (
        explain, {**RESULT, **FEATURES}, {"tie": "share"},
        ["index T H W", "index T", "unit T H W", "float~ T 4", "index T 4", "index T 4", "bool T", "bool T", "bool T", "bool T"],
    ),
    "relabel": (
        relabel, {**RESULT, "embedding": "float T D H W"}, {"foreground": ((), [(0, 0)])},
        [text.replace("num_seeds", "4") for text in DOUBLED],
    ),
    "instances": (
        gpuvos.instances, RESULT, {"num_instances": "count", "min_share": "share"},
        ["bool num_instances T 2*H 2*W", "float~ num_instances", "bool num_instances T", "index T 4"],
    ),
    "prompts": (
        gpuvos.prompts, RESULT, {"num_foreground": (0, 1, 4), "num_background": (0, 2)},
        ["float T num_foreground+num_background 2", "index T num_foreground+num_background", "float T 4", "bool T"],
    ),
    "seeds_at": (gpuvos.seeds_at, {**RESULT, "points": "unit N 2"}, {"frame": (0,)}, ["index N"]),
    "mask_from_points": (
        gpuvos.mask_from_points, {**RESULT, "points": "unit=result N 2", "labels": "index<2 N"}, {"frame": (0,)},
        ["bool 2*H 2*W"],
    ),
}  # fmt: skip


def test_every_public_name_has_a_case(public: Callable) -> None:
    assert public(gpuvos) == {name for name in CASES if " " not in name}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_refused_by_name_or_as_promised(holds: Callable, name: str) -> None:
    holds(CASES[name])
