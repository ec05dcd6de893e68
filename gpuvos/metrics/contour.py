"""Outlines of masks as polygons. Following an outline from corner to corner is host work, so this is NumPy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

# Headings. The object is on the left hand; a turn to the left, to the next heading, stays at its pixel.
_DOWN, _UP = 0, 2  # 1 is right, 3 left
_NONE, _TURN = 4, 5  # no outline leaves a corner; two do, each with a turn to the left


def longest_polygon(mask: NDArray[np.bool_], *, tolerance: float, spacing: float) -> Points:
    """The outline with most vertices after simplification, with no side longer than ``spacing``.

    Args:
        mask: ``[H, W]``; the object is 4-connected, outlines of holes count as well, and the outside of the image is
            no object. An outline that meets itself at a corner is two.
        tolerance: pixels from the outline to the simplified polygon (Douglas and Peucker).
        spacing: pixels.

    Returns:
        ``[N, 2]`` (row, column), in pixels from the corner of the image; the first point is also the last. The polygon
        begins at the upper end of the leftmost of the outline's topmost vertical sides and goes clockwise around an
        object, counterclockwise around a hole. N is 0 if no outline keeps three vertices.
    """
    best = np.zeros((0, 2))
    for outline, hole in sorted(_outlines(mask), key=lambda found: len(found[0]), reverse=True):
        if len(outline) < len(best):  # vertices are points of the outline
            break
        # First only what is straight goes, as in the toolkit: which of equal points is kept depends on it.
        polygon = _simplify(_simplify(outline, 0.05), tolerance)
        if len(polygon) > max(3, len(best)):
            best = polygon if hole else polygon[::-1]
    return _resample(best, spacing) if len(best) else best


def _outlines(mask: NDArray[np.bool_]) -> Iterator[tuple[Points, bool]]:
    """All closed outlines of a mask, and whether it is that of a hole.

    An outline ``[N, 2]`` goes a pixel a step and ends where it begins: at the upper end of the leftmost of the topmost
    vertical sides, down.
    """
    inside = np.pad(mask, 1)
    nw, ne, sw, se = inside[:-1, :-1], inside[:-1, 1:], inside[1:, :-1], inside[1:, 1:]
    leaving = np.full(nw.shape, _NONE)  # heading by corner [H + 1, W + 1]
    for heading, here in enumerate((se & ~sw, ne & ~se, nw & ~ne, sw & ~nw)):
        leaving[here] = heading
    leaving[(nw & se & ~ne & ~sw) | (ne & sw & ~nw & ~se)] = _TURN
    flat, width = leaving.ravel(), mask.shape[1] + 1
    corners = np.flatnonzero(flat != _NONE)
    headings = dict(zip(corners.tolist(), flat[corners].tolist(), strict=True))
    side = se != sw  # a vertical side begins here and goes down; row by row
    seen: set[int] = set()
    for upper, down in zip(np.flatnonzero(side).tolist(), se[side].tolist(), strict=True):
        if upper not in seen:
            start = (upper, _DOWN) if down else (upper + width, _UP)
            for path in _follow(headings, seen, start, width):
                yield _closed(np.stack(np.divmod(np.array(path), width), axis=1).astype(np.float64))


def _follow(headings: dict[int, int], seen: set[int], start: tuple[int, int], width: int) -> Iterator[list[int]]:
    """The outlines met from a corner and heading on until both come again; adds their vertical sides to ``seen``."""
    steps = (width, 1, -width, -1)
    corner, heading = start
    path = [corner]
    # Place in the path of corners where outlines meet.
    turns = {corner: 0} if headings[corner] == _TURN else {}
    while True:
        if heading in (_DOWN, _UP):
            seen.add(corner if heading == _DOWN else corner - width)
        corner += steps[heading]
        path.append(corner)
        turn = headings[corner] == _TURN
        heading = (heading + 1) % 4 if turn else headings[corner]
        if (corner, heading) == start:
            yield path[:-1]
            return
        if turn and turns.setdefault(corner, len(path) - 1) < len(path) - 1:
            begin = turns[corner]
            yield path[begin:-1]
            turns = {other: place for other, place in turns.items() if place <= begin}
            del path[begin + 1 :]


def _closed(points: Points) -> tuple[Points, bool]:
    """A closed path ``[N, 2]``, begun and turned as ``_outlines`` has it, and whether it goes around a hole."""
    row, column = points.T
    hole = bool((row * np.roll(column, -1) - np.roll(row, -1) * column).sum() < 0)  # twice the signed area
    if hole:
        points = points[::-1]
    after = np.roll(points, -1, axis=0)
    places = np.flatnonzero((points[:, 0] != after[:, 0]) & (points[:, 0] == points[:, 0].min()))
    points = np.roll(points, -places[np.argmin(points[places, 1])], axis=0)
    return np.concatenate([points, points[:1]]), hole


def _simplify(points: Points, tolerance: float) -> Points:
    """Keeps points ``[N, 2]`` at least ``tolerance`` from the one kept before, then simplifies by Douglas and Peucker.

    All stretches between two kept points are treated at once: each is split at its farthest point, the last one of
    equals, if that is farther than ``tolerance``.
    """
    points = points[_apart(points, tolerance)]
    kept = np.zeros(len(points), dtype=bool)
    kept[[0, -1]] = True
    begin, end = np.array([0]), np.array([len(points) - 1])
    while True:
        wide = end - begin > 1
        begin, end = begin[wide], end[wide]
        if len(begin) == 0:
            return points[kept]
        count = end - begin - 1
        first = np.cumsum(count) - count
        inner = np.arange(count.sum()) - np.repeat(first, count) + np.repeat(begin + 1, count)
        square = _segment_distance(points[np.repeat(begin, count)], points[np.repeat(end, count)], points[inner])
        most = np.maximum.reduceat(square, first)
        farthest = np.maximum.reduceat(np.where(square == np.repeat(most, count), inner, -1), first)
        split = most > tolerance * tolerance
        farthest = farthest[split]
        kept[farthest] = True
        begin, end = (
            np.concatenate([begin[split], farthest]),
            np.concatenate([farthest, end[split]]),
        )


def _apart(points: Points, tolerance: float) -> list[int]:
    """Places of the first point, of each at least ``tolerance`` from the one before in the list, and of the last."""
    rows, columns = points.T.tolist()
    kept = [0]
    row, column = rows[0], columns[0]
    for place in range(1, len(rows) - 1):
        if (rows[place] - row) ** 2 + (columns[place] - column) ** 2 >= tolerance * tolerance:
            kept.append(place)
            row, column = rows[place], columns[place]
    return [*kept, len(rows) - 1]


def _segment_distance(begin: Points, end: Points, point: Points) -> NDArray[np.float64]:
    """Squared distance of points ``[N, 2]`` from segments.

    The share along the segment is rounded to single precision, as in the toolkit, where it decides which of two points
    at the same distance is farther.
    """
    along, to = end - begin, point - begin
    length, shadow = (along * along).sum(1), (to * along).sum(1)
    single = shadow.astype(np.float32) / np.where(length > 0, length, 1).astype(np.float32)
    share = np.where(shadow <= 0, 0.0, np.where(length <= shadow, 1.0, single.astype(np.float64)))
    away = to - share[:, None] * along
    square: NDArray[np.float64] = (away * away).sum(1)
    return square


def _resample(polygon: Points, spacing: float) -> Points:
    """A closed polygon ``[N, 2]`` with sides longer than ``spacing`` cut into equal parts."""
    side = np.diff(polygon, axis=0)
    parts = np.maximum(np.ceil(np.sqrt((side * side).sum(1)) / spacing), 1).astype(np.int64)
    number = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    begin, step = (np.repeat(values, parts, axis=0) for values in (polygon[:-1], side / parts[:, None]))
    return np.concatenate([begin + number[:, None] * step, polygon[-1:]])
