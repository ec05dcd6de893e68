"""Files beside the data (weights, cards, indices, records), which may hold anything: read, or an InputError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpuvos.data.atomic import kind_of_path
from gpuvos.errors import fail

_LARGEST_JSON = 2**26  # bytes


def check_regular(argument: str, path: Path, wanted: str) -> None:
    """Raises InputError unless a path names a regular file; a pipe would block whoever reads it."""
    if kind_of_path(argument, path) != "file":
        raise fail(argument, f"'{path}', a folder", wanted)


def read_bytes(argument: str, path: Path, wanted: str) -> bytes:
    """The content of a regular file; InputError where there is none that can be read."""
    check_regular(argument, path, wanted)
    try:
        return path.read_bytes()
    except OSError as error:
        raise fail(argument, f"'{path}' ({error.strerror})", wanted) from error


def read_json(argument: str, path: Path, wanted: str = "a file of JSON") -> Any:
    """The value that a file of JSON holds; InputError where it holds none, is too large or nested too deeply.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "card.json"
        >>> _ = file.write_text("[" * 200_000)
        >>> read_json("path", file)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        gpuvos.errors.InputError: path: got '...card.json' (RecursionError...
    """
    check_regular(argument, path, wanted)
    size = path.stat().st_size
    if size > _LARGEST_JSON:
        raise fail(argument, f"'{path}' of {size} bytes", f"{wanted} of at most {_LARGEST_JSON} bytes")
    try:
        return json.loads(read_bytes(argument, path, wanted))
    except (ValueError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise fail(argument, f"'{path}' ({reason})", wanted) from error
