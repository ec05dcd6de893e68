"""How far a long run is, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta


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
            if visible and not terminal and (now - shown >= 30 or count == total):
                shown = now
                left = timedelta(seconds=round((now - begin) / count * (total - count)))
                print(f"{count}/{total} {what}, {left} left", file=sys.stderr, flush=True)

        yield advance
