"""Every stage of the method: how it is run, the bytes that it must move, and what it should take on an H200."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor

import gpuvos
from gpuvos import functional as F
from gpuvos.bench import networks
from gpuvos.bench.workload import Inputs, Workload
from gpuvos.errors import fail
from gpuvos.functional.camera import camera_weight
from gpuvos.functional.edges import embedding_graph
from gpuvos.metrics import boundary_accuracy, region_similarity
from gpuvos.pipeline.rules.robust import vote_options

Count = Callable[[Inputs], float]
_CRF_ITERATIONS = 10


class Stage(NamedTuple):
    """One row of the table."""

    name: str
    run: Callable[[Inputs], object]
    must: Count | None = None  # bytes of one frame that must move: inputs once, results once
    moved: Count | None = None  # bytes of one frame that the Triton kernels move, by their own account
    flops: Count | None = None  # operations of one frame, of a network
    on_grid: bool = True  # whether its work depends on the stride of the workload


def edges(inputs: Inputs) -> object:
    """Edge weights, edge map and candidates from one read of the embedding."""
    return embedding_graph(inputs.features.embedding, window=inputs.paper.window)


def seeds(inputs: Inputs) -> object:
    """Farthest-point sampling."""
    features, number = inputs.features, inputs.workload.seeds
    return F.select_seeds(features.embedding, features.objectness, inputs.candidates, num_seeds=number)


def minimax_forest(inputs: Inputs) -> object:
    """Labels, distances and the table of seed distances."""
    return F.minimax_forest(inputs.weights, inputs.seeds.index, inputs.seeds.valid)


def shortest_forest(inputs: Inputs) -> object:
    """The same with additive distances."""
    return F.shortest_forest(inputs.weights, inputs.seeds.index, inputs.seeds.valid)


def region_means(inputs: Inputs) -> object:
    """Mean flow of the regions."""
    return F.region_mean(inputs.features.flow, inputs.forest.label, inputs.workload.seeds)


def saliency(inputs: Inputs) -> object:
    """Eq. 7-8."""
    return F.motion_saliency(inputs.region_flow, inputs.seeds.objectness, inputs.seeds.valid)


def camera_motion(inputs: Inputs) -> object:
    """Flow left over after the robust camera model."""
    return F.residual_flow(inputs.features.flow, weight=camera_weight(inputs.features.objectness))


def tracks(inputs: Inputs) -> object:
    """Eq. 9-10."""
    linked = F.link_tracks(inputs.seeds)
    return F.best_track(linked, F.track_scores(linked, inputs.seeds.objectness, inputs.saliency))


def vote(inputs: Inputs) -> object:
    """Seed labels of the robust rule; the evidence is the objectness."""
    found, config = inputs.robust_seeds, inputs.robust
    return F.vote_labels(
        found.embedding, found.objectness, found.valid, **vote_options(config), vote_threshold=config.vote_threshold
    )


def initial_foreground(inputs: Inputs) -> object:
    """Eq. 11."""
    return F.initial_foreground(inputs.forest, inputs.foreground_seed, inputs.initial_background)


def seed_sets(inputs: Inputs) -> object:
    """Eq. 12."""
    found = inputs.seeds
    return F.seed_sets(
        inputs.initial_foreground,
        inputs.forest.label,
        found.objectness,
        inputs.saliency,
        found.valid,
        inputs.foreground_seed,
        inputs.initial_background,
    )


def probability(inputs: Inputs) -> object:
    """Eq. 13-15."""
    return F.foreground_probability(inputs.features.embedding, inputs.seeds.embedding, *inputs.seed_sets)


def paper_rule(inputs: Inputs) -> object:
    """The method after the networks, as the paper has it."""
    return gpuvos.segment(*inputs.features, config=inputs.paper, validate=False)


def robust_rule(inputs: Inputs) -> object:
    """The method after the networks, the default."""
    return gpuvos.segment(*inputs.features, config=inputs.robust, validate=False)


def dense_crf(inputs: Inputs) -> object:
    """Refinement at the resolution of the image."""
    return F.dense_crf(inputs.probability, inputs.images, iterations=_CRF_ITERATIONS, validate=False)


def flow(inputs: Inputs) -> object:
    """Weight-free flow, averaged on the grid."""
    from gpuvos.flow.clip import clip_flow
    from gpuvos.flow.variational import FOR_NETWORKS

    return clip_flow(inputs.images, size=inputs.workload.grid, parameters=FOR_NETWORKS)


def features(inputs: Inputs) -> object:
    """The networks inside the package and the flow."""
    return inputs.segmenter.features(inputs.images, validate=False)


def frames_to_masks(inputs: Inputs) -> object:
    """Everything that ``VideoSegmenter()`` does."""
    return inputs.segmenter(inputs.images, validate=False)


def region_metric(inputs: Inputs) -> object:
    """J."""
    return region_similarity(inputs.mask, inputs.truth)


def boundary_metric(inputs: Inputs) -> object:
    """F."""
    return boundary_accuracy(inputs.mask, inputs.truth)


def _per_pixel(count: Callable[[Workload, int], float]) -> Count:
    """Bytes of a frame from those of a pixel of the grid, given workload and bytes of an element."""
    return lambda inputs: inputs.workload.pixels * count(inputs.workload, inputs.workload.element)


def _image(bytes_a_pixel: float) -> Count:
    return lambda inputs: inputs.workload.height * inputs.workload.width * bytes_a_pixel


def _candidates(inputs: Inputs) -> float:
    """Candidates of a frame, mean."""
    return float(inputs.candidates.sum()) / inputs.workload.frames


def _seeds_must(inputs: Inputs) -> float:
    work = inputs.workload
    return work.pixels + _candidates(inputs) * (work.channels * work.element + 4)


def _seeds_moved(inputs: Inputs) -> float:
    work = inputs.workload
    row = 32 * work.channels + 2 * work.channels * work.element + 40
    return 2 * work.pixels + _candidates(inputs) * row


def _regions_must(inputs: Inputs) -> float:
    work = inputs.workload
    return work.pixels * (8 + 2 * work.element) + work.seeds * (4 * 2 + 8)


def _regions_moved(inputs: Inputs) -> float:
    return _regions_must(inputs) + 8 * inputs.workload.seeds * 3 * inputs.workload.pixels / 2048


def _initial_must(inputs: Inputs) -> float:
    work = inputs.workload
    return 13 * work.pixels + work.seeds * (4 * work.seeds + 1)


def _initial_moved(inputs: Inputs) -> float:
    return _initial_must(inputs) + 8 * inputs.workload.seeds


def _seed_rows(inputs: Inputs, number: int) -> float:
    """Embeddings, objectness and numbers of the seeds of a frame."""
    return number * (inputs.workload.channels * inputs.workload.element + 16)


# Bytes of a pixel of the CRF with one lattice point a pixel (docstrings of its kernels): the lattice, then the updates
_CRF_MUST = 115 + _CRF_ITERATIONS * (98 + 8)
_CRF_MOVED = 2017 + _CRF_ITERATIONS * (268 + 16)

STAGES = (
    Stage(
        "edge weights, edge map, candidates",
        edges,
        _per_pixel(lambda w, b: w.channels * b + 9),
        _per_pixel(lambda w, b: w.channels * b + 33),
    ),
    Stage("seeds", seeds, _seeds_must, _seeds_moved),
    Stage("minimax forest", minimax_forest, _per_pixel(lambda _, __: 20), _per_pixel(lambda _, __: 60)),
    Stage("shortest forest", shortest_forest, _per_pixel(lambda _, __: 24), _per_pixel(lambda _, __: 88)),
    Stage("region means", region_means, _regions_must, _regions_moved),
    Stage("saliency (paper)", saliency),
    Stage("camera motion (robust)", camera_motion, _per_pixel(lambda _, b: 5 * b)),
    Stage("tracks", tracks, lambda i: _seed_rows(i, i.workload.seeds)),
    Stage("vote (robust)", vote, lambda i: _seed_rows(i, i.workload.robust_seeds)),
    Stage("initial foreground (Eq. 11)", initial_foreground, _initial_must, _initial_moved),
    Stage("seed sets (Eq. 12)", seed_sets, _per_pixel(lambda _, __: 9)),
    Stage(
        "probability",
        probability,
        _per_pixel(lambda w, b: w.channels * b + 4),
        _per_pixel(lambda w, b: w.channels * b + 12),
    ),
    Stage("whole method, paper", paper_rule, _per_pixel(lambda w, b: 2 * w.channels * b + 4)),
    Stage("whole method, robust", robust_rule, _per_pixel(lambda w, b: 2 * w.channels * b + 4)),
    Stage("dense CRF", dense_crf, _image(_CRF_MUST), _image(_CRF_MOVED), on_grid=False),
    Stage("flow", flow, on_grid=False),
    Stage("network, embedding", networks.embedding_network, flops=networks.embedding_flops, on_grid=False),
    Stage("network, salient objects", networks.salient_network, flops=networks.salient_flops, on_grid=False),
    Stage("network, U2NetP as published", networks.published_network, flops=networks.published_flops, on_grid=False),
    Stage("features", features, on_grid=False),
    Stage("frames -> masks", frames_to_masks, on_grid=False),
    Stage("J, region similarity", region_metric, _image(2), on_grid=False),
    Stage("F, boundary accuracy", boundary_metric, _image(2), on_grid=False),
)
_WHOLE = {1: 0.5, 4: 0.1}
# Milliseconds a frame of 480 x 854 on an H200, by stride: 80 frames of D = 64 in bfloat16, K = 100.
AIMS: dict[str, dict[int, float]] = {
    "edge weights, edge map, candidates": {1: 1.3 / 80},
    "seeds": {1: 0.2 / 80, 4: 0.2 / 80},
    "minimax forest": {1: 3 / 80, 4: 0.1 / 80},
    "probability": {1: 1.3 / 80},
    "whole method, paper": _WHOLE,
    "whole method, robust": _WHOLE,
    "dense CRF": {1: 1.0, 4: 1.0},
    "frames -> masks": {4: 5.0},
}


def aim(stage: str, workload: Workload) -> float | None:
    """The aim for a stage in milliseconds a frame on an H200, where the workload is that of the aim.

    Example:
        >>> aim("dense CRF", Workload())
        1.0
    """
    if (workload.height, workload.width, workload.channels) != (480, 854, 64):
        return None
    return AIMS.get(stage, {}).get(workload.stride)


def chosen_stages(words: Iterable[str] | None) -> list[Stage]:
    """The stages whose name contains one of the words, in their order; all where no word is given.

    Raises:
        InputError: a word that is in no name.
    """
    words = list(words or [""])
    for word in words:
        if not any(word.lower() in stage.name.lower() for stage in STAGES):
            raise fail("--stages", repr(word), "part of one of " + ", ".join(stage.name for stage in STAGES))
    return [stage for stage in STAGES if any(word.lower() in stage.name.lower() for word in words)]


def output_tensors(result: object) -> list[Tensor]:
    """All tensors of a result, tuples opened, in order."""
    if isinstance(result, Tensor):
        return [result]
    return [tensor for part in result for tensor in output_tensors(part)] if isinstance(result, tuple) else []
