"""The command ``gpuvos``."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gpuvos.cli.memory import keep_freed_memory

_COMMANDS = {
    "segment": "segment the moving object of a video",
    "demo": "render a clip, segment it, leave pictures",
    "evaluate": "measure J and F on a dataset",
    "figures": "draw the figures of the paper for a sequence",
    "train": "train the network on photographs or rendered clips",
    "bench": "time and memory of every stage beside other packages; what the kernels need",
    "info": "versions, devices, implementations",
}


class _Terminated(KeyboardInterrupt):
    """SIGTERM, with which schedulers end a job."""


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Lets SIGTERM clean up as an interrupt does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status: 2 for bad input, 128 and its number after a signal."""
    keep_freed_memory()
    try:
        with _terminated_like_interrupted():
            return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt as stopped:
        print("gpuvos: interrupted; nothing half-written is left", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stopped, _Terminated) else signal.SIGINT)
    except BrokenPipeError:  # whoever read what is printed has gone; nobody is to be told, not even at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="gpuvos", description="Finds and segments the moving object of a video with nobody naming it."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in words if word in _COMMANDS), None)
    module = None
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
        if name == chosen:  # only the command that runs is imported
            module = importlib.import_module(f"gpuvos.cli.{name}")
            module.add_arguments(command)
    arguments = parser.parse_args(words)
    assert module is not None
    from gpuvos.errors import InputError  # not above: torch takes seconds, and an interrupt is to be heard

    try:
        status: int = module.run(arguments)
        sys.stdout.flush()
    except InputError as error:
        print(f"gpuvos: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
