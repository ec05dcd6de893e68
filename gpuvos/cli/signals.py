"""Signals that end a command wherever they arrive."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Timer

_PAUSE = 0.01  # seconds, in which a finalizer ends


@contextmanager
def never_dropped(numbers: Mapping[type[BaseException], int]) -> Iterator[None]:
    """Sends a signal again whose exception Python dropped.

    The handler of a signal runs between any two instructions of the main thread, so also in a finalizer or in the
    callback of a weak reference, where Python reports an exception and goes on. The command would not end.

    Args:
        numbers: the signal of every exception that a handler raises, by its exact type.

    Raises:
        BaseException: the exception that was dropped, where the block has ended before its signal came again.
    """
    waiting: list[tuple[Timer, BaseException]] = []
    report = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        number = numbers.get(dropped.exc_type)
        if number is None or dropped.exc_value is None:
            report(dropped)
            return
        timer = Timer(_PAUSE, os.kill, (os.getpid(), number))
        waiting.append((timer, dropped.exc_value))
        timer.start()

    sys.unraisablehook = hook
    try:
        yield
        if waiting:
            raise waiting[-1][1]
    finally:
        sys.unraisablehook = report
        for timer, _ in waiting:
            timer.cancel()
            timer.join()
