"""The command ``gpuvos``."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gpuvos.errors import InputError

_COMMANDS = {
    "segment": "segment the moving object of a video",
    "demo": "render a clip, segment it, leave pictures",
    "evaluate": "measure J and F on a dataset",
    "figures": "draw the figures of the paper for a sequence",
    "train": "train the network on photographs or rendered clips",
    "bench": "time and memory of every stage beside other packages; what the kernels need",
    "info": "versions, devices, implementations",
}


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Lets SIGTERM, with which schedulers end a job, clean up as an interrupt does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status (2 for bad input, 130 after an interrupt)."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="gpuvos", description="Finds and segments the moving object of a video with nobody naming it."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in words if word in _COMMANDS), None)
    module = None
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
        if name == chosen:  # only the command that runs is imported
            module = importlib.import_module(f"gpuvos.commands.{name}")
            module.add_arguments(command)
    arguments = parser.parse_args(words)
    assert module is not None
    try:
        with _terminated_like_interrupted():
            status: int = module.run(arguments)
    except InputError as error:
        print(f"gpuvos: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gpuvos: interrupted; nothing half-written is left", file=sys.stderr)
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
