"""An interrupt ends a command wherever it arrives, also where Python drops exceptions."""

from __future__ import annotations

import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gpuvos.cli.main import main
from gpuvos.cli.signals import Raising


class Finalized:
    """Does something where it is freed."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def __del__(self) -> None:
        self._call()


def in_finalizer(call: Callable[[], None]) -> None:
    Finalized(call)


def in_weak_reference(call: Callable[[], None]) -> None:
    thing = Finalized(lambda: None)
    reference = weakref.ref(thing, lambda _: call())
    del thing
    assert reference() is None


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Handlers as those of a command in the foreground: tests in the background of a shell ignore interrupts."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


DROPPING = [in_finalizer, in_weak_reference]


@pytest.mark.parametrize("dropping", DROPPING)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("seconds", [0, 60])  # that the command goes on for
def test_a_command_ends(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dropping: Callable[[Callable[[], None]], None],
    number: signal.Signals,
    times: int,
    seconds: int,
) -> None:
    before = sys.unraisablehook, signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def run(_arguments: Any) -> int:
        for _ in range(times):
            dropping(lambda: signal.raise_signal(number))
        time.sleep(seconds)
        return 0

    monkeypatch.setattr("importlib.import_module", lambda _: SimpleNamespace(run=run, add_arguments=id, check=id))
    start = time.monotonic()
    assert main(["info"]) == 128 + number
    assert time.monotonic() - start < 30
    assert capsys.readouterr().err == "gpuvos: interrupted; nothing half-written is left\n"
    assert (sys.unraisablehook, signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize("dropping", DROPPING)
def test_other_exceptions_are_reported_as_ever(
    monkeypatch: pytest.MonkeyPatch, dropping: Callable[[Callable[[], None]], None]
) -> None:
    def fail() -> None:
        raise ValueError("of somebody's own")

    reported: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: reported.append(dropped.exc_type))
    with Raising({signal.SIGINT: KeyboardInterrupt}):
        dropping(fail)
    assert reported == [ValueError]


def test_what_is_ignored_stays_ignored() -> None:
    """As of a job in the background of a shell, which an interrupt of the others leaves alone."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Raising({signal.SIGINT: KeyboardInterrupt}):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
