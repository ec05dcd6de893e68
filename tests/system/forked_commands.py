"""Runs commands of gpuvos, each in a forked process that a signal ends before its n-th change on the disk.

One process imports everything once, runs the whole commands itself and forks for those that are to end, so that each
takes no longer than what it does. Changes are what Python reports to audit hooks: files opened for writing, renamed
and deleted, folders made and deleted.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

_CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def end_before_change(folder: str, number: int, end: int) -> None:
    """Sends this process a signal before a change in ``folder``; what is tried again counts once."""
    seen: set[tuple[str, Path]] = set()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CHANGES or isinstance(arguments[0], int):
            return
        if event == "open" and not arguments[2] & _WRITING:
            return
        path = Path(os.fsdecode(arguments[0])).absolute()
        in_tree = event in ("os.remove", "os.rmdir") and arguments[1] != -1  # so rmtree names what it deletes
        if (in_tree or path.is_relative_to(folder)) and (event, path) not in seen:
            if event == "open" and not any(part.startswith(".") for part in path.relative_to(folder).parts):
                raise AssertionError(f"'{path}' is written under the name that it keeps")
            seen.add((event, path))
            if len(seen) == number:
                os.kill(os.getpid(), end)

    sys.addaudithook(hook)


def run(words: list[str], folder: str, said: str) -> int:
    """Runs a command in a folder, with everything it says in a file; returns its exit status."""
    from gpuvos.cli.main import main

    os.chdir(folder)
    with (
        Path(said).open("w") as stream,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
    ):
        try:
            return main(words)
        except BaseException:
            traceback.print_exc()
            return 1


def serve() -> None:
    """Takes an order a line, answers with the exit status."""
    import torch

    import gpuvos.cli.train as command

    torch.set_num_threads(1)
    stills = functools.partial(command.RenderedStills, 2, height=48, width=64)
    command.RenderedStills = lambda *_, seed: stills(seed=seed)  # type: ignore[assignment,misc]
    for line in sys.stdin:
        order = json.loads(line)
        words, folder, said, number, end = (order[name] for name in ("words", "folder", "said", "number", "end"))
        if not number:
            print(run(words, folder, said), flush=True)
            continue
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            end_before_change(folder, number, end)
            os._exit(run(words, folder, said))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
