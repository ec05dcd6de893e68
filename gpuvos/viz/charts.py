"""Line and bar charts drawn with Pillow, which the library needs anyway."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

COLORS = ((31, 99, 191), (214, 69, 65), (40, 140, 92), (140, 88, 180), (200, 130, 20), (90, 90, 90), (30, 160, 175))
_INK, _GRID, _PAPER = (40, 40, 44), (222, 222, 226), (255, 255, 255)
_SCALE = 2  # drawn larger and reduced, so that lines are smooth
_SIZE, _MARGIN, _TEXT = (760, 430), (64, 46, 24, 62), 13  # left, top, right, bottom


class Series(NamedTuple):
    """A curve, or one bar of every group."""

    name: str
    values: Sequence[float | None]  # None leaves a gap


def line_chart(
    title: str,
    x: Sequence[str | float],
    series: Sequence[Series],
    *,
    x_title: str,
    y_title: str,
    log: bool = False,
) -> Tensor:
    """Curves over common places: numbers at their distances, or words evenly spaced.

    ``log`` makes both axes logarithmic; places and values are then numbers above zero.

    Returns:
        ``[3, H, W]`` uint8.

    Example:
        >>> chart = line_chart("J", ["1", "5"], [Series("ours", [77.5, 76.4])], x_title="k", y_title="J")
        >>> chart.shape[0], chart.dtype
        (3, torch.uint8)
    """
    places = [float(value) if isinstance(value, int | float) else float(n) for n, value in enumerate(x)]
    if log:
        places = [math.log10(place) for place in places]
    low, high = min(places, default=0.0), max(places, default=1.0)
    canvas = _Canvas(title, x_title, y_title, [value for one in series for value in one.values], log=log)

    def across_of(place: float) -> float:
        return canvas.left + (place - low) / max(high - low, 1e-12) * canvas.width

    at = [across_of(place) for place in places]
    if log:
        ticks = [tick for tick in _log_ticks(10**low, 10**high) if low <= math.log10(tick) <= high]
        canvas.words([across_of(math.log10(tick)) for tick in ticks], [_short(tick) for tick in ticks])
    else:
        canvas.words(at, [f"{value:g}" if isinstance(value, int | float) else value for value in x])
    for one, color in zip(series, _cycle(len(series)), strict=True):
        points = [
            (across, canvas.height_of(value)) for across, value in zip(at, one.values, strict=True) if value is not None
        ]
        canvas.draw.line(points, fill=color, width=2 * _SCALE, joint="curve")
        for px, py in points if len(points) <= 12 else ():
            radius = 3.5 * _SCALE
            canvas.draw.ellipse((px - radius, py - radius, px + radius, py + radius), fill=color)
    canvas.legend([one.name for one in series])
    return canvas.finish()


def bar_chart(title: str, groups: Sequence[str], series: Sequence[Series], *, y_title: str) -> Tensor:
    """Bars side by side for every group, whose names stand upright below.

    Returns:
        ``[3, H, W]`` uint8.

    Example:
        >>> bar_chart("J", ["bear"], [Series("ours", [90.0])], y_title="J").shape[0]
        3
    """
    width = max(_SIZE[0], 26 * len(groups) + _MARGIN[0] + _MARGIN[2])
    values = [0.0, *(value for one in series for value in one.values)]
    canvas = _Canvas(title, "", y_title, values, width=width, bottom=150)
    step = canvas.width / max(len(groups), 1)
    bar = 0.8 * step / max(len(series), 1)
    for number, (one, color) in enumerate(zip(series, _cycle(len(series)), strict=True)):
        for group, value in enumerate(one.values):
            if value is not None:
                start = canvas.left + group * step + 0.1 * step + number * bar
                canvas.draw.rectangle((start, canvas.height_of(value), start + bar, canvas.height_of(0.0)), fill=color)
    canvas.words([canvas.left + (group + 0.5) * step for group in range(len(groups))], groups, upright=True)
    canvas.legend([one.name for one in series])
    return canvas.finish()


def _cycle(count: int) -> list[tuple[int, int, int]]:
    return [COLORS[number % len(COLORS)] for number in range(count)]


class _Canvas:
    """Axes with ticks at round numbers; everything in pixels of the enlarged drawing."""

    def __init__(
        self,
        title: str,
        x_title: str,
        y_title: str,
        values: Sequence[float | None],
        *,
        width: int = _SIZE[0],
        bottom: int = _MARGIN[3],
        log: bool = False,
    ) -> None:
        from PIL import Image, ImageDraw

        height = _SIZE[1] + bottom - _MARGIN[3]
        self.image = Image.new("RGB", (width * _SCALE, height * _SCALE), _PAPER)
        self.draw: ImageDraw.ImageDraw = ImageDraw.Draw(self.image)
        self.left, self.top = _MARGIN[0] * _SCALE, _MARGIN[1] * _SCALE
        self.width = (width - _MARGIN[0] - _MARGIN[2]) * _SCALE
        self.bottom = (height - bottom) * _SCALE
        known = [value for value in values if value is not None]
        self.log = log
        choose = _log_ticks if log else _ticks
        self.ticks = choose(min(known, default=1.0 if log else 0.0), max(known, default=1.0))
        for tick in self.ticks:
            y = self.height_of(tick)
            self.draw.line((self.left, y, self.left + self.width, y), fill=_GRID, width=_SCALE)
            self._text((self.left - 8 * _SCALE, y), _short(tick) if log else f"{tick:g}", "rm")
        self._text((self.left + self.width / 2, 16 * _SCALE), title, "mm", 1.2)
        below = (height - 12) * _SCALE
        self._text((self.left + self.width / 2, below), x_title, "mm")
        self._text((8 * _SCALE, self.top - 12 * _SCALE), y_title, "lm")

    def height_of(self, value: float) -> float:
        """Vertical place of a value."""
        low, high = self.ticks[0], self.ticks[-1]
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def words(self, at: Sequence[float], words: Sequence[str], *, upright: bool = False) -> None:
        """Writes words below the axis, every n-th if there are very many of them."""
        every = 1 if upright else max(1, round(len(words) / 11))
        for place, word in list(zip(at, words, strict=True))[::every]:
            if upright:
                self._upright(place, word)
            else:
                self._text((place, self.bottom + 14 * _SCALE), word, "mm")

    def _upright(self, place: float, word: str) -> None:
        from PIL import Image, ImageDraw

        font = _font()
        size = (int(font.getlength(word)) + 2, int(_TEXT * _SCALE * 1.4))
        label = Image.new("RGB", size, _PAPER)
        ImageDraw.Draw(label).text((0, size[1] / 2), word, fill=_INK, font=font, anchor="lm")
        label = label.rotate(90, expand=True)
        self.image.paste(label, (int(place - label.width / 2), int(self.bottom + 6 * _SCALE)))

    def legend(self, names: Sequence[str]) -> None:
        """Names with their colours in a row above the chart, from the right."""
        font, y = _font(), 36 * _SCALE
        x: float = self.left + self.width
        for name, color in reversed(list(zip(names, _cycle(len(names)), strict=True))):
            x -= font.getlength(name)
            self._text((x, y), name, "lm")
            x -= 18 * _SCALE
            self.draw.rectangle((x, y - 4 * _SCALE, x + 12 * _SCALE, y + 4 * _SCALE), fill=color)
            x -= 16 * _SCALE

    def _text(self, place: tuple[float, float], text: str, anchor: str, size: float = 1.0) -> None:
        self.draw.text(place, text, fill=_INK, font=_font(size), anchor=anchor)

    def finish(self) -> Tensor:
        """The chart ``[3, H, W]`` at its final size."""
        image = self.image.reduce(_SCALE)
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return pixels.view(image.height, image.width, 3).movedim(-1, 0).contiguous()


def _font(size: float = 1.0) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(round(_TEXT * _SCALE * size))


def _ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers that enclose a range.

    Example:
        >>> _ticks(70.5, 77.5)
        [70.0, 72.0, 74.0, 76.0, 78.0]
    """
    spread = max(high - low, 1e-9 * max(abs(low), abs(high), 1.0))
    power = 10.0 ** math.floor(math.log10(spread / 4))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= spread / 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that enclose a range, with their doubles and fives where it spans fewer than three.

    Example:
        >>> _log_ticks(30, 700), _log_ticks(0.2, 5000)
        ([20.0, 50.0, 100.0, 200.0, 500.0, 1000.0], [0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0])
    """
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high)) + 1
    factors = (1, 2, 5) if math.log10(high / low) < 3 else (1,)
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    start = max(tick for tick in ticks if tick <= low * (1 + 1e-9))
    stop = min(tick for tick in ticks if tick >= high * (1 - 1e-9) and tick > start)
    return [tick for tick in ticks if start <= tick <= stop]


def _short(value: float) -> str:
    """A number in few letters.

    Example:
        >>> [_short(value) for value in (0.1, 50, 20000, 5e6)]
        ['0.1', '50', '20k', '5M']
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
