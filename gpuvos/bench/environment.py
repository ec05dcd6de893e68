"""Records of measurements: where and with what they were made, checked against ``schema.json``."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import gpuvos
from gpuvos.bench.timing import memory_method
from gpuvos.data.atomic import PathLike, as_path, atomic_file
from gpuvos.errors import fail

SCHEMA_VERSION = 1
_SCHEMA = Path(__file__).with_name("schema.json")
_PACKAGE = Path(gpuvos.__file__).parent
_CODE = ("gpuvos", "kernels", "pyproject.toml")  # what decides whether a tree is as committed


def environment(device: torch.device, clock: str, packages: Iterable[str]) -> dict[str, Any]:
    """What every record begins with: versions, commit, device, processor, threads.

    Args:
        device: what was measured.
        clock: as in ``measure``.
        packages: those of the peers, as pip knows them.
    """
    commit, dirty = commit_of(_PACKAGE.parent)
    versions = {"python": platform.python_version()}
    for name in ("torch", "triton", "numpy", *sorted(set(packages))):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "schema": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpuvos": gpuvos.__version__,
        "commit": commit,
        "dirty": dirty,
        "device": _device(device),
        "cpu": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "clock": "CUDA events" if device.type == "cuda" else clock,
        "memory_method": memory_method(device),
        "versions": versions,
    }


def commit_of(root: Path) -> tuple[str | None, bool | None]:
    """Commit of a checkout, and whether its code differs from it; nothing where ``root`` is no checkout's top."""
    if not (root / ".git").exists():
        return None, None
    commit = git(root, "rev-parse", "HEAD")
    changed = git(root, "status", "--porcelain", "--", *_CODE)
    return commit, None if changed is None else bool(changed)


def git(root: Path, *words: str) -> str | None:
    """What a git command prints; None where it fails or there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def check_record(record: object) -> bool:
    """Checks a record against the schema; False where jsonschema is not installed, so that nothing was checked.

    Raises:
        InputError: the record does not fit; the message names the place.
    """
    if importlib.util.find_spec("jsonschema") is None:
        return False
    import jsonschema

    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(record))
    if error is not None:
        raise fail(f"record{error.json_path[1:]}", error.message, "what gpuvos/bench/schema.json says")
    return True


def write_record(path: PathLike, record: dict[str, Any]) -> None:
    """Writes a record that fits the schema, whole or not at all."""
    check_record(record)
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_record(path: PathLike) -> dict[str, Any]:
    """Reads a record and checks it; raises InputError where it is no JSON or does not fit."""
    file = as_path("path", path)
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise fail("path", f"'{file}' ({error})", "a JSON file of gpuvos bench --json") from error
    check_record(record)
    return record


def _device(device: torch.device) -> dict[str, Any]:
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        return {"type": "cuda", "name": facts.name, "memory_bytes": int(facts.total_memory)}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return {"type": device.type, "name": _processor(), "memory_bytes": memory}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
