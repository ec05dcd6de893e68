"""Tables, charts and figures from results that are made up, so that every number is known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from gpuvos import Config
from gpuvos.data import render_clip
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.network.embedding import EmbeddingNetwork
from gpuvos.paper import drift, report, reported
from gpuvos.paper.ablation import SemanticEmbedding, part
from gpuvos.paper.figures import draw_figures
from gpuvos.paper.tables import Context, Table, build
from gpuvos.paper.variants import EXPERIMENTS, plan
from gpuvos.viz.charts import COLORS, Series, bar_chart, line_chart

RULES = ("robust", "paper")


def made_up() -> Context:
    """J of bear is 0.5 and of boat 0.7 throughout, plus a hundredth for every variant after the first."""
    variants = {name for wanted in plan(EXPERIMENTS, RULES, refinements=("crf",)).values() for name in wanted}
    results = {}
    for number, variant in enumerate(sorted(variants)):
        rows = {}
        for name, j in (("bear", 0.5), ("boat", 0.7)):
            value = j + number / 100
            rows[name] = {
                "j": [value - 0.1, value + 0.1],
                "f": [value],
                "t": [0.2, None],
                "seed_accuracy": 0.9,
                "precision": 1.0,
                "recall": 0.5,
            }
        results[variant] = rows
    results["truth"] = {"bear": {"t": [0.1]}, "boat": {"t": [0.0, None]}}
    results["drift"] = {
        name: {"time": [0.0, 1.0], "wrong": [0.0, end], "foreground": [0.0, 2.0], "background": [0.0, None]}
        for name, end in (("bear", 0.2), ("boat", 0.4))
    }
    return Context(results, "davis2016", "train", RULES, refinements=("crf",))


def number_of(variant: str) -> float:
    """J in per cent that the made-up results have in the mean."""
    names = sorted({name for wanted in plan(EXPERIMENTS, RULES, refinements=("crf",)).values() for name in wanted})
    return 60.0 + names.index(variant)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_table_is_rectangular_and_written(name: str, tmp_path: Path) -> None:
    table = build(name, made_up())
    assert all(len(row) == len(table.columns) for row in table.rows)
    report.write(tmp_path, [table], {"what": "made up"})
    with (tmp_path / f"{name}.csv").open(newline="") as stream:
        lines = list(csv.reader(stream))
    assert tuple(lines[0]) == table.columns
    assert len(lines) == 1 + len(table.rows)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["what"] == "made up"
    assert content["tables"][0] == json.loads((tmp_path / f"{name}.json").read_text())
    text = (tmp_path / "report.md").read_text()
    assert text.startswith(f"### {table.title}")
    for chart in table.charts:
        assert (tmp_path / "plots" / f"{chart}.png").stat().st_size > 1000
        assert f"(plots/{chart}.png)" in text


def test_numbers_are_in_their_places() -> None:
    context = made_up()
    main = build("main", context)
    assert main.rows[0][:2] == ["gpuvos, robust rule", pytest.approx(number_of("robust"))]
    assert main.rows[3][:2] == ["gpuvos, paper rule + CRF", pytest.approx(number_of("paper/refine-crf"))]
    assert main.rows[0][main.columns.index("F-measure")] == pytest.approx(200 / 3)
    assert ["[paper]", 77.5] in [row[:2] for row in main.rows]
    assert [main.rows[4][0], main.rows[4][main.columns.index("T mean")]] == ["true masks", pytest.approx(5)]
    assert main.rows[0][main.columns.index("T mean")] == pytest.approx(20)
    adaptation = build("adaptation", context)
    assert adaptation.rows[1][1:3] == [pytest.approx(number_of(v)) for v in ("paper", "paper/every-5")]
    assert adaptation.rows[1][6] == pytest.approx(number_of("paper/every-never"))
    assert adaptation.rows[2][1:] == [77.5, 76.4, 75.9, 75.0, 73.6, 70.5]
    saliency = build("saliency", context)
    assert saliency.rows[3][1] == pytest.approx(number_of("paper/rank-motion"))
    assert saliency.rows[3][3] == pytest.approx(number_of("paper"))
    sequences = build("sequences", context)
    assert sequences.rows[0][0] == "bear"
    assert sequences.rows[0][-2:] == [93.5, 95.2]
    assert sequences.rows[-1][-2] == pytest.approx((93.5 + 65.2) / 2)
    oracles = build("oracles", context)
    assert oracles.rows[1][3] == pytest.approx(number_of("paper/oracle-track"))


def test_stability_leaves_out_occluded_sequences_and_old_rows() -> None:
    results = {
        "robust": {
            "bear": {"j": [0.5], "f": [0.5], "t": [0.1, 0.3]},
            "lucia": {"j": [0.5], "f": [0.5], "t": [0.9]},
        },
        "paper": {
            "bear": {"j": [0.5], "f": [0.5]},
            "lucia": {"j": [0.5], "f": [0.5]},
        },  # written before there was T
    }
    context = Context(results, "davis2016", "train", RULES, refinements=())
    main = build("main", context)
    place = main.columns.index("T mean")
    assert [row[place] for row in main.rows[:2]] == [pytest.approx(20), None]
    assert "of the 1 sequence without" in main.note
    elsewhere = build("main", context._replace(dataset="segtrack2"))
    assert elsewhere.rows[0][place] == pytest.approx(100 * (0.2 + 0.9) / 2)


def test_the_f_measure_is_that_of_the_means() -> None:
    """Precision 1 and 0.5, recall 0.2 and 0.6: the means are 0.75 and 0.4, F is 0.6 / 1.15 (of each: 1/3 and 6/11)."""
    rows = {"cars1": {"precision": 1.0, "recall": 0.2}, "dogs01": {"precision": 0.5, "recall": 0.6}}
    main = build("main", Context({"paper": rows}, "fbms59", "test", ("paper",), refinements=()))
    assert main.rows[0][-3:] == [pytest.approx(75), pytest.approx(40), pytest.approx(60 / 1.15)]
    assert ["[LVO]", 77.8] in [[row[0], row[-1]] for row in main.rows]
    assert "background" in main.note


def test_means_of_the_appendix_are_those_of_the_tables() -> None:
    """The paper gives the means of its tables 6 and 7: 77.5 and 79.5, 75.8 and 78.5."""
    rows = list(reported.SEQUENCES.values())
    assert len(rows) == 50
    for part_of, wanted in ((rows[:30], (76.3, 72.2, 77.5, 79.5)), (rows[30:], (76.2, 70.7, 75.8, 78.5))):
        means = [sum(column) / len(part_of) for column in zip(*part_of, strict=True)]
        assert means == pytest.approx(wanted, abs=0.06)


def test_drift_curves() -> None:
    table = build("drift", made_up())
    assert len(table.rows) == drift.STEPS + 1
    assert table.rows[10][:3] == [0.5, pytest.approx(15.0), pytest.approx(1.0)]  # half-way to 20 and 40 %


def test_drift_against_loops(generator: torch.Generator) -> None:
    embedding = torch.rand(3, 4, 6, 8, generator=generator)
    truth = torch.rand(3, 6, 8, generator=generator) > 0.5
    row = drift.measure(embedding, truth, (0, 1, 2))
    places = [(y, x) for y in range(0, 6, drift.STRIDE) for x in range(0, 8, drift.STRIDE)]
    for frame in range(3):
        near = {True: [], False: []}
        wrong = []
        for y, x in places:
            point = embedding[frame, :, y, x]
            distance = {
                side: min((point - embedding[0, :, v, u]).norm().item() for v, u in places if truth[0, v, u] == side)
                for side in (True, False)
            }
            near[bool(truth[frame, y, x])].append(distance[bool(truth[frame, y, x])])
            if truth[frame, y, x]:
                wrong.append(distance[False] < distance[True])
        assert row["foreground"][frame] == pytest.approx(sum(near[True]) / len(near[True]), abs=1e-3)
        assert row["background"][frame] == pytest.approx(sum(near[False]) / len(near[False]), abs=1e-3)
        assert row["wrong"][frame] == pytest.approx(sum(wrong) / len(wrong))
    assert row["wrong"][0] == 0
    empty = drift.measure(embedding, torch.zeros_like(truth), (0, 1, 2))
    assert empty["wrong"] == [None] * 3
    truth[0] = False  # the object comes later: there is nothing to compare with
    late = drift.measure(embedding, truth, (0, 1, 2))
    assert late["wrong"] == late["foreground"] == [None] * 3
    assert None not in late["background"]


def test_a_line_goes_where_its_values_are() -> None:
    chart = line_chart("t", [0.0, 1.0], [Series("a", [0.0, 1.0])], x_title="x", y_title="y")
    color = torch.tensor(COLORS[0], dtype=torch.int)[:, None, None]
    drawn = ((chart.int() - color).abs().sum(0) < 60).nonzero()
    low, high = (
        drawn[drawn[:, 1] < 120].float().mean(0),
        drawn[(drawn[:, 1] > 680) & (drawn[:, 0] > 50)].float().mean(0),
    )
    assert low[0] > 300
    assert high[0] < 120
    bars = bar_chart("t", ["a", "b"], [Series("s", [1.0, 0.5])], y_title="y")
    drawn = (bars.int() - color).abs().sum(0) < 60
    heights = [int(drawn[50:, column].sum()) for column in (230, 570)]
    assert heights[0] == pytest.approx(2 * heights[1], abs=6)
    line_chart("t", [], [], x_title="", y_title="")  # nothing to draw is no error
    bar_chart("t", [], [], y_title="")


def test_markdown_is_plain() -> None:
    table = Table("t", "T", ("a", "b"), [["x", float("nan")], ["y", 12.34]], "note")
    assert report.markdown(table).splitlines()[4:] == ["| x | - |", "| y | 12.3 |", "", "note"]


@pytest.mark.slow
def test_other_embeddings() -> None:
    front_end = LearnedFeatures(EmbeddingNetwork(dimensions=8))
    frames = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    features = front_end(frames)
    semantic = SemanticEmbedding(front_end)(frames, features)
    assert semantic.embedding.shape == (2, 32, *features.embedding.shape[-2:])
    spread = [value.var(dim=(0, 2, 3)).sum().item() for value in (semantic.embedding, features.embedding[:, :-4])]
    assert spread[0] == pytest.approx(spread[1], rel=1e-3)
    assert part(features.embedding, "network").shape[1] == 8
    assert torch.equal(part(features.embedding, "context"), features.embedding[:, 8:])


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_figures_of_any_clip(rule: str) -> None:
    clip = render_clip("single", num_frames=3, height=48, width=80, seed=1)
    features = AppearanceFeatures()(clip.frames)
    config = Config(rule=rule, num_seeds=30, window=3)
    figures = draw_figures(clip.frames, features, config, frame=2, truth=clip.mask)
    assert set(figures) == {f"figure{number}" for number in (1, 3, 4, 5, 7)}
    rows = {"figure1": 3, "figure3": 2, "figure4": 2, "figure5": 1, "figure7": 1}
    for name, picture in figures.items():
        assert picture.dtype == torch.uint8
        assert picture.shape[1] == 6 + rows[name] * (252 + 6)
        assert picture.float().std() > 5  # something is drawn
    single = draw_figures(clip.frames[:1], type(features)(*(value[:1] for value in features)), config)
    assert "figure7" not in single
