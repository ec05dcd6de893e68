"""A timeline as HTML with inline SVG: charts of numbers a frame, and rows of what is unusual.

There is no script in it, and its colours are CSS variables, so that it fits into a light page and into a dark one.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

from gpuvos.errors import fail

_MOST_COLUMNS = 2000  # of a chart; more frames than that share columns
_HEIGHT = 40  # of a chart, in its own units

STYLE = """
.timeline { margin: 0; position: relative; cursor: pointer; }
.timeline .strip { margin: 0 0 .4rem; }
.timeline .name { display: flex; justify-content: space-between; font-size: .8rem; opacity: .85; }
.timeline svg { display: block; width: 100%; height: 1.9rem; background: var(--strip-paper, #8881); }
.timeline .flag svg { height: .8rem; }
.timeline path { fill: var(--strip, #3b74d6); fill-opacity: .3; stroke: var(--strip, #3b74d6); stroke-width: 1.5;
  vector-effect: non-scaling-stroke; }
.timeline .flag path { fill: var(--flag, #d9822b); fill-opacity: 1; stroke: none; }
"""
"""Style sheet of what ``timeline_html`` returns."""


class Strip(NamedTuple):
    """One quantity along a video."""

    name: str
    values: Sequence[float]  # one a frame, none below 0
    unit: str = ""  # after the largest value; "%" shows shares as percent
    top: float | None = None  # value of the upper edge; the largest one where None


class FlagRow(NamedTuple):
    """One thing that is true of some frames."""

    name: str
    values: Sequence[bool]  # one a frame


def timeline_html(strips: Sequence[Strip], flags: Sequence[FlagRow] = ()) -> str:
    """Draws a video from its first frame (left) to its last (right).

    Args:
        strips: quantities, each a chart whose columns are the frames.
        flags: rows of marks; a row without any mark is left out.

    Returns:
        A ``figure`` element of the class "timeline"; ``STYLE`` is its style sheet. Every drawing is as wide as the
        figure, so the frame under a click is its share of the width times the number of frames.

    Raises:
        InputError: no frame, or rows of different lengths.

    Example:
        >>> page = timeline_html([Strip("size", [0.0, 0.5], "%")], [FlagRow("nothing moves", [True, False])])
        >>> page.count("<svg"), "up to 50 %" in page
        (2, True)
    """
    lengths = {len(strip.values) for strip in strips} | {len(flag.values) for flag in flags}
    if len(lengths) != 1 or 0 in lengths:
        raise fail("strips", f"rows of {sorted(lengths)} frames", "rows of one length, at least one frame")
    parts = [_chart(strip) for strip in strips] + [_marks(flag) for flag in flags if any(flag.values)]
    return f'<figure class="timeline">{"".join(parts)}</figure>'


def frame_ranges(values: Sequence[bool]) -> list[tuple[int, int]]:
    """First and last frames of the runs of true values.

    Example:
        >>> frame_ranges([True, False, True, True])
        [(0, 0), (2, 3)]
    """
    runs: list[tuple[int, int]] = []
    for number, value in enumerate(values):
        if not value:
            continue
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _chart(strip: Strip) -> str:
    largest = max(strip.values)
    top = strip.top or largest or 1.0
    columns = [sum(part) / len(part) for part in _columns(strip.values)]
    path = [f"M0 {_HEIGHT}"]
    for number, value in enumerate(columns):
        path.append(f"V{_HEIGHT * (1 - min(1.0, value / top)):.2f}H{number + 1}")
    said = f"{100 * largest:.3g} %" if strip.unit == "%" else f"{largest:.3g} {strip.unit}".rstrip()
    return _row("strip", strip.name, f"up to {said}", len(columns), "".join([*path, f"V{_HEIGHT}Z"]))


def _marks(flag: FlagRow) -> str:
    columns = [any(part) for part in _columns(flag.values)]
    path = "".join(f"M{first} 0H{last + 1}V{_HEIGHT}H{first}Z" for first, last in frame_ranges(columns))
    count = sum(map(bool, flag.values))
    return _row("strip flag", flag.name, f"{count} frame{'s' if count > 1 else ''}", len(columns), path)


def _row(kind: str, name: str, said: str, width: int, path: str) -> str:
    label = escape(f"{name}: {said}")
    return (
        f'<div class="{kind}"><div class="name"><span>{escape(name)}</span><span>{escape(said)}</span></div>'
        f'<svg viewBox="0 0 {width} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<path d="{path}"/></svg></div>'
    )


def _columns(values: Sequence[float]) -> list[Sequence[float]]:
    """The frames that share each column."""
    count = min(len(values), _MOST_COLUMNS)
    bounds = [number * len(values) // count for number in range(count + 1)]
    return [values[first:last] for first, last in pairwise(bounds)]
