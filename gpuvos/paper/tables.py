"""The paper's tables and figures from results, the paper's numbers beside ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gpuvos.metrics import DAVIS2016_OCCLUDED, summary
from gpuvos.paper import reported
from gpuvos.paper.ablation import EMBEDDINGS
from gpuvos.paper.drift import average
from gpuvos.paper.oracles import ORACLES
from gpuvos.paper.runner import Results
from gpuvos.paper.variants import PERIODS, RANKINGS, Row, mean, mean_of, period_name, semi_variants
from gpuvos.viz.charts import Series, bar_chart, line_chart

Cell = str | float | None

REFINEMENTS = {"guided": "guided filter", "zoom": "zoom", "crf": "CRF", "zoom-crf": "zoom + CRF"}  # as rows call them


class Table(NamedTuple):
    """A table; numbers are in per cent unless a column says otherwise."""

    name: str  # of its files
    title: str
    columns: tuple[str, ...]
    rows: list[list[Cell]]
    note: str = ""
    charts: dict[str, Tensor] = {}  # noqa: RUF012 -- by file name; nobody changes it


class Context(NamedTuple):
    """What the tables are made for."""

    results: Results
    dataset: str
    split: str
    rules: tuple[str, ...]
    refinements: tuple[str, ...]

    @property
    def where(self) -> str:
        """Dataset, split and number of sequences, for titles."""
        count = max((len(rows) for rows in self.results.values()), default=0)
        return f"{self.dataset} {self.split}, {_counted(count)}"

    def value(self, variant: str, field: str) -> float | None:
        """Mean over the sequences of the mean over their frames, in per cent.

        The mean of T is without DAVIS's occluded sequences; the F-measure is that of the means of precision and
        recall, as the toolkit of FBMS has it.
        """
        if field == "f_measure":
            precision, recall = self.value(variant, "precision"), self.value(variant, "recall")
            if precision is None or recall is None:
                return None
            return 2 * precision * recall / max(precision + recall, 1e-12)
        left_out = DAVIS2016_OCCLUDED if field == "t" and self.dataset == "davis2016" else frozenset()
        rows = self.results.get(variant, {})
        values = [_mean_of(row, field) for name, row in rows.items() if name not in left_out]
        known = [value for value in values if value is not None]
        return 100 * mean(known) if known else None


def _counted(number: int) -> str:
    return f"{number} sequence{'s' if number != 1 else ''}"


def _mean_of(row: Row, field: str) -> float | None:
    value = row.get(field)
    return mean_of(value) if isinstance(value, list) else value


def build(name: str, context: Context) -> Table:
    """The table of an experiment."""
    tables: dict[str, Callable[[Context], Table]] = {
        "main": _main,
        "adaptation": _adaptation,
        "saliency": _saliency,
        "semi": _semi,
        "sequences": _sequences,
        "drift": _drift,
        "oracles": _oracles,
        "embedding": _embedding,
    }
    return tables[name](context)


def _variants(context: Context) -> list[tuple[str, str]]:
    """Title and name of the rules, without and with every refinement."""
    plain = [(f"gpuvos, {rule} rule", rule) for rule in context.rules]
    return plain + [
        (f"gpuvos, {rule} rule + {REFINEMENTS[name]}", f"{rule}/refine-{name}")
        for name in context.refinements
        for rule in context.rules
    ]


def _main(context: Context) -> Table:
    """Tables 1 and 2, with all statistics of the benchmarks."""
    columns = (
        "method",
        "J mean",
        "J recall",
        "J decay",
        "F mean",
        "F recall",
        "F decay",
        "T mean",
        "seed accuracy",
        "precision",
        "recall",
        "F-measure",
    )
    rows: list[list[Cell]] = []
    for title, variant in _variants(context):
        numbers = [*_statistics(context, variant, "j"), *_statistics(context, variant, "f")]
        rest = [context.value(variant, field) for field in ("t", "seed_accuracy", "precision", "recall", "f_measure")]
        rows.append([title, *numbers, *rest])
    pad: list[Cell] = [None] * len(columns)
    truth = context.value("truth", "t")
    if truth is not None:  # what T is worth: true masks change as well
        rows.append(["true masks", *pad[1:]])
        rows[-1][columns.index("T mean")] = truth
    for method, j, f, f_measure in _reported_main(context.dataset, context.split):
        row = list(pad)
        row[0], row[1], row[4], row[-1] = method, j, f, f_measure
        rows.append(row)
    note = f"Rows in brackets: {reported.SOURCE}, on all sequences of the split."
    if context.dataset == "davis2016":
        measured = len(set(context.results.get(context.rules[0], {})) - DAVIS2016_OCCLUDED)
        note += " The first and the last frame do not count (DAVIS-2016). Of T less is better; it is of the "
        note += f"{_counted(measured)} without occlusions, as the benchmark has it."
    elif context.dataset == "fbms59":
        note += " Precision and recall are of the object in all annotated frames of a sequence together, where the "
        note += "toolkit of FBMS takes the mean over its regions, the background among them."
    return Table("main", f"Tables 1 and 2: {context.where}", columns, rows, note)


def _statistics(context: Context, variant: str, field: str) -> list[Cell]:
    """Mean, recall and decay, each averaged over the sequences."""
    rows = [row for row in context.results.get(variant, {}).values() if row.get(field)]
    if not rows:
        return [None, None, None]
    each = [summary(torch.tensor(row[field], dtype=torch.float64)) for row in rows]
    return [100 * mean([float(value) for value in values]) for values in zip(*each, strict=True)]


def _reported_main(dataset: str, split: str) -> list[tuple[str, float | None, float | None, float | None]]:
    if dataset == "davis2016" and split == "val":
        return [(f"[{name}]", j, f, None) for name, (j, f) in reported.MAIN_DAVIS_VAL.items()]
    if dataset == "davis2016" and split == "train":
        return [(f"[{name}]", j, None, None) for name, j in reported.MAIN_DAVIS_TRAIN.items()]
    if dataset == "fbms59" and split == "test":
        return [(f"[{name}]", j, None, f) for name, (f, j) in reported.MAIN_FBMS_TEST.items()]
    if dataset == "segtrack2":
        return [(f"[{name}]", j, None, None) for name, j in reported.MAIN_SEGTRACK.items()]
    return []


def _adaptation(context: Context) -> Table:
    columns = ("J mean", *("k = " + ("never" if period is None else str(period)) for period in PERIODS))
    rows: list[list[Cell]] = []
    for rule in context.rules:
        names = [rule if period == 1 else f"{rule}/{period_name(period)}" for period in PERIODS]
        rows.append([f"gpuvos, {rule} rule", *(context.value(name, "j") for name in names)])
    rows.append(["[paper]", *(reported.ADAPTATION[period] for period in PERIODS)])
    chart = line_chart(
        f"J against frames between adaptations ({context.where})",
        ["never" if period is None else str(period) for period in PERIODS],
        [Series(str(row[0]), _numbers(row[1:])) for row in rows],
        x_title="seed sets renewed every k frames",
        y_title="J",
    )
    note = f"[paper]: Table 3, {reported.SOURCE}, DAVIS train."
    return Table("adaptation", f"Table 3: {context.where}", columns, rows, note, {"table3-adaptation": chart})


def _saliency(context: Context) -> Table:
    columns = ("", *("motion", "objectness", "both"))
    rows: list[list[Cell]] = []
    for rule in context.rules:
        names = [rule if ranking == "both" else f"{rule}/rank-{ranking}" for ranking in RANKINGS]
        for title, field in (("seed accuracy", "seed_accuracy"), ("J mean", "j")):
            rows.append([f"gpuvos, {rule} rule: {title}", *(context.value(name, field) for name in names)])
    for number, title in enumerate(("seed accuracy", "J mean")):
        rows.append([f"[paper]: {title}", *(reported.SALIENCY[ranking][number] for ranking in RANKINGS)])
    note = f"[paper]: Table 4, {reported.SOURCE}, DAVIS train. "
    note += "In the robust rule the same choice is made for the evidence that its seeds vote on."
    return Table("saliency", f"Table 4: {context.where}", columns, rows, note)


def _semi(context: Context) -> Table:
    rows: list[list[Cell]] = []
    for variant in semi_variants(tuple(context.rules), tuple(context.refinements)):
        rule, _, what = variant.partition("/")
        kind, _, refined = what.partition("-")
        title = f"gpuvos, seeds of the {rule} rule" + " and its vote" * (kind == "vote")
        title += f" + {REFINEMENTS[refined]}" if refined else ""
        rows.append([title, context.value(variant, "j"), context.value(variant, "f")])
    rows += [[f"[{name}]", j, None] for name, j in reported.SEMI.items()]
    note = f"Rows in brackets: Table 5, {reported.SOURCE}, DAVIS val. The first mask is given."
    return Table("semi", f"Table 5: {context.where}", ("method", "J mean", "F mean"), rows, note)


def _sequences(context: Context) -> Table:
    ours = _variants(context)
    columns = (
        "sequence",
        *(title for title, _ in ours),
        *(f"[{name}]" for name in reported.SEQUENCE_COLUMNS),
    )
    names = list(next(iter(context.results.values()), {}))
    rows: list[list[Cell]] = []
    for name in names:
        values = [_mean_of(context.results[variant].get(name, {}), "j") for _, variant in ours]
        paper = reported.SEQUENCES.get(name, (None,) * len(reported.SEQUENCE_COLUMNS))
        rows.append([name, *(None if value is None else 100 * value for value in values), *paper])
    means: list[Cell] = ["**mean**"]
    for column in range(1, len(columns)):
        known = [value for value in _numbers([row[column] for row in rows]) if value is not None]
        means.append(mean(known) if known else None)
    series = [
        Series(columns[number], _numbers([row[number] for row in rows]))
        for number in range(1, len(columns))
        if "CRF" not in columns[number] and columns[number] not in ("[ARP]", "[FSEG]")
    ]
    chart = bar_chart(f"J of every sequence ({context.where})", names, series, y_title="J")
    note = f"Columns in brackets: Tables 6 and 7, {reported.SOURCE}; their means here are of the sequences shown."
    return Table(
        "sequences", f"Tables 6 and 7: {context.where}", columns, [*rows, means], note, {"table6-7-sequences": chart}
    )


def _drift(context: Context) -> Table:
    sequences = list(context.results.get("drift", {}).values())
    curves = {name: average(sequences, name) for name in ("wrong", "foreground", "background")}
    at = {name: dict(curve) for name, curve in curves.items()}
    times = [time for time, _ in curves["wrong"]]
    wrong = [100 * at["wrong"][time] for time in times]
    near, around = ([at[name].get(time) for time in times] for name in ("foreground", "background"))
    columns = ("relative time", "wrong, %", "foreground distance", "background distance")
    rows: list[list[Cell]] = [list(row) for row in zip(times, wrong, near, around, strict=True)]
    note = "Figure 6: foreground pixels nearer to the background than to the foreground of the first frame. "
    note += "Figure 8: mean distance to the nearest pixel of the same side in the first frame."
    charts = {
        "figure6-drift": line_chart(
            f"Figure 6: foreground taken for background ({context.where})",
            times,
            [Series("wrong", wrong)],
            x_title="relative time",
            y_title="%",
        ),
        "figure8-drift": line_chart(
            f"Figure 8: distance to the first frame ({context.where})",
            times,
            [Series("foreground", near), Series("background", around)],
            x_title="relative time",
            y_title="distance",
        ),
    }
    return Table("drift", f"Figures 6 and 8: {context.where}", columns, rows, note, charts)


def _oracles(context: Context) -> Table:
    rows: list[list[Cell]] = []
    for title, what in (("the method", ""), *((title, f"/{name}") for name, title in ORACLES.items())):
        cells = [context.value(f"{rule}{what}", field) for rule in context.rules for field in ("j", "f")]
        rows.append([title, *cells])
    ceiling = [context.value("ceiling", field) for field in ("j", "f")]
    rows.append(["true mask on the grid", *ceiling * len(context.rules)])
    columns = ("decided by the truth", *(f"{what}, {rule} rule" for rule in context.rules for what in "JF"))
    note = "One decision is taken by the truth, everything else by the method. The robust rule labels its seeds "
    note += "without the track, so a true track changes nothing but the seed accuracy."
    return Table("oracles", f"Where accuracy is lost: {context.where}", columns, rows, note)


def _embedding(context: Context) -> Table:
    rows: list[list[Cell]] = []
    for title, what in (("the front end", ""), *((title, f"/{name}") for name, title in EMBEDDINGS.items())):
        rows.append([title, *(context.value(f"{rule}{what}", "j") for rule in context.rules)])
    rows.append(["[paper: DeepLab fc7]", *[reported.FC7] * len(context.rules)])
    rows.append(["[paper: instance embedding]", *[reported.ADAPTATION[1]] * len(context.rules)])
    columns = ("embedding", *(f"J, {rule} rule" for rule in context.rules))
    note = f"Objectness and flow stay the same. [paper]: Section 4.4, {reported.SOURCE}, DAVIS train."
    return Table("embedding", f"Other embeddings: {context.where}", columns, rows, note)


def _numbers(cells: list[Cell]) -> list[float | None]:
    return [cell if isinstance(cell, float) and math.isfinite(cell) else None for cell in cells]
