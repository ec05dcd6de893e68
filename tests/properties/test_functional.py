"""Every function of ``gpuvos.functional`` under arguments of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuvos import EdgeWeights, Forest, Seeds
from gpuvos import functional as F


def on_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """Takes the weights apart, so that each is an argument of its own."""
    return lambda right, down, **rest: function(EdgeWeights(right, down), **rest)


def link_tracks(index: Tensor, valid: Tensor, embedding: Tensor, objectness: Tensor) -> Tensor:
    return F.link_tracks(Seeds(index, valid, embedding, objectness))


def initial_foreground(label: Tensor, distance: Tensor, seed_distance: Tensor, **rest: Tensor) -> Tensor:
    return F.initial_foreground(Forest(label, distance, seed_distance), **rest)


EMBEDDING = {"embedding": "float ... D H W"}
GRAPH = {"right": "positive ... H W-1", "down": "positive=right ... H-1 W"}
SEEDS = {"index": "place<H*W ... K", "valid": "bool ... K"}
FOREST = ["index ... H W", "positive~ ... H W", "positive~ ... K K"]
VOTES = {"embedding": "float ... T K D", "valid": "bool ... T K"}
NEIGHBORS = {"neighbors": "count", "largest_share": "number", "frames": "count"}
CRF = {
    "iterations": "count", "appearance_weight": "weight", "appearance_sigma": (2.0, 67.0), "color_sigma": (3.0, 20.0),
    "smoothness_weight": "weight", "smoothness_sigma": "number", "lattice_points": (None, 5000), "validate": (True,),
}  # fmt: skip
CASES: dict[str, tuple[Callable[..., Any], dict[str, str], dict[str, Any], list[str]]] = {
    "squared_distance": (
        F.squared_distance, {"first": "float ... M D", "second": "float ... N D"}, {}, ["positive ... M N"]
    ),
    "similarity": (
        F.similarity, {"first": "float ... M D", "second": "float ... N D"}, {"temperature": "number"}, ["unit ... M N"]
    ),
    "edge_weights": (F.edge_weights, EMBEDDING, {}, ["positive ... H W-1", "positive ... H-1 W"]),
    "edge_map": (
        F.edge_map, EMBEDDING, {"reduce": ("max", "mean"), "temperature": "number", "squared_distance": "flag"},
        ["positive ... H W"],
    ),
    "candidate_mask": (F.candidate_mask, {"edge_map": "float ... H W"}, {"window": "odd"}, ["bool ... H W"]),
    "select_seeds": (
        F.select_seeds, {**EMBEDDING, "objectness": "unit ... H W", "candidates": "bool ... H W"}, {"num_seeds": (3, 7)},
        ["index ... num_seeds", "bool ... num_seeds", "float ... num_seeds D", "float ... num_seeds"],
    ),
    "gather_pixels": (
        F.gather_pixels, {"values": "float ... C H W", "index": "index<H*W ... K"}, {}, ["float ... K C"]
    ),
    "minimax_forest": (on_graph(F.minimax_forest), {**GRAPH, **SEEDS}, {}, FOREST),
    "shortest_forest": (on_graph(F.shortest_forest), {**GRAPH, **SEEDS}, {}, FOREST),
    "largest_edges": (
        on_graph(F.largest_edges), {**GRAPH, "source": "place<H*W ... K", "valid": "bool ... K"}, {},
        ["positive~ ... K H W"],
    ),
    "region_mean": (
        F.region_mean, {"values": "float ... C H W", "label": "index<K ... H W"}, {"num_regions": "count"},
        ["float ... num_regions C"],
    ),
    "initial_background": (
        F.initial_background, {"objectness": "unit ... K", "valid": "bool ... K"}, {"num_background": "count"},
        ["bool ... K"],
    ),
    "motion_saliency": (
        F.motion_saliency, {"region_flow": "float ... K 2", "objectness": "unit ... K", "valid": "bool ... K"},
        {"num_background": "count", "squared": "flag"}, ["unit ... K"],
    ),
    "normalize_saliency": (
        F.normalize_saliency, {"length": "positive ... K", "valid": "bool ... K"}, {}, ["unit ... K"]
    ),
    "residual_flow": (
        F.residual_flow, {"flow": "float ... 2 H W"}, {"iterations": "count"}, ["float ... 2 H W"]
    ),
    "link_tracks": (
        link_tracks,
        {"index": "index<D ... T K", "valid": "bool ... T K", "embedding": "float ... T K D", "objectness": "unit ... T K"},
        {}, ["index ... T K"],
    ),
    "track_scores": (
        F.track_scores, {"tracks": "index<K ... T K", "objectness": "unit ... T K", "saliency": "unit ... T K"},
        {"rank_by": ("both", "motion", "objectness")}, ["float~ ... K"],
    ),
    "best_track": (F.best_track, {"tracks": "index<K ... T K", "score": "float ... K"}, {}, ["index ... T"]),
    "initial_foreground": (
        initial_foreground,
        {"label": "index<K ... H W", "distance": "positive ... H W", "seed_distance": "positive ... K K",
         "foreground_seed": "index<K ...", "background": "bool ... K"}, {}, ["bool ... H W"],
    ),
    "initial_foreground_shortest": (
        on_graph(F.initial_foreground_shortest),
        {**GRAPH, "index": "place<H*W ... K", "foreground_seed": "index<K ...", "background": "bool ... K"},
        {"num_background": "count"}, ["bool ... H W"],
    ),
    "seed_sets": (
        F.seed_sets,
        {"initial_foreground": "bool ... H W", "label": "index<K ... H W", "objectness": "unit ... K", "saliency": "unit ... K",
         "valid": "bool ... K", "foreground_seed": "index<K ...", "initial_background": "bool ... K"},
        {"coverage": "share", "background_objectness": "share", "background_saliency": "share"},
        ["bool ... K", "bool ... K"],
    ),
    "mask_seed_sets": (
        F.mask_seed_sets, {**EMBEDDING, "label": "index<K ... H W", "mask": "bool ... H W"},
        {"num_regions": "count", "coverage": "share"}, ["float ... num_regions D", "bool ... num_regions", "bool ... num_regions"],
    ),
    "foreground_probability": (
        F.foreground_probability,
        {**EMBEDDING, "seed_embedding": "float ... K D", "foreground": "bool ... K", "background": "bool ... K"},
        {"temperature": "number"}, ["unit ... H W"],
    ),
    "soft_background": (
        F.soft_background,
        {"objectness": "unit ... K", "saliency": "unit ... K", "foreground": "bool ... K", "valid": "bool ... K"},
        {"background_objectness": (0.3, 0.5), "background_saliency": (0.01,), "softness": "number"}, ["unit ... K"],
    ),
    "soft_foreground_probability": (
        F.soft_foreground_probability,
        {**EMBEDDING, "seed_embedding": "float ... K D", "foreground": "unit ... K", "background": "unit ... K"},
        {"temperature": "number"}, ["unit ... H W"],
    ),
    "estimate_temperature": (
        F.estimate_temperature, EMBEDDING, {"num_seeds": "count", "window": "odd"}, ["positive "]
    ),
    "smooth_seed_labels": (
        F.smooth_seed_labels, {**VOTES, "label": "unit ... T K"}, NEIGHBORS, ["unit ... T K"]
    ),
    "vote_labels": (
        F.vote_labels, {**VOTES, "score": "positive ... T K"},
        {**NEIGHBORS, "confident_share": "share", "vote_threshold": "share"}, ["bool ... T K"],
    ),
    "dense_crf": (
        F.dense_crf, {"probability": "unit ... H W", "image": "frames ... 3 H W"}, {**CRF, "clip": (1e-5, 0.1), "subsample": (1, 2, 3)},
        ["unit ... H W"],
    ),
    "guided_filter": (
        F.guided_filter, {"probability": "unit ... H W", "image": "frames ... 3 H W"},
        {"radius": (1, 2), "epsilon": (1e-4, 0.1), "subsample": (1, 2)}, ["unit ... H W"],
    ),
    "dense_crf_marginals": (
        F.dense_crf_marginals, {"unary": "float ... L H W", "image": "frames ... 3 H W"}, CRF, ["unit ... L H W"]
    ),
}  # fmt: skip


def test_every_public_name_has_a_case(public: Callable) -> None:
    assert public(F) == set(CASES)


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_refused_by_name_or_as_promised(holds: Callable, name: str) -> None:
    holds(CASES[name])


def test_a_temperature_may_be_a_tensor() -> None:
    e = torch.rand(2, 3, 4)
    assert torch.equal(F.similarity(e, e, temperature=torch.tensor(2.0)), F.similarity(e, e, temperature=2.0))
