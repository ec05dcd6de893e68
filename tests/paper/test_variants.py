"""Every variant of the method, against the method itself where it can say the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gpuvos import Config, segment
from gpuvos.data import render_clip
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.metrics import boundary_accuracy, region_similarity, temporal_stability
from gpuvos.paper import oracles
from gpuvos.paper.datasets import LabelledVideo
from gpuvos.paper.variants import (
    EXPERIMENTS,
    PERIODS,
    Workbench,
    mean_of,
    period_name,
    plan,
    seed_accuracy,
    stability,
)
from gpuvos.types import Features

RULES = ("robust", "paper")
CONFIGS = {"paper": Config(rule="paper", num_seeds=40, window=5), "robust": Config(num_seeds=40, window=5)}


@pytest.fixture(scope="module")
def bench() -> Workbench:
    clip = render_clip("single", num_frames=7, height=64, width=96, seed=3)
    video = LabelledVideo("clip", clip.frames, clip.mask, tuple(range(7)), slice(1, 6))
    return Workbench(video, AppearanceFeatures()(clip.frames), CONFIGS)


def scores(mask: Tensor, bench: Workbench) -> tuple[list[float], list[float]]:
    truth = bench.video.mask[1:6]
    return region_similarity(mask[1:6], truth).tolist(), boundary_accuracy(mask[1:6], truth).tolist()


def whole_method(bench: Workbench, config: Config, **options: Tensor) -> tuple[list[float], list[float]]:
    return scores(segment(*bench.features, config=config, size=(64, 96), **options).mask, bench)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("period", PERIODS)
def test_adaptation_is_that_of_the_method(bench: Workbench, rule: str, period: int | None) -> None:
    row = bench.measure(rule if period == 1 else f"{rule}/{period_name(period)}")
    assert (row["j"], row["f"]) == whole_method(bench, replace(CONFIGS[rule], adapt_every=period))


@pytest.mark.parametrize("ranking", ["motion", "objectness"])
@pytest.mark.parametrize("distance", ["minimax", "shortest"])
def test_ranking_is_that_of_the_method(ranking: str, distance: str, generator: torch.Generator) -> None:
    """On a small grid, for additive distances are slow without a GPU."""
    config = Config(rule="paper", num_seeds=12, window=3, distance=distance, num_background=3)
    embedding, objectness, flow = (
        torch.rand(3, *shape, generator=generator) for shape in ((2, 8, 12), (8, 12), (2, 8, 12))
    )
    truth = torch.rand(3, 16, 24, generator=generator) > 0.5
    frames = torch.zeros(3, 3, 16, 24, dtype=torch.uint8)
    video = LabelledVideo("noise", frames, truth, (0, 1, 2), slice(0, 3))
    row = Workbench(video, Features(embedding, objectness, flow), {"paper": config}).measure(f"paper/rank-{ranking}")
    result = segment(embedding, objectness, flow, config=replace(config, rank_by=ranking), size=(16, 24))
    assert row["j"] == region_similarity(result.mask, truth).tolist()
    assert row["seed_accuracy"] == seed_accuracy(result, video).item()


def test_the_robust_rule_votes_on_the_ranking_as_well(bench: Workbench) -> None:
    base = bench.base("robust")
    both = oracles.vote(base, base.saliency * 0 + base.seeds.valid, CONFIGS["robust"])
    assert torch.equal(both, base.seeds.valid)  # with the same evidence everywhere every seed is foreground
    rows = {what: bench.measure(f"robust/rank-{what}") for what in ("motion", "objectness")}
    assert rows["motion"]["j"] != rows["objectness"]["j"]


@pytest.mark.parametrize("rule", RULES)
def test_semi_supervised_is_that_of_the_method(bench: Workbench, rule: str) -> None:
    row = bench.measure(f"{rule}/semi")
    assert (row["j"], row["f"]) == whole_method(bench, CONFIGS[rule], first_mask=bench.video.mask[0])


def test_the_vote_beside_the_first_mask_is_that_of_the_method(bench: Workbench) -> None:
    row = bench.measure("robust/vote")
    config = replace(CONFIGS["robust"], mask_vote=0.5)
    assert (row["j"], row["f"]) == whole_method(bench, config, first_mask=bench.video.mask[0])


def test_crf_is_that_of_the_library(bench: Workbench) -> None:
    from gpuvos.functional import dense_crf

    result = segment(*bench.features, config=CONFIGS["paper"], size=(64, 96))
    mask = dense_crf(result.probability, bench.video.frames) > 0.5
    j, f = scores(mask, bench)
    row = bench.measure("paper/refine-crf")
    torch.testing.assert_close((row["j"], row["f"]), (j, f), atol=0.01, rtol=0)
    assert len(row["t"]) == 5  # the pair of frames 0 and 1 counts


def test_stability_can_be_left_out(bench: Workbench) -> None:
    quick = Workbench(bench.video, bench.features, CONFIGS, stability=False)
    assert quick.measure("truth") == {}
    assert quick.measure("paper").keys() == bench.measure("paper").keys() - {"t"}


def test_stability_is_of_the_counted_frames(bench: Workbench) -> None:
    result = segment(*bench.features, config=CONFIGS["paper"], size=(64, 96))
    paired = torch.cat((bench.video.mask[:1], result.mask[1:6]))  # frame 0 is given, as the benchmark has it
    assert bench.measure("paper")["t"] == temporal_stability(paired).tolist()
    assert "t" not in bench.measure("paper/every-5")  # no table shows it
    nothing = bench.video.mask & False
    assert bench.measure("truth") == {"t": temporal_stability(bench.video.mask[:6]).tolist()}
    assert stability(nothing, bench.video) == [None] * 5
    assert mean_of(stability(nothing, bench.video)) is None


def test_true_objectness_is_the_truth(bench: Workbench) -> None:
    truth = oracles.grid_truth(bench.video.mask, bench.grid)
    embedding, _, flow = bench.features
    result = segment(embedding, truth.float(), flow, config=CONFIGS["paper"], size=(64, 96))
    assert bench.measure("paper/oracle-objectness")["j"] == scores(result.mask, bench)[0]


def test_oracles_do_what_they_say() -> None:
    """A grid of 1 x 6 in two regions of 3, seeds at 1 and 4; the object covers pixels 2 to 5."""
    embedding = torch.tensor([0.0, 0.0, 0.0, 5.0, 5.0, 5.0]).expand(2, 1, 1, 6).clone()
    features = Features(embedding, torch.full((2, 1, 6), 0.5), torch.zeros(2, 2, 1, 6))
    truth = torch.tensor([[[False, False, True, True, True, True]]]).expand(2, 1, 6)
    result = segment(*features, config=Config(rule="paper", window=3, num_seeds=4, num_background=1))
    assert result.seeds.valid.any(1).all()
    annotated = torch.tensor([0, 1])
    on = oracles.seeds_on(result, truth, annotated)
    assert torch.equal(on, result.seeds.valid & (result.seeds.index >= 2))
    changed = oracles.with_true_seeds(result, truth, annotated)
    assert torch.equal(changed.foreground, on)
    assert torch.equal(changed.background, result.seeds.valid & ~on)
    label = torch.tensor([[[0, 0, 0, 1, 1, 1]]])
    assert oracles.true_regions(label, truth[:1]).tolist() == [[[False, False, False, True, True, True]]]
    tracks = torch.tensor([[0, 1], [0, 1]])
    index = torch.tensor([[0, 4], [5, 3]])
    seeds = result.seeds._replace(index=index, valid=torch.ones(2, 2, dtype=torch.bool))
    assert oracles.true_track(result._replace(seeds=seeds, tracks=tracks), truth, annotated).tolist() == [
        1,
        1,
    ]


def test_true_seed_labels_beat_the_rule(bench: Workbench) -> None:
    truth = sum(bench.measure("paper/oracle-seeds")["j"]) / 5
    assert truth >= sum(bench.measure("paper")["j"]) / 5
    assert sum(bench.measure("ceiling")["j"]) / 5 > truth


@pytest.mark.slow
def test_every_planned_variant_is_measured(bench: Workbench) -> None:
    variants = {variant for wanted in plan(EXPERIMENTS, RULES, refinements=("crf",)).values() for variant in wanted}
    for variant in (name for name in variants if not name.endswith("-crf")):
        row = bench.measure(variant)
        # the appearance front end has no semantic network
        assert bool(row) != variant.endswith("embedding-semantic"), variant
    assert not any("crf" in name for wanted in plan(EXPERIMENTS, RULES, refinements=()).values() for name in wanted)


def test_sparse_ground_truth(bench: Workbench) -> None:
    """Only the annotated frames count, wherever they are."""
    chosen = (1, 4)
    sparse = LabelledVideo("sparse", bench.video.frames, bench.video.mask[list(chosen)], chosen, slice(0, 2))
    for variant in (
        "paper",
        "robust",
        "paper/every-5",
        "paper/oracle-seeds",
        "paper/oracle-track",
        "ceiling",
    ):
        some = Workbench(sparse, bench.features, CONFIGS).measure(variant)
        assert len(some["j"]) == 2, variant
        assert not some.get("t"), variant  # the frames do not follow each other
        if "oracle" not in variant:
            everything = bench.measure(variant)["j"]  # frames 1 to 5
            torch.testing.assert_close(some["j"], [everything[0], everything[3]], atol=1e-6, rtol=0)
    assert Workbench(sparse, bench.features, CONFIGS).measure("paper/semi") == {}  # no mask of frame 0


def test_frames_without_the_object(bench: Workbench) -> None:
    """The object comes in frame 3 and leaves after frame 4; every variant says something finite."""
    mask = bench.video.mask.clone()
    mask[:3] = False
    mask[5:] = False
    late = Workbench(bench.video._replace(mask=mask), bench.features, CONFIGS)
    for variant in (
        "paper",
        "robust/semi",
        "paper/oracle-seeds",
        "paper/oracle-track",
        "paper/oracle-regions",
        "ceiling",
    ):
        row = late.measure(variant)
        assert all(0 <= value <= 1 for value in row["j"] + row["f"]), variant
    assert late.measure("paper/oracle-seeds")["j"][0] == 1  # nothing is there and nothing is found
    nowhere = Workbench(bench.video._replace(mask=mask & False), bench.features, CONFIGS)
    assert nowhere.measure("paper")["seed_accuracy"] == 0
    assert set(nowhere.measure("drift")["wrong"]) == {None}
