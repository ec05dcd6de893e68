"""Temporal stability T: hand-worked histograms, costs and matchings, each against a brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from gpuvos.errors import InputError
from gpuvos.metrics import DAVIS2016_OCCLUDED, temporal, temporal_stability
from gpuvos.metrics.contour import longest_polygon
from gpuvos.metrics.temporal import context_costs, shape_contexts
from gpuvos.metrics.warping import matching_cost, warp

Array = npt.NDArray[np.float64]
Pairs = list[tuple[int, int]]


def histograms_by_angle(points: Array) -> Array:
    """Shape contexts with angles and a logarithmic scale, point by point."""
    distance = np.array([[math.dist(p, q) for q in points] for p in points])
    edges = np.logspace(math.log10(1 / 8), math.log10(2), 5)
    found = np.zeros((len(points), 60))
    for one, (row, column) in enumerate(points):
        for other, (r, c) in enumerate(points):
            inner = int((distance[one, other] / distance.mean() < edges).sum())  # 0: outside, 5: innermost
            angle = math.fmod(math.atan2(c - column, r - row) + 2 * math.pi, 2 * math.pi)  # rounded as by the toolkit
            if inner:
                found[one, 5 * min(int(angle / (math.pi / 6)), 11) + inner - 1] += 1
    return found / found.sum(1, keepdims=True)


def costs_by_loop(first: Array, second: Array) -> Array:
    return np.array(
        [
            [sum((g - h) ** 2 / (g + h) for g, h in zip(a, b, strict=True) if g + h > 0) / 2 for b in second]
            for a in first
        ]
    )


def path_by_loop(cost: Array) -> Pairs:
    """The warping path from the last pair to the first."""
    n, m = cost.shape
    total = {(0, 0): cost[0, 0]}
    source: dict[tuple[int, int], tuple[int, int]] = {}
    for i, j in itertools.product(range(n), range(m)):
        before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        known = [cell for cell in before if cell in total]
        if known:
            source[i, j] = min(known, key=lambda cell: total[cell])  # the first of equals
            total[i, j] = total[source[i, j]] + cost[i, j]
    path = [(n - 1, m - 1)]
    while path[-1] != (0, 0):
        path.append(source[path[-1]])
    return path


def matching_by_loop(cost: Array) -> float:
    """Both warpings and the choice of one pair a point."""
    n, m = cost.shape
    cheapest = min(path_by_loop(cost)[:-1], key=lambda cell: cost[cell])
    shift = (cheapest[0] + 1, cheapest[1] + 1)
    rolled = np.roll(cost, (-shift[0], -shift[1]), axis=(0, 1))
    pairs = [((i + shift[0]) % n, (j + shift[1]) % m) for i, j in path_by_loop(rolled)]
    for side in (0, 1):
        best: dict[int, tuple[int, int]] = {}
        for pair in pairs:
            if pair[side] not in best or cost[pair] < cost[best[pair[side]]]:
                best[pair[side]] = pair
        pairs = [best[point] for point in sorted(best)]
    return float(np.mean([cost[pair] for pair in pairs]))


def test_shape_contexts_by_hand() -> None:
    """Corners of a square with sides of 2: distances 0 (4 times), 2 (8), sqrt(8) (4), mean 1.707."""
    square = torch.tensor([[0.0, 0.0], [0.0, 2.0], [2.0, 2.0], [2.0, 0.0]], dtype=torch.float64)
    found = shape_contexts(square)
    assert found.shape == (4, 60)
    # Seen from the first: itself in sector 0, innermost ring; down (0 degrees), diagonal (45), right (90), all in the
    # outermost ring, for 2 / 1.707 = 1.17 and 2.83 / 1.707 = 1.66 lie between 1 and 2.
    assert found[0].nonzero()[:, 0].tolist() == [0, 4, 5, 15]
    # From the third: up (180), diagonal (225), left (270).
    assert found[2].nonzero()[:, 0].tolist() == [4, 30, 35, 45]
    assert set(found[found > 0].tolist()) == {0.25}


@pytest.mark.parametrize("seed", range(5))
def test_shape_contexts_against_angles(seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.integers(0, 30, size=(25, 2)) + (random.random((25, 2)) if seed % 2 else 0.0)
    found = shape_contexts(torch.from_numpy(points))
    np.testing.assert_array_equal(found.numpy(), histograms_by_angle(points))


def test_costs_by_hand() -> None:
    first = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    second = torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]], dtype=torch.float64)
    # (1/2 + 1/2) / 2, nothing in common, equal; (1/4 / 3/2 + 1/2) / 2 = 1/3.
    wanted = [[0.5, 1.0, 0.0], [1 / 3, 1.0, 1 / 3]]
    torch.testing.assert_close(context_costs(first, second), torch.tensor(wanted, dtype=torch.float64))


def test_costs_against_loops(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (torch.rand(n, 60, generator=generator, dtype=torch.float64) for n in (9, 7))
    first[:, ::3] = 0
    second[:, ::2] = 0
    first, second = first / first.sum(1, keepdim=True), second / second.sum(1, keepdim=True)
    found = context_costs(first, second)
    np.testing.assert_allclose(found.numpy(), costs_by_loop(first.numpy(), second.numpy()), atol=1e-12)
    monkeypatch.setattr(temporal, "_CPU_TILE", 20)  # two rows at once
    assert torch.equal(context_costs(first, second), found)


def test_matching_by_hand() -> None:
    """Three points and four; the cheapest pair of the first path is (1, 1)."""
    cost = torch.tensor([[0.1, 0.9, 0.9, 0.9], [0.9, 0.05, 0.2, 0.9], [0.9, 0.9, 0.9, 0.3]], dtype=torch.float64)
    path = warp(cost[None], torch.tensor([3]), torch.tensor([4]))
    pairs = list(zip(path.row[0].tolist(), path.column[0].tolist(), strict=True))
    assert pairs[:4] == [(2, 3), (1, 2), (1, 1), (0, 0)]
    assert path.cost[0, :4].tolist() == [0.3, 0.2, 0.05, 0.1]
    assert path.cost[0, 4:].isinf().all()
    # Begun anew behind (1, 1) the table is, rows 2 0 1 and columns 2 3 0 1:
    #   0.9 0.3 0.9 0.9 / 0.9 0.9 0.1 0.9 / 0.2 0.9 0.9 0.05
    # The path (2, 2) (2, 3) (0, 0) (1, 1) costs 0.9 + 0.3 + 0.1 + 0.05. Of the pairs of point 2 the second stays.
    wanted = (0.3 + 0.1 + 0.05) / 3
    assert matching_cost(cost[None], torch.tensor([3]), torch.tensor([4])).item() == pytest.approx(wanted)


def test_warping_finds_the_least_total(generator: torch.Generator) -> None:
    """Of all paths there are."""
    cost = torch.rand(6, 4, 5, generator=generator, dtype=torch.float64)

    def least(table: Tensor, i: int, j: int) -> float:
        if i < 0 or j < 0:
            return math.inf
        rest = min(least(table, i - 1, j - 1), least(table, i - 1, j), least(table, i, j - 1))
        return table[i, j].item() + (0.0 if i == j == 0 else rest)

    path = warp(cost, torch.full((6,), 4), torch.full((6,), 5))
    total = path.cost.masked_fill(path.cost.isinf(), 0.0).sum(1)
    wanted = [least(table, 3, 4) for table in cost]
    torch.testing.assert_close(total, torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize("coarse", [False, True])
def test_matching_against_loops(coarse: bool, generator: torch.Generator) -> None:
    """Tables of unequal size at once, with noise beside them; costs in quarters are often equal."""
    n, m = torch.randint(3, 9, (2, 40), generator=generator)
    cost = torch.rand(40, 9, 8, generator=generator, dtype=torch.float64)
    if coarse:
        cost = (cost * 4).round() / 4
    wanted = [matching_by_loop(c[:i, :j].numpy()) for c, i, j in zip(cost, n.tolist(), m.tolist(), strict=True)]
    found = matching_cost(cost, n, m)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))


def blob(height: int, width: int, phase: float) -> Tensor:
    """A star whose arms move with the phase."""
    y, x = np.mgrid[:height, :width]
    angle, radius = np.arctan2(y - height / 2, x - width / 2), np.hypot(y - height / 2, x - width / 2)
    return torch.from_numpy(radius < 0.3 * height * (1 + 0.3 * np.sin(5 * angle + phase)))


@pytest.mark.slow
def test_the_whole_against_loops() -> None:
    masks = torch.stack([blob(48, 60, phase) for phase in (0.0, 0.4, 0.7)])
    outlines = [longest_polygon(mask.numpy(), tolerance=1.5, spacing=3.0) for mask in masks]
    histograms = [histograms_by_angle(outline) for outline in outlines]
    wanted = [5 * matching_by_loop(costs_by_loop(a, b)) for a, b in itertools.pairwise(histograms)]
    torch.testing.assert_close(temporal_stability(masks), torch.tensor(wanted, dtype=torch.float64))
    assert all(value > 0.1 for value in wanted)


def test_moving_is_stable_and_changing_is_not() -> None:
    star = blob(48, 60, 0.0)
    moved = torch.stack([star, star.roll((3, 5), (0, 1)), star.roll((5, -4), (0, 1))])
    assert temporal_stability(moved).tolist() == [0.0, 0.0]
    little, much = (temporal_stability(torch.stack([star, blob(48, 60, phase)])) for phase in (0.1, 0.6))
    assert 0 < little < much <= 5


def test_frames_without_an_outline_are_nan() -> None:
    masks = torch.stack([blob(48, 60, phase) for phase in (0.0, 0.1, 0.2, 0.3)])
    whole = temporal_stability(masks)
    masks[1] = False
    masks[1, 4, 4] = True  # a lone pixel is no outline either
    found = temporal_stability(masks)
    assert found.isnan().tolist() == [True, True, False]
    assert found[2] == whole[2]
    assert temporal_stability(masks[:1]).shape == (0,)
    assert temporal_stability(torch.zeros(3, 5, 5, dtype=torch.bool)).isnan().all()


def test_any_batch_and_any_id(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = torch.stack([blob(48, 60, 0.2 * phase) for phase in range(6)])
    alone = temporal_stability(masks)
    both = temporal_stability(torch.stack([masks, masks.flip(0)]).to(torch.uint8) * 7)
    assert both.shape == (2, 5)
    assert torch.equal(both[0], alone)
    monkeypatch.setattr(temporal, "_CPU_COSTS", 1)  # one pair at once
    assert torch.equal(temporal_stability(masks), alone)


@pytest.mark.slow
def test_an_outline_with_very_many_points_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = torch.stack([blob(48, 60, phase) for phase in (0.0, 0.4)])
    counts = [len(longest_polygon(mask.numpy(), tolerance=1.5, spacing=3.0)) for mask in masks]
    whole = temporal_stability(masks)
    monkeypatch.setattr(temporal, "_POINTS", max(counts))
    assert torch.equal(temporal_stability(masks), whole)
    monkeypatch.setattr(temporal, "_POINTS", min(counts) // 2)
    seen = []
    contexts = temporal.shape_contexts
    monkeypatch.setattr(temporal, "shape_contexts", lambda points: seen.append(len(points)) or contexts(points))
    assert 0 < temporal_stability(masks).item() < 5
    assert max(seen) <= min(counts) // 2
    noise = torch.rand(2, 120, 160, generator=torch.Generator().manual_seed(0)) > 0.4
    assert temporal_stability(noise).isfinite().all()


def test_bad_input() -> None:
    with pytest.raises(InputError, match="several frames"):
        temporal_stability(torch.zeros(4, 4, dtype=torch.bool))
    with pytest.raises(InputError, match="threshold"):
        temporal_stability(torch.zeros(2, 4, 4))


def test_the_benchmark_leaves_out_23_of_50() -> None:
    from gpuvos.paper.reported import SEQUENCES

    assert len(DAVIS2016_OCCLUDED) == 23
    assert set(SEQUENCES) >= DAVIS2016_OCCLUDED
