"""T of the true masks of DAVIS train against the official toolkit, where the development data is there.

1,931 of 2,019 pairs are within 1e-4, the mean of the worst sequence within 0.0004. Of the others 75 are within 0.001
and 13 beyond. What was found about them:

- Points of an outline in one row or column lie on the edge of a sector of each other's shape contexts, so the last bits
  of their coordinates decide on the bins. With multiples of the step of an outline, in place of repeated sums, none of
  46 pairs of car-turn is within 1e-6, where now 28 are. The rest of the bits were not found.
- The first point of an outline is also its last, and a path may pass from one to the other at several places for the
  same total. Of five pairs of paragliding that are off by 0.0009 to 0.0023 the official T is that of such an equal
  path. No fixed choice among equals gives it in all of them, so last bits of sums may decide.
- The outline of one frame of bus meets itself at 74 corners. With them in another order its two pairs, off by 0.022 and
  0.005, are within 2e-5. The toolkit has that order from a hash table.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gpuvos.metrics import temporal_stability


@pytest.fixture(scope="module")
def official(development_data: Path) -> dict[str, dict[int, float]]:
    """T by sequence and first frame of a pair; NaN where a frame has no outline."""
    file = development_data / "metrics" / "temporal.csv"
    if not file.is_file():
        pytest.skip("no metrics/temporal.csv in the development data")
    found: dict[str, dict[int, float]] = {}
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["sequence"], {})[int(row["frame"])] = float(row["t"] or "nan")
    return found


def measured(root: Path, name: str, frames: Iterable[int]) -> list[float]:
    """T of the pairs that begin with these successive frames."""
    numbers = [*frames]
    folder = root / "davis2016/Annotations/480p" / name
    files = [folder / f"{number:05d}.png" for number in (*numbers, numbers[-1] + 1)]
    masks = torch.stack([torch.from_numpy(np.asarray(Image.open(file)) > 0) for file in files])
    return temporal_stability(masks).tolist()


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["car-turn", "paragliding", "mallard-water"])
def test_first_pairs(name: str, official: dict[str, dict[int, float]], development_data: Path) -> None:
    found = measured(development_data, name, range(4))
    assert found == pytest.approx([official[name][frame] for frame in range(4)], abs=1e-5)


@pytest.mark.slow
@pytest.mark.data
def test_two_pairs_of_every_sequence(official: dict[str, dict[int, float]], development_data: Path) -> None:
    """As for all pairs, where 98 of 100 are near; which two differs from sequence to sequence."""
    near = 0
    for number, (name, pairs) in enumerate(official.items()):
        first = 7 * number % (len(pairs) - 1)
        near += compare(name, pairs, range(first, first + 2), development_data)
    assert near >= 57


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.exhaustive
def test_all_pairs(official: dict[str, dict[int, float]], development_data: Path) -> None:
    """2,019 pairs: 95 % within 1e-4, the mean of every sequence within 0.002, no outline where the toolkit has none."""
    assert sum(len(pairs) for pairs in official.values()) == 2019
    near = 0
    for name, pairs in official.items():
        assert [*pairs] == [*range(len(pairs))]
        near += compare(name, pairs, range(len(pairs)), development_data, mean=0.002)
    assert near >= 0.95 * 2019


def compare(name: str, pairs: dict[int, float], frames: range, root: Path, mean: float | None = None) -> int:
    """How many of these pairs are within 1e-4; none may be off by 0.03, nor their mean by ``mean``."""
    found = np.array(measured(root, name, frames))
    wanted = np.array([pairs[frame] for frame in frames])
    assert (np.isnan(found) == np.isnan(wanted)).all(), name
    difference = np.nan_to_num(np.abs(found - wanted))
    assert difference.max() < 0.03, name
    if mean is not None:
        assert math.isclose(np.nanmean(found), np.nanmean(wanted), abs_tol=mean), name
    return int((difference <= 1e-4).sum())
