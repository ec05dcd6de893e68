"""How far a long run is, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Self

_PAUSE = 30  # seconds between two lines where there is no terminal


@contextmanager
def progress(total: int, done: int, *, unit: str, visible: bool = True) -> Iterator[Callable[[str], None]]:
    """Gives a function to call after each of ``total`` units: a bar on a terminal, else a line now and then.

    Args:
        total: units that are to be done.
        done: units that were done before; they are only mentioned.
        unit: what is counted, in the singular.
        visible: False: nothing is shown.

    Example:
        >>> with progress(2, 0, unit="video", visible=False) as advance:
        ...     advance("first")
        ...     advance("second")
    """
    from tqdm import tqdm

    if done and visible:
        print(f"{done} {unit}s are there already, {total} to go", file=sys.stderr, flush=True)
    terminal = sys.stderr.isatty()
    begin = shown = time.monotonic()
    count = 0
    with tqdm(total=total, unit=unit, disable=not (visible and terminal)) as bar:

        def advance(what: str) -> None:
            nonlocal count, shown
            count += 1
            bar.set_postfix_str(what, refresh=False)
            bar.update()
            now = time.monotonic()
            if visible and not terminal and (now - shown >= _PAUSE or count == total):
                shown = now
                left = timedelta(seconds=round((now - begin) / count * (total - count)))
                print(f"{count}/{total} {what}, {left} left", file=sys.stderr, flush=True)

        yield advance


COSTS = {"decode": 5.0, "network": 420.0, "flow": 70.0, "method": 50.0, "masks": 5.0, "overlay": 40.0}
"""Milliseconds that a frame of 480 x 854 pixels takes in every stage, roughly, on one core."""
REFINEMENT_COSTS = {"none": 0.0, "guided": 50.0, "zoom": 110.0, "crf": 350.0, "zoom-crf": 160.0}
"""The same of every refinement."""


class Stages:
    """One bar over everything that becomes of a video: its name, its frames, and the time left, on a terminal.

    Elsewhere it is a line every half minute. A frame takes longer in some stages than in others, so a stage has a cost,
    and the bar is as long as what was paid.

    Args:
        costs: milliseconds that a frame takes in every stage, roughly.
        total: frames of the video; None where nobody knows.
        name: of the video, for the lines.
        lines: whether anything is shown, a bar on a terminal and lines elsewhere.

    Example:
        >>> with Stages({"decode": 5, "network": 350}, 10, name="clip", lines=False) as stages:
        ...     stages("network", 5, 10)
        ...     round(stages.share, 2)
        0.49
    """

    def __init__(self, costs: Mapping[str, float], total: int | None, *, name: str, lines: bool) -> None:
        from tqdm import tqdm

        self._costs, self._total, self._name = costs, total, name
        self._terminal = lines and sys.stderr.isatty()
        self._lines = lines and not self._terminal
        self._done = dict.fromkeys(costs, 0.0)  # share of every stage
        self._begin = self._shown = time.monotonic()
        left = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}" if total else "{elapsed}"
        self._bar = tqdm(
            total=1.0, leave=None, disable=not self._terminal, smoothing=0, bar_format="{desc:<22} " + left
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def share(self) -> float:
        """How much of all is done, from 0 to 1."""
        paid = sum(self._costs[stage] * share for stage, share in self._done.items())
        return paid / sum(self._costs.values())

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Says that ``done`` frames of ``total`` are through a stage."""
        if stage in self._done:
            self._done[stage] = min(1.0, done / max(self._total or total, 1))
        said = f"{stage} {done}/{self._total or total}"
        self._bar.set_description_str(said, refresh=False)
        self._bar.update(self.share - self._bar.n)
        now = time.monotonic()
        if self._lines and now - self._shown >= _PAUSE:
            self._shown = now
            seconds = round((now - self._begin) * (1 / max(self.share, 1e-6) - 1))
            left = f", {timedelta(seconds=seconds)} left" if self._total else ""
            print(f"{self._name}: {said}{left}", file=sys.stderr, flush=True)

    def note(self, stage: str, done: int) -> None:
        """Counts frames of a stage that goes on beside the one that is shown."""
        if stage in self._done and self._total:
            self._done[stage] = min(1.0, done / self._total)

    def from_frame(self, offset: int) -> Callable[[str, int, int], None]:
        """The same for a part of the video that begins at frame ``offset``."""
        return lambda stage, done, total: self(stage, offset + done, self._total or offset + total)
