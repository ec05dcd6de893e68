"""Tables of `gpuvos evaluate` from rows that are made up, so that every number is known."""

from __future__ import annotations

import math

import pytest
import torch

from gpuvos.paper.datasets import LabelledVideo
from gpuvos.paper.score_tables import attribute_table, difference, markdown
from gpuvos.paper.scoring import Row, score, score_objects


def row(name: str, method: str, j: float, **values: float) -> Row:
    """A row of 10 frames of which 8 count; recall and decay follow J and F."""
    made = Row(name, method, 10, 8, j, j + 0.1, 0.1, j - 0.1, j, -0.1)
    return made._replace(**values)  # type: ignore[arg-type]


def test_recall_and_decay_of_every_sequence() -> None:
    """By hand: frames 2..6 of 7 count; of J 1, 1, 0.5, 0.5, 0 two are above 0.5, and quarters are 1, 1 and 0.5, 0."""
    truth = torch.zeros(7, 8, 8, dtype=torch.bool)
    truth[:, 2:6, 2:6] = True
    mask = truth.clone()
    mask[3:5, 4:] = False  # half of the object: J 0.5
    mask[5] = False
    video = LabelledVideo("cat", torch.zeros(7, 3, 8, 8, dtype=torch.uint8), truth, tuple(range(7)), slice(1, 6))
    found = score(video, "robust", mask, temporal=False)
    assert (found.frames, found.scored) == (7, 5)
    assert [found.j, found.j_recall, found.j_decay] == pytest.approx([0.6, 0.4, 1.0 - 0.25])
    assert math.isnan(found.t)
    assert not math.isnan(score(video, "robust", truth).t)


def test_a_row_an_object() -> None:
    """The second object is found wholly, the first not at all; time and frames count once."""
    ids = torch.zeros(2, 12, 12, dtype=torch.uint8)
    ids[:, 1:5, 1:5], ids[:, 7:11, 7:11] = 1, 2
    frames = torch.zeros(2, 3, 12, 12, dtype=torch.uint8)
    video = LabelledVideo("judo", frames, ids > 0, (0, 1), slice(0, 2), ("0", "1"), ids)
    rows = score_objects(video, "robust", (ids == 2)[None], seconds=(1.0, 2.0))
    assert [(r.sequence, r.j, r.f, r.frames, r.method_seconds) for r in rows] == [
        ("judo_1", 0.0, 0.0, 2, 2.0),
        ("judo_2", 1.0, 1.0, 0, 0.0),
    ]
    lines = markdown(rows, dataset="davis2017").splitlines()
    assert lines[-1] == "| **mean** | robust | 4 | 50.0 | 50.0 | 50.0 | 0.0 | 50.0 | 50.0 | 0.0 | 2.0 | 1.0 |"


def test_fbms_prints_precision_recall_and_f_measure() -> None:
    """By hand: means of P 50 and 100 and of R 100 and 50 are 75 each, and so is F."""
    rows = [row(name, "robust", 0.5, precision=p, recall=r) for name, p, r in (("a", 0.5, 1.0), ("b", 1.0, 0.5))]
    lines = markdown(rows, dataset="fbms59").splitlines()
    assert lines[0].startswith("| sequence | method | scored | J | precision | recall | F-measure |")
    assert lines[-1].startswith("| **mean** | robust | 16 | 50.0 | 75.0 | 75.0 | 75.0 |")


def test_stability_is_of_the_sequences_without_occlusions() -> None:
    rows = [row("bear", "robust", 0.5, t=0.1), row("lucia", "robust", 0.7, t=0.9), row("boat", "robust", 0.6)]
    mean = markdown(rows).splitlines()[-1]
    assert mean.startswith("| **mean** | robust | 24 | 60.0 | 70.0 | 10.0 | 50.0 | 60.0 | -10.0 | 10.0 |")
    assert "| **mean** | robust | 24 | 60.0 | 70.0 | 10.0 | 50.0 | 60.0 | -10.0 | 50.0 |" in markdown(rows, dataset="x")


def test_attributes_by_hand() -> None:
    """FM: 50 with it, the mean 75 of 70 and 80 without. DEF: all of them have it, so there are no others."""
    rows = [
        row(name, method, j + shift)
        for method, shift in (("robust", 0.0), ("peer", 0.1))
        for name, j in (("bear", 0.7), ("surf", 0.5), ("bus", 0.8))
    ]
    attributes = {"bear": ("DEF",), "surf": ("FM", "DEF"), "bus": ("DEF", "XY"), "other": ("OV",)}
    lines = attribute_table(rows, attributes).splitlines()
    assert lines[0] == "| attribute | sequences | J of robust | difference | J of peer | difference |"
    assert lines[2:] == [
        "| DEF, deformation | 3 | 66.7 | - | 76.7 | - |",
        "| FM, fast motion | 1 | 50.0 | -25.0 | 60.0 | -25.0 |",
        "| XY | 1 | 80.0 | +20.0 | 90.0 | +20.0 |",
    ]


def test_difference_by_hand() -> None:
    """One better, two worse, one tie: of three throws, at most one on the rarer side has p = 2 (1 + 3) / 8 = 1."""
    ours = {name: [row(name, "robust", j)] for name, j in (("a", 0.9), ("b", 0.4), ("c", 0.5), ("d", 0.6))}
    theirs = {name: [row(name, "peer", j)] for name, j in (("a", 0.8), ("b", 0.6), ("c", 0.7), ("d", 0.6))}
    assert difference(ours, theirs) == (
        "J of robust less that of peer: -7.5 (a +10.0, b -20.0, c -20.0, d +0.0); "
        "better on 1, worse on 2; sign test p = 1.000"
    )
    # With two objects in a sequence its mean is compared, but all objects weigh the same in the whole.
    ours = {"a": [row("a_1", "robust", 0.9), row("a_2", "robust", 0.5)], "b": [row("b_1", "robust", 0.5)]}
    theirs = {"a": [row("a_1", "peer", 0.5), row("a_2", "peer", 0.5)], "b": [row("b_1", "peer", 0.4)]}
    text = difference(ours, theirs, dataset="davis2017")
    assert text.startswith("J&F of robust less that of peer: +16.7 (a +20.0, b +10.0)")
