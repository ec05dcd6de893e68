"""Signals that end a command wherever they arrive."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from threading import Event, Thread
from typing import Literal

_PAUSE = 0.05  # seconds, in which a finalizer ends


class Raising(AbstractContextManager[None]):
    """Raises an exception in the main thread where a signal arrives, and raises it anew where Python drops it.

    The handler of a signal runs between any two instructions of the main thread, so also in a finalizer or in the
    callback of a weak reference, where Python reports an exception and goes on: the command would not end. So the
    signal is sent again a moment later. If the block ends before, it ends with the exception. A signal that the
    process was started to ignore stays ignored.

    Args:
        kinds: the exception of every signal, made without arguments. Nothing else may raise these types.
    """

    def __init__(self, kinds: Mapping[int, type[BaseException]]) -> None:
        self._kinds = kinds
        self._deaf = False  # while a signal is about to be sent again, or the block has ended
        self._ended = Event()
        self._lost: list[int] = []
        self._senders: list[Thread] = []

    def __enter__(self) -> None:
        self._report, sys.unraisablehook = sys.unraisablehook, self._look
        handlers = {number: signal.getsignal(number) for number in self._kinds}
        # None: a handler that is not Python's
        self._before = {number: h for number, h in handlers.items() if h not in (None, signal.SIG_IGN)}
        for number in self._before:
            signal.signal(number, self._handle)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> Literal[False]:
        self._deaf = True
        self._ended.set()
        for sender in self._senders:
            sender.join()
        sys.unraisablehook = self._report
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._lost and kind is None:
            raise self._kinds[self._lost[-1]]
        return False

    def _handle(self, number: int, _: object) -> None:
        if not self._deaf:
            raise self._kinds[number]

    def _look(self, dropped: sys.UnraisableHookArgs) -> None:
        """Python calls it with every exception that it drops."""
        for number, kind in self._kinds.items():
            if dropped.exc_type is kind:
                self._deaf = True
                self._lost.append(number)
                self._senders.append(Thread(target=self._send, args=(number,), daemon=True))
                self._senders[-1].start()
                self._deaf = False
                return
        self._report(dropped)

    def _send(self, number: int) -> None:
        if not self._ended.wait(_PAUSE):
            os.kill(os.getpid(), number)
