"""The completion record: it lies in a folder of results that is whole, and says what that was made of."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any

from gpuvos.data.side_files import read_json
from gpuvos.errors import InputError

RECORD = "record.json"


def settings_hash(settings: Mapping[str, object]) -> str:
    """SHA-256 of everything that results depend on besides the video.

    Example:
        >>> settings_hash({"rule": "paper", "step": 1}) == settings_hash({"step": 1, "rule": "paper"})
        True
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def input_hash(video: Path) -> str | None:
    """SHA-256 of name, size and time of modification of the file, or of every file of the folder; None without any.

    The contents are not read, as that would take as long as copying the video.
    """
    try:
        files = sorted(video.iterdir()) if video.is_dir() else [video]
        stats = [(file.name, file.stat()) for file in files]  # folders may be those of results
    except OSError:
        return None
    listing = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats if S_ISREG(stat.st_mode)]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a folder of results; None where there is none that this package wrote."""
    try:
        record = read_json("path", folder / RECORD)
    except InputError:
        return None
    kinds = {"settings_hash": str, "run": str, "frames": int, "attempts": int}
    whole = isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in kinds.items())
    return record if whole else None


def count_files(folder: Path) -> int:
    """How many files a folder of results holds, at any depth, without the record."""
    found = sum(len(names) for _, _, names in os.walk(folder))
    return found - (folder / RECORD).is_file()


def write_record(folder: Path, **facts: object) -> None:
    """Writes the record; the last thing to go into a work folder before it is renamed."""
    (folder / RECORD).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
