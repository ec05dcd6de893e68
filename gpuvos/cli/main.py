"""The command ``gpuvos``."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from gpuvos.cli.memory import keep_freed_memory
from gpuvos.cli.options.common import Parser, UsageError
from gpuvos.cli.signals import Raising

_COMMANDS = {
    "segment": "segment the moving object of a video",
    "demo": "render a clip, segment it, leave pictures",
    "app": "open a page where a video is segmented, looked at and corrected",
    "evaluate": "measure J and F on a dataset",
    "figures": "draw the figures of the paper for a sequence",
    "train": "train the network on photographs or rendered clips",
    "bench": "time and memory of every stage beside other packages; what the kernels need",
    "info": "versions, devices, implementations",
}


class _Terminated(KeyboardInterrupt):
    """SIGTERM, with which schedulers end a job."""


def _signals() -> AbstractContextManager[None]:
    """Lets SIGTERM clean up as an interrupt does; other threads than the main one get no signals."""
    if threading.current_thread() is not threading.main_thread():
        return nullcontext()
    return Raising({signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: _Terminated})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status: 2 for bad input, 128 and its number after a signal."""
    keep_freed_memory()
    try:
        with _signals(), warnings.catch_warnings():
            if argv is None:
                warnings.showwarning = _Say()
            return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt as stopped:
        print("gpuvos: interrupted; nothing half-written is left", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stopped, _Terminated) else signal.SIGINT)
    except BrokenPipeError:  # whoever read what is printed has gone; nobody is to be told, not even at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


class _Version(argparse.Action):
    """Prints the version; nothing is imported for it before."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from gpuvos import __version__

        print(f"gpuvos {__version__}")
        parser.exit()


def _run(words: list[str]) -> int:
    chosen = next((word for word in words if word in _COMMANDS), None)
    try:
        arguments = _parse(words, chosen)
    except UsageError as error:
        print(f"gpuvos: {error}", file=sys.stderr)
        return 2
    command = importlib.import_module(f"gpuvos.cli.{chosen}")  # torch takes seconds: after all that needs none
    from gpuvos.errors import InputError, printable

    try:
        status: int = command.run(arguments)
        sys.stdout.flush()
    except InputError as error:
        print(printable(f"gpuvos: {spoken(str(error), arguments)}"), file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:  # a folder that was deleted, or may not be read
        print(printable(f"gpuvos: {error}"), file=sys.stderr)
        return 2
    return status


def _parse(words: list[str], chosen: str | None) -> argparse.Namespace:
    parser = Parser(prog="gpuvos", description="Finds and segments the moving object of a video with nobody naming it.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    options = None
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
        if name == chosen:
            options = importlib.import_module(f"gpuvos.cli.options.{name}")
            options.add_arguments(command)
    arguments = parser.parse_args(words)
    assert options is not None
    options.check(arguments)
    return arguments


def spoken(message: str, arguments: argparse.Namespace) -> str:
    """A message of the library in the words of the command: options in place of Python's arguments.

    Example:
        >>> spoken("config.num_seeds: got 0; pass overwrite=True", argparse.Namespace(num_seeds=0, overwrite=False))
        '--num-seeds: got 0; pass --overwrite'
    """
    name, colon, rest = message.partition(":")
    name = name.removeprefix("config.")
    if colon and name != "video" and hasattr(arguments, name):
        message = f"--{name.replace('_', '-')}:{rest}"
    instead = "--overwrite" if hasattr(arguments, "overwrite") else "the name of another folder"
    return message.replace("overwrite=True", instead)


class _Say:
    """Shows warnings in one line, each once, without the place in the source, and above a bar where there is one."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, message: Warning | str, *_: object, **__: object) -> None:
        text = f"gpuvos: {message}"
        if text in self._said:
            return
        self._said.add(text)
        if "tqdm" in sys.modules:
            sys.modules["tqdm"].tqdm.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
