"""Everything that needs a GPU, in one command: tests, memory and race checks of the kernels, times.

``python benchmarks/gpu_checks.py report.json`` with the ``test`` extra installed runs, in this order,

- ``kernels``: the tests of the ops, on the GPU instead of Triton's interpreter;
- ``method``: all other tests that need a GPU, among them the method in a CUDA graph and without synchronisation;
- ``memcheck``, ``initcheck``, ``synccheck`` and ``racecheck``: NVIDIA's compute-sanitizer over the kernels' tests of
  small sizes; skipped where the tool is not installed;
- ``bench``: ``gpuvos bench --json``.

``memcheck`` sees accesses outside of an allocation, and none inside of a neighbouring tensor of torch's cache, which is
therefore off; ``initcheck`` reads of device memory that nothing has written, byte by byte; ``synccheck`` barriers that
some threads of a block do not reach; ``racecheck`` races in shared memory alone. What programs exchange through global
memory none of them sees: that is ``tests/kernels/test_races.py``.

All of it ends after ten minutes (``--minutes``) and downloads nothing: every check has a share of the time, what is
left over goes to the later ones, and a check that has used its share is stopped and has failed. The sanitizers, under
which a kernel is some tens of times slower, take the quick tests alone.

It prints a line a check and writes one report with versions, results, the ends of the outputs and the times. The exit
status is 0 if no check failed, 1 if one did, 2 without a CUDA device.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).parents[1]
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
KERNEL_TESTS = sorted(str(path) for path in (ROOT / "tests" / "kernels").glob("test_*_kernel*.py"))
KEPT = 4000  # characters of an output
MINUTES = 10.0


class Check(NamedTuple):
    """A command that has to succeed."""

    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    missing: str = ""  # why it cannot run here
    share: float = 1.0  # of the time


def checks(folder: Path) -> list[Check]:
    """All checks; ``bench`` writes its times to ``bench.json`` in a folder."""
    return [
        Check("kernels", (*PYTEST, "tests/kernels"), share=3),
        Check("method", (*PYTEST, "tests", "-m", "cuda", "--ignore=tests/kernels"), share=2),
        *(sanitizer_check(tool) for tool in ("memcheck", "initcheck", "synccheck", "racecheck")),
        Check("bench", (sys.executable, "-m", "gpuvos", "bench", "--json", str(folder / "bench.json")), share=3),
    ]


def sanitizer_check(tool: str) -> Check:
    """The tests of the kernels under a tool of compute-sanitizer."""
    found = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    command = (
        found or "compute-sanitizer",
        "--tool",
        tool,
        "--error-exitcode",
        "86",
        *PYTEST,
        *KERNEL_TESTS,
        "-m",
        "not cuda and not slow",
    )
    # memory of torch's own cache would hide what lies outside of a tensor
    environment = (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),) if tool in ("memcheck", "initcheck") else ()
    missing = (
        "" if found else "compute-sanitizer is neither on PATH nor in /usr/local/cuda/bin: install the CUDA toolkit"
    )
    return Check(tool, command, environment, missing)


def run_check(check: Check, seconds: float) -> dict[str, Any]:
    """Runs a check from the root of the repository for so many seconds at most; what came of it."""
    result: dict[str, Any] = {"name": check.name, "command": " ".join(check.command)}
    if check.missing:
        return result | {"status": "skipped", "output": check.missing}
    environment = {k: v for k, v in os.environ.items() if k not in ("TRITON_INTERPRET", "GPUVOS_KERNELS")}
    start = time.perf_counter()
    process = subprocess.Popen(
        check.command,
        cwd=ROOT,
        env=environment | dict(check.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # its children end with it
    )
    stopped = ""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        stopped = f"\nstopped after {seconds:.0f} s, its share of the time"
    return result | {
        "status": "failed" if process.returncode else "passed",
        "exit_status": process.returncode,
        "seconds": round(time.perf_counter() - start, 1),
        "output": output[-KEPT:] + stopped,
    }


def machine() -> dict[str, Any]:
    """Device, versions and commit that a report is about."""
    versions = {}
    for name in ("gpuvos", "torch", "triton", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit or None,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the checks that are asked for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [check.name for check in checks(Path())]
    parser.add_argument("report", type=Path, help="JSON file to write")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CHECK", help=", ".join(names))
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all checks together (default 10)")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no CUDA device: these checks need one; `pytest` runs all that does not", file=sys.stderr)
        return 2
    report: dict[str, Any] = {**machine(), "checks": []}
    end = time.perf_counter() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as folder:
        left = [check for check in checks(Path(folder)) if check.name in given.only]
        while left:
            share = left[0].share / sum(check.share for check in left if not check.missing or check is left[0])
            check = left.pop(0)
            print(f"{check.name}: {' '.join(check.command)}", flush=True)
            result = run_check(check, max(1.0, share * (end - time.perf_counter())))
            report["checks"].append(result)
            if result["status"] != "passed":
                print(result["output"])
            print(f"{check.name}: {result['status']}, {result.get('seconds', 0)} s", flush=True)
            times = Path(folder) / "bench.json"
            if times.is_file():
                report["bench"] = json.loads(times.read_text())
            given.report.write_text(json.dumps(report, indent=1) + "\n")  # as far as it has come
    return int(any(result["status"] == "failed" for result in report["checks"]))


if __name__ == "__main__":
    sys.exit(main())
