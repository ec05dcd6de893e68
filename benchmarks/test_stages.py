"""Time of every stage of the method after the networks, on random smooth features.

``pytest benchmarks/test_stages.py --benchmark-only --benchmark-json=stages.json`` and then
``python benchmarks/report.py stages.json`` for milliseconds a frame.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import avg_pool2d

import gpuvos
from gpuvos import functional as F

FRAMES = int(os.environ.get("GPUVOS_BENCH_FRAMES", "8"))
HEIGHT, WIDTH, CHANNELS = 120, 214, 64  # 480 x 854 at stride 4
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    torch.manual_seed(0)
    noise = torch.randn(FRAMES, CHANNELS + 3, HEIGHT, WIDTH)
    smooth = avg_pool2d(noise, 9, stride=1, padding=4).mul(9).to(DEVICE)
    e, o, flow = smooth[:, :CHANNELS], smooth[:, CHANNELS].sigmoid(), smooth[:, CHANNELS + 1 :]
    candidates = F.candidate_mask(F.edge_map(e, squared_distance=True))
    seeds = F.select_seeds(e, o, candidates)
    weights = F.edge_weights(e)
    forest = F.minimax_forest(weights, seeds.index, seeds.valid)
    region_flow = F.region_mean(flow, forest.label, 100)
    start = F.initial_background(seeds.objectness, seeds.valid)
    saliency = F.motion_saliency(region_flow, seeds.objectness, seeds.valid)
    tracks = F.link_tracks(seeds)
    seed = F.best_track(tracks, F.track_scores(tracks, seeds.objectness, saliency))
    return locals()


STAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "edge map": lambda s: F.edge_map(s["e"], squared_distance=True),
    "candidates": lambda s: F.candidate_mask(s["smooth"][:, 0]),
    "seeds": lambda s: F.select_seeds(s["e"], s["o"], s["candidates"]),
    "edge weights": lambda s: F.edge_weights(s["e"]),
    "minimax forest": lambda s: F.minimax_forest(s["weights"], s["seeds"].index, s["seeds"].valid),
    "shortest forest": lambda s: F.shortest_forest(s["weights"], s["seeds"].index, s["seeds"].valid),
    "region flow": lambda s: F.region_mean(s["flow"], s["forest"].label, 100),
    "saliency, paper": lambda s: F.motion_saliency(s["region_flow"], s["seeds"].objectness, s["seeds"].valid),
    "camera motion, robust": lambda s: F.residual_flow(s["flow"]),
    "tracks": lambda s: F.track_scores(F.link_tracks(s["seeds"]), s["seeds"].objectness, s["saliency"]),
    "initial foreground": lambda s: F.initial_foreground(s["forest"], s["seed"], s["start"]),
    "vote, robust": lambda s: F.vote_labels(s["seeds"].embedding, s["saliency"], s["seeds"].valid),
    "probability": lambda s: F.foreground_probability(s["e"], s["seeds"].embedding, s["start"], ~s["start"]),
    "whole method, paper": lambda s: gpuvos.segment(
        s["e"], s["o"], s["flow"], config=gpuvos.Config(rule="paper")
    ),
    "whole method, robust": lambda s: gpuvos.segment(s["e"], s["o"], s["flow"]),
}


@pytest.mark.parametrize("stage", STAGES)
def test_stage(benchmark: Any, state: dict[str, Any], stage: str) -> None:
    def run() -> None:
        STAGES[stage](state)
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    benchmark.extra_info.update(
        frames=FRAMES, device=str(DEVICE), threads=torch.get_num_threads(), torch=torch.__version__
    )
    benchmark.pedantic(run, rounds=7, warmup_rounds=1)
