"""Measures as modules: against the functions by hand, and two processes against one."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpuvos.errors import InputError
from gpuvos.metrics import boundary_accuracy, foreground_score, region_similarity, summary, temporal_stability
from gpuvos.metrics.modules import (
    BoundaryAccuracy,
    ForegroundMeasure,
    ObjectMeasure,
    RegionSimilarity,
    SequenceMetric,
    TemporalStability,
)

SCRIPT = Path(__file__).with_name("share_sequences.py")
TWO_PROCESSES = Path(__file__).parents[1] / "two_processes.py"
KINDS = (RegionSimilarity, BoundaryAccuracy, TemporalStability, ForegroundMeasure)


def sequences(count: int) -> list[tuple[Tensor, Tensor]]:
    """Pairs of masks of 4 to 6 frames of different sizes, squares that grow."""
    pairs = []
    for number in range(count):
        frames, side = 4 + number % 3, 40 + 2 * number
        mask, truth = torch.zeros(2, frames, side, side, dtype=torch.bool)
        for frame in range(frames):
            truth[frame, 5 : 18 + frame, 5 : 20 + number] = True
            mask[frame, 6 + number % 2 : 20, 5 : 18 + 2 * frame] = True
        pairs.append((mask, truth))
    return pairs


def flat(result: object) -> list[float]:
    """All numbers of a result."""
    if isinstance(result, Tensor):
        return result.flatten().tolist()
    assert isinstance(result, tuple)
    return [number for part in result for number in flat(part)]


def test_means_of_the_functions() -> None:
    pairs = sequences(3)
    measures: list[SequenceMetric[object]] = [kind() for kind in KINDS]  # type: ignore[misc]
    for mask, truth in pairs:
        for measure in measures:
            measure(mask, truth)
    j, f, t, score = (measure.compute() for measure in measures)
    for found, function in ((j, region_similarity), (f, boundary_accuracy)):
        each = [summary(function(mask, truth).double()) for mask, truth in pairs]
        assert flat(found) == pytest.approx([sum(values) / 3 for values in zip(*map(flat, each), strict=True)])
    mixed = [torch.cat([truth[:1], mask[1:]]) for mask, truth in pairs]
    assert flat(t) == pytest.approx([sum(temporal_stability(clip).mean().item() for clip in mixed) / 3])
    parts = [foreground_score(mask, truth) for mask, truth in pairs]
    precision, recall = (sum(float(part[place]) for part in parts) / 3 for place in (0, 1))
    assert flat(score) == pytest.approx([precision, recall, 2 * precision * recall / (precision + recall)])


def test_by_hand() -> None:
    """J of one frame 1/2 and of another sequence's two frames 1 and 0: means 1/2 each; recall 0 and 1/2."""
    measure = RegionSimilarity()
    measure.update(torch.tensor([[[1, 1]]]), torch.tensor([[[1, 0]]]))
    measure.update(torch.tensor([[[1, 1]], [[1, 0]]]), torch.tensor([[[1, 1]], [[0, 1]]]))
    assert flat(measure.compute()) == [0.5, 0.25, 0.5]  # decay: 0, and 1 less 0
    measure.reset()
    with pytest.raises(InputError, match="RegionSimilarity: got no sequence"):
        measure.compute()


def test_objects_weigh_the_same_whatever_their_sequence() -> None:
    """Two objects found in one sequence, one missed in the other: J and F are 2 / 3."""
    truth = torch.zeros(2, 3, 20, 20, dtype=torch.bool)
    truth[0, :, 2:8, 2:8] = truth[1, :, 10:16, 10:16] = True
    measure = ObjectMeasure()
    measure.update(truth.flip(0), truth)
    measure.update(truth[:0], truth[:1])
    j, f = measure.compute()
    assert j.mean.item() == f.mean.item() == pytest.approx(2 / 3)


def test_a_sequence_without_outlines_has_no_stability() -> None:
    measure = TemporalStability()
    (mask, truth), *_ = sequences(1)
    measure.update(mask, truth)
    one = measure.compute().item()
    measure.update(torch.zeros_like(mask), torch.zeros_like(truth))
    assert measure.compute().item() == one
    measure.reset()
    measure.update(torch.zeros_like(mask), torch.zeros_like(truth))
    assert math.isnan(measure.compute().item())


def test_state_moves_and_is_not_saved() -> None:
    measure = RegionSimilarity()
    measure.update(*sequences(1)[0])
    assert measure.rows.shape == (1, 3)
    assert measure.state_dict() == {}
    before = flat(measure.compute())
    assert flat(measure.to("cpu").compute()) == before
    with pytest.raises(InputError, match=r"mask: got shape \(2, 2\)"):
        measure.update(torch.ones(2, 2), torch.ones(2, 2))
    with pytest.raises(InputError, match="mask: got list"):
        measure.update([1], torch.ones(2, 2))  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_processes_and_one(tmp_path: Path) -> None:
    """Both get what one process gets, before and after one of them has seen anything, and as often as they ask."""
    pairs = sequences(5)
    torch.save(pairs, tmp_path / "pairs.pt")
    command = [sys.executable, TWO_PROCESSES, "gpuvos.metrics.modules", SCRIPT, tmp_path]
    names = [kind.__name__ for kind in KINDS]
    done = subprocess.run([*command, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (first, late), (second, _) = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert late == 0
    for kind, mine, other in zip(KINDS, first, second, strict=True):
        alone: SequenceMetric[object] = kind()  # type: ignore[assignment]
        alone.update(*pairs[0])
        assert mine[0] == other[0] == flat(alone.compute())
        for pair in pairs[1:]:
            alone.update(*pair)
        assert mine[1] == mine[2] == other[1] == other[2]
        assert mine[1] == pytest.approx(flat(alone.compute()), rel=1e-12)
        assert (mine[3], other[3]) == (3, 2)
