"""Tables of `gpuvos evaluate`: every sequence, the means, attributes, and one method against another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gpuvos.data.datasets.davis_attributes import ATTRIBUTES
from gpuvos.metrics import DAVIS2016_OCCLUDED
from gpuvos.paper.predictions import sign_test
from gpuvos.paper.scoring import Row

_BOTH = ("J", "J recall", "J decay", "F", "F recall", "F decay")
_MEASURES = {"fbms59": ("J", "precision", "recall", "F-measure"), "davis2017": ("J&F", *_BOTH)}
_FIELDS = {
    "J": "j",
    "J recall": "j_recall",
    "J decay": "j_decay",
    "F": "f",
    "F recall": "f_recall",
    "F decay": "f_decay",
    "T": "t",
    "precision": "precision",
    "recall": "recall",
    "seed accuracy": "seed_accuracy",
}


def markdown(rows: Sequence[Row], *, dataset: str = "davis2016") -> str:
    """Table of all rows, and the mean of each method over them, in per cent.

    Of DAVIS-2016 J, F and T, the last without its occluded sequences; of DAVIS-2017 J and F, a row and a weight an
    object; of FBMS J, precision, recall and the F-measure, which is that of the means of both. A method whose masks
    were read from files has no speed and no seeds.
    """
    measures = _MEASURES.get(dataset, (*_BOTH, "T"))
    seeds = () if dataset == "davis2017" else ("seed accuracy",)
    values = (*measures, *seeds)
    lines = _head(("sequence", "method"), ("scored", *values, "features, frames/s", "method, frames/s"))
    lines += [_line(row.sequence, [row], values) for row in rows]
    left_out = DAVIS2016_OCCLUDED if dataset == "davis2016" else frozenset()
    for method in dict.fromkeys(row.method for row in rows):
        lines.append(_line("**mean**", [row for row in rows if row.method == method], values, left_out))
    return "\n".join(lines)


def _line(name: str, rows: list[Row], values: tuple[str, ...], left_out: frozenset[str] = frozenset()) -> str:
    seconds = (sum(row.feature_seconds for row in rows), sum(row.method_seconds for row in rows))
    speeds = (sum(row.frames for row in rows) / spent if spent else math.nan for spent in seconds)
    numbers = [*(_value(rows, column, left_out) for column in values), *speeds]
    return _cells(name, rows[0].method, str(sum(row.scored for row in rows)), *(_shown(number) for number in numbers))


def _value(rows: Sequence[Row], column: str, left_out: frozenset[str] = frozenset()) -> float:
    """The mean of a column over rows, in per cent; NaN where none has it."""
    if column == "J&F":
        return (_value(rows, "J") + _value(rows, "F")) / 2
    if column == "F-measure":
        precision, recall = _value(rows, "precision"), _value(rows, "recall")
        return 2 * precision * recall / max(precision + recall, 1e-12)
    skipped = left_out if column == "T" else frozenset()
    found = [float(getattr(row, _FIELDS[column])) for row in rows if row.sequence not in skipped]
    known = [value for value in found if not math.isnan(value)]
    return 100 * math.fsum(known) / len(known) if known else math.nan


def attribute_table(rows: Sequence[Row], attributes: Mapping[str, Sequence[str]]) -> str:
    """J by attribute: the mean of the sequences that have it, and how it differs from the mean of the others.

    Args:
        rows: one a sequence and method.
        attributes: codes by sequence; sequences that it does not name are left out.

    Example:
        >>> found = {"bear": 0.9, "surf": 0.6, "bus": 0.8}
        >>> rows = [Row(name, "robust", 9, 9, j, *[0.0] * 5) for name, j in found.items()]
        >>> print(attribute_table(rows, {"bear": ["DEF"], "surf": ["FM", "DEF"], "bus": []}))
        | attribute | sequences | J of robust | difference |
        |---|---:|---:|---:|
        | DEF, deformation | 2 | 75.0 | -5.0 |
        | FM, fast motion | 1 | 60.0 | -25.0 |
    """
    known = [row for row in rows if row.sequence in attributes]
    methods = list(dict.fromkeys(row.method for row in known))
    codes = sorted({code for row in known for code in attributes[row.sequence]})
    lines = _head(("attribute",), ("sequences", *(part for name in methods for part in (f"J of {name}", "difference"))))
    for code in codes:
        cells = []
        for method in methods:
            mine = [row for row in known if row.method == method]
            having = [row for row in mine if code in attributes[row.sequence]]
            others = [row for row in mine if code not in attributes[row.sequence]]
            value, rest = _value(having, "J"), _value(others, "J")
            cells += [_shown(value), "-" if math.isnan(rest) else f"{value - rest:+.1f}"]
        count = len({row.sequence for row in known if code in attributes[row.sequence]})
        title = f"{code}, {ATTRIBUTES[code]}" if code in ATTRIBUTES else code
        lines.append(_cells(title, str(count), *cells))
    return "\n".join(lines)


def difference(ours: Mapping[str, list[Row]], theirs: Mapping[str, list[Row]], *, dataset: str = "davis2016") -> str:
    """How gpuvos differs from another method, sequence by sequence, and how likely by chance.

    Args:
        ours: rows by sequence.
        theirs: rows of the same sequences.
        dataset: of DAVIS-2017 J&F is compared, of others J.
    """
    measure = "J&F" if dataset == "davis2017" else "J"
    first, second = ([_value(rows, measure) for rows in side.values()] for side in (ours, theirs))
    better, worse, chance = sign_test(first, second)
    each = ", ".join(f"{name} {one - two:+.1f}" for name, one, two in zip(ours, first, second, strict=True))
    every, others = ([row for rows in side.values() for row in rows] for side in (ours, theirs))
    mean = _value(every, measure) - _value(others, measure)
    text = f"{measure} of {every[0].method} less that of {others[0].method}: {mean:+.1f} ({each})"
    return f"{text}; better on {better}, worse on {worse}; sign test p = {chance:.3f}"


def _head(left: Sequence[str], right: Sequence[str]) -> list[str]:
    return [_cells(*left, *right), "|" + "---|" * len(left) + "---:|" * len(right)]


def _cells(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"
