"""Outlines of masks as polygons. Following an outline from corner to corner is host work, so this is NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

# Headings: one more is a turn to the right, two more the way back. A corner holds bit ``1 << heading`` of every side.
_RIGHT, _DOWN, _LEFT, _UP = range(4)
_JUNCTION = 0b1111  # of four sides: two pixels of the object meet at their corners
# The toolkit goes through its junctions in the order of a hash table: the last comes first. A table that is full when
# the last is put in grows, which turns the others around. These are the sizes of tables (GNU's C++ library to GCC 9).
_SIZES = frozenset(
    (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 103, 109, 113, 127)
) | frozenset((137, 139, 149, 157, 167, 179, 193, 199, 211, 227, 241, 257))


class _Piece(NamedTuple):
    """Sides between two junctions, or a whole outline without any."""

    corners: list[int]  # from the first junction to the last, raster numbers
    first: int  # heading of its side at the first, seen from there
    last: int  # heading of its side at the last, seen from there


def longest_polygon(mask: NDArray[np.bool_], *, tolerance: float, spacing: float) -> Points:
    """The outline with most vertices after simplification, with no side longer than ``spacing``.

    Where two pixels of the object meet at a corner, an outline turns; which way follows the official toolkit, by the
    order in which outlines are found. So such pixels are joined at some corners and parted at others.

    Args:
        mask: ``[H, W]``; outlines of holes count as well, and the outside of the image is no object.
        tolerance: pixels from the outline to the simplified polygon (Douglas and Peucker).
        spacing: pixels.

    Returns:
        ``[N, 2]`` (row, column), in pixels from the corner of the image; the first point is also the last. The polygon
        begins at the upper end of the leftmost of the outline's topmost vertical sides, or where outlines meet, and
        goes clockwise around an object, counterclockwise around a hole. N is 0 if no outline keeps three vertices.
    """
    best, number = np.zeros((0, 2)), 0
    outlines = list(enumerate(_outlines(mask)))
    for place, outline in sorted(outlines, key=lambda found: len(found[1]), reverse=True):
        if len(outline) < len(best):  # vertices are points of the outline
            break
        # First only what is straight goes, as in the toolkit: which of equal points is kept depends on it.
        polygon = _simplify(_simplify(outline, 0.05), tolerance)
        if len(polygon) > 3 and (len(polygon), -place) > (len(best), -number):
            best, number = polygon if _object_on_the_right(outline, mask) else polygon[::-1], place
    return _resample(best, spacing) if len(best) else best


def _object_on_the_right(outline: Points, mask: NDArray[np.bool_]) -> bool:
    """Whether an outline ``[N, 2]`` has the object on its right hand: clockwise around one, the other way in a hole."""
    (row, column), (down, right) = outline[0].astype(int), (outline[1] - outline[0]).astype(int)
    row, column = row - int(down < 0 or right < 0), column - int(down > 0 or right < 0)
    return 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and bool(mask[row, column])


def _outlines(mask: NDArray[np.bool_]) -> Iterator[Points]:
    """All closed outlines ``[N, 2]`` of a mask, a pixel a step; no outline meets a corner twice."""
    inside = np.pad(mask, 1)
    nw, ne, sw, se = inside[:-1, :-1], inside[:-1, 1:], inside[1:, :-1], inside[1:, 1:]
    # Headings of the sides at every corner [H + 1, W + 1].
    sides: NDArray[np.uint8] = np.zeros(nw.shape, dtype=np.uint8)
    for heading, here in ((_RIGHT, ne != se), (_DOWN, sw != se), (_LEFT, nw != sw), (_UP, nw != ne)):
        sides |= here.astype(np.uint8) << heading
    width = mask.shape[1] + 1
    pieces = _pieces(sides.ravel(), width)
    for corners in _loops(pieces):
        yield np.stack(np.divmod(np.array(corners), width), axis=1).astype(np.float64)


def _pieces(sides: NDArray[np.uint8], width: int) -> list[_Piece]:
    """All sides in pieces: those of the last junction first, then outlines without one, from the top down."""
    corners = np.flatnonzero(sides)
    table = dict(zip(corners.tolist(), sides[corners].tolist(), strict=True))
    pieces: list[_Piece] = []
    taken: set[tuple[int, int]] = set()
    seen: set[int] = set()
    starts = [(junction, heading) for junction in np.flatnonzero(sides == _JUNCTION).tolist() for heading in range(4)]
    starts.reverse()
    downward = np.flatnonzero((sides & (1 << _DOWN) != 0) & (sides != _JUNCTION)).tolist()
    starts += [(corner, _DOWN) for corner in downward]
    for corner, heading in starts:
        if (corner, heading) in taken or (table[corner] != _JUNCTION and corner in seen):
            continue
        piece = _follow(table, corner, heading, width)
        taken |= {(corner, heading), (piece.corners[-1], piece.last)}
        seen.update(piece.corners)
        pieces.append(piece)
    return pieces


def _follow(table: dict[int, int], corner: int, heading: int, width: int) -> _Piece:
    """The piece that leaves a corner by a heading, to the next junction or back to the corner."""
    steps = (1, width, -1, -width)
    path, first = [corner], heading
    while True:
        path.append(path[-1] + steps[heading])
        back = (heading + 2) % 4
        if path[-1] == corner or table[path[-1]] == _JUNCTION:
            return _Piece(path, first, back)
        heading = (table[path[-1]] & ~(1 << back)).bit_length() - 1


def _loops(pieces: list[_Piece]) -> Iterator[list[int]]:
    """Joins pieces to closed outlines, as the toolkit does.

    It begins with the first piece left at the last junction and leaves every junction by the first piece left that is
    no straight continuation. As soon as it meets a junction of its path again it cuts that outline off and goes on with
    the rest of the path. Outlines without a junction have one of their own, after the others.
    """
    left: dict[int, list[int]] = {}
    for number, piece in enumerate(pieces):
        for junction in sorted({piece.corners[0], piece.corners[-1]}):
            left.setdefault(junction, []).append(number)
    starts = sorted(left, key=lambda corner: (len(left[corner]) == 1, corner), reverse=True)
    if len(starts) in _SIZES:
        starts[1:] = starts[:0:-1]
    for start in starts:
        while left[start]:
            yield from _walk(pieces, left, start)


def _walk(pieces: list[_Piece], left: dict[int, list[int]], start: int) -> Iterator[list[int]]:
    """Outlines cut off a path from a junction until nothing of the path is left; takes its pieces from ``left``."""
    path: list[tuple[int, int]] = []  # junctions, and the piece by which each is left
    junction, number = start, left[start][0]
    while True:
        piece = pieces[number]
        for end in {piece.corners[0], piece.corners[-1]}:
            left[end].remove(number)
        path.append((junction, number))
        junction = piece.corners[-1] if piece.corners[0] == junction else piece.corners[0]
        met = [place for place, (other, _) in enumerate(path) if other == junction]
        if met:
            yield _joined(pieces, path[met[0] :])
            del path[met[0] :]
            if not path:
                return
        number = _turn(pieces, left[junction], path[-1][1], junction)


def _turn(pieces: list[_Piece], numbers: list[int], coming: int, junction: int) -> int:
    """The first of the pieces left at a junction that does not go straight on from the one that leads there."""
    ways = [piece.first if piece.corners[0] == junction else piece.last for piece in (pieces[n] for n in numbers)]
    came = pieces[coming].first if pieces[coming].corners[0] == junction else pieces[coming].last
    turns = [number for number, way in zip(numbers, ways, strict=True) if (way - came) % 4 != 2]
    return (turns or numbers)[0]


def _joined(pieces: list[_Piece], path: list[tuple[int, int]]) -> list[int]:
    """The corners of a closed path, the first of them also the last."""
    corners: list[int] = []
    for junction, number in path:
        piece = pieces[number].corners
        corners += piece[:-1] if piece[0] == junction else piece[:0:-1]
    return [*corners, path[0][0]]


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
    """A closed polygon ``[N, 2]`` with sides longer than ``spacing`` cut into equal parts.

    The step is added again and again, as in the toolkit: multiples of it differ in the last bits, which decide on which
    side of a bin's edge a point lies.
    """
    side = np.diff(polygon, axis=0)
    parts = np.maximum(np.ceil(np.sqrt((side * side).sum(1)) / spacing), 1).astype(np.int64)
    pieces = [
        np.cumsum(np.vstack([begin, np.tile(step, (count - 1, 1))]), axis=0)
        for begin, step, count in zip(polygon[:-1], side / parts[:, None], parts.tolist(), strict=True)
    ]
    return np.concatenate([*pieces, polygon[-1:]])
