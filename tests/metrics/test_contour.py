"""Outlines: hand-worked polygons, every side of every mask, Douglas and Peucker by recursion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from gpuvos.metrics.contour import _outlines, _resample, _simplify, longest_polygon

Array = npt.NDArray[np.float64]


def drawn(*lines: str) -> npt.NDArray[np.bool_]:
    return np.array([[letter == "#" for letter in line] for line in lines])


def polygon(mask: npt.NDArray[np.bool_], *, spacing: float = 1e9) -> list[list[float]]:
    return longest_polygon(mask, tolerance=1.5, spacing=spacing).tolist()


def test_a_rectangle_by_hand() -> None:
    mask = np.zeros((10, 12), dtype=bool)
    mask[2:8, 3:9] = True
    assert polygon(mask) == [[2, 3], [2, 9], [8, 9], [8, 3], [2, 3]]
    # Sides of 6 in parts of at most 3.
    halved = [[2, 3], [2, 6], [2, 9], [5, 9], [8, 9], [8, 6], [8, 3], [5, 3], [2, 3]]
    assert polygon(mask, spacing=3) == halved
    assert polygon(np.ones((4, 5), dtype=bool)) == [[0, 0], [0, 5], [4, 5], [4, 0], [0, 0]]  # the whole image


def test_small_steps_go_and_large_ones_stay() -> None:
    mask = np.zeros((20, 40), dtype=bool)
    mask[5:15, 5:35] = True
    mask[4, 10:20] = True  # a bump of one pixel: within 1.5 of the straight side
    assert polygon(mask) == [[4, 10], [5, 35], [15, 35], [15, 5], [5, 5], [4, 10]]
    mask[2:4, 10:20] = True  # of three
    assert [2, 20] in polygon(mask)
    assert [5, 20] in polygon(mask)


def test_nothing_and_next_to_nothing() -> None:
    assert longest_polygon(np.zeros((5, 5), dtype=bool), tolerance=1.5, spacing=3).shape == (0, 2)
    dot = np.zeros((5, 5), dtype=bool)
    dot[2, 2] = True
    assert polygon(dot) == []  # its corners are within 1.5 pixels of each other


def test_the_outline_with_most_vertices_wins() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[1:39, 1:30] = True  # large, four corners
    mask[5:20, 35:40] = mask[5:10, 35:50] = True  # an L, six
    assert polygon(mask) == [[5, 35], [5, 50], [10, 50], [10, 40], [20, 40], [20, 35], [5, 35]]
    # The L as a hole runs the other way round.
    hole = [[5, 35], [20, 35], [20, 40], [10, 40], [10, 50], [5, 50], [5, 35]]
    assert polygon(~mask[:, 31:]) == [[row, column - 31] for row, column in hole]


def test_pixels_that_meet_at_a_corner_are_two_objects() -> None:
    assert [outline.tolist() for outline in _outlines(drawn("#.", ".#"))] == [
        [[1, 1], [0, 1], [0, 0], [1, 0], [1, 1]],
        [[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]],
    ]


def test_an_outline_that_meets_itself_is_two() -> None:
    """A ring whose ends meet at a corner: its outside and its hole."""
    outside, hole = _outlines(drawn("##.", "#.#", "###"))
    assert len(outside) - 1 == 12
    assert hole.tolist() == [[1, 2], [1, 1], [2, 1], [2, 2], [1, 2]]


@pytest.mark.parametrize("seed", range(60))
def test_outlines_are_every_side_of_the_mask_once(seed: int) -> None:
    """Filling by parity gives the mask back, and no outline meets a corner twice."""
    random = np.random.default_rng(seed)
    mask = random.random((7, 9)) < random.choice([0.3, 0.5, 0.7])
    filled = np.zeros((7, 10), dtype=int)
    sides = 0
    for outline in _outlines(mask):
        steps = np.diff(outline, axis=0)
        assert (np.abs(steps).sum(1) == 1).all()
        assert outline[0].tolist() == outline[-1].tolist()
        assert len({tuple(corner) for corner in outline[:-1].tolist()}) == len(outline) - 1
        for (row, column), (down, _) in zip(outline[:-1].astype(int), steps, strict=True):
            if down:
                filled[min(row, row + int(down)), column] += 1
        sides += len(steps)
    assert (np.cumsum(filled, axis=1)[:, :9] % 2 == mask).all()
    framed = np.pad(mask, 1)
    assert sides == (framed[1:] != framed[:-1]).sum() + (framed[:, 1:] != framed[:, :-1]).sum()


def recursive(points: list[Array], tolerance: float) -> list[Array]:
    """Douglas and Peucker, one stretch after the other."""
    if len(points) < 3:
        return points
    begin, end = points[0], points[-1]
    best, at = -1.0, 0
    for number, point in enumerate(points[1:-1], 1):
        along, to = end - begin, point - begin
        length, shadow = float(along @ along), float(to @ along)
        share = 0.0 if shadow <= 0 else 1.0
        if 0 < shadow < length:
            share = float(np.float32(shadow) / np.float32(length))
        distance = float(((to - share * along) ** 2).sum())
        if distance >= best:
            best, at = distance, number
    if best <= tolerance**2:
        return [begin, end]
    return recursive(points[: at + 1], tolerance)[:-1] + recursive(points[at:], tolerance)


@pytest.mark.parametrize("seed", range(20))
def test_simplification_against_recursion(seed: int) -> None:
    random = np.random.default_rng(seed)
    steps = random.integers(-3, 4, size=(40, 2)).astype(float)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0), np.zeros((1, 2))])
    apart = [points[0]]
    for point in points[1:-1]:
        if np.hypot(*(point - apart[-1])) >= 1.5:
            apart.append(point)
    wanted = np.array(recursive([*apart, points[-1]], 1.5))
    assert _simplify(points, 1.5).tolist() == wanted.tolist()


def test_long_sides_are_cut_into_equal_parts() -> None:
    sides = np.array([[0.0, 0.0], [0.0, 7.0], [2.0, 7.0], [0.0, 0.0]])
    points = _resample(sides, 3.0)
    # ceil(7 / 3) = 3 parts, then 1, then ceil(sqrt(53) / 3) = ceil(2.43) = 3.
    wanted = [[0, 0], [0, 7 / 3], [0, 14 / 3], [0, 7], [2, 7], [4 / 3, 14 / 3], [2 / 3, 7 / 3], [0, 0]]
    np.testing.assert_allclose(points, wanted, atol=1e-12)
