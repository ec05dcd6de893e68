"""Two commits in one run, their rounds alternating."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

import gpuvos
from gpuvos.bench.environment import git
from gpuvos.bench.timing import spread
from gpuvos.bench.workload import Workload
from gpuvos.errors import fail

_WORKER = Path(__file__).with_name("worker.py")


def compare(
    base: str,
    workload: Workload,
    stages: Sequence[str],
    *,
    rounds: int = 7,
    clock: str = "wall",
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Compares the library that is imported with that of another commit of its checkout.

    Each runs in a process of its own with inputs of its own making, on the same device, and they take turns. Where the
    outputs of a stage differ in a bit, a speed-up would compare two different things, so none is reported; the cause
    may lie in a stage before it.

    Args:
        base: a commit, branch or tag.
        workload: sizes and device.
        stages: names.
        rounds: pairs of calls of each stage.
        clock: as in ``measure``.
        progress: told what comes next.

    Returns:
        ``comparison`` of a record.

    Raises:
        InputError: the library does not lie in a git checkout, or has no such commit.
    """
    root = Path(gpuvos.__file__).parents[1]
    commit = git(root, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}")
    if commit is None or not (root / ".git").exists():
        raise fail("--base", repr(base), f"a commit of the checkout at '{root}'", "install with pip install -e")
    with ExitStack() as stack:
        tree = stack.enter_context(_checkout(root, commit))
        head, other = (stack.enter_context(_worker(place, workload, clock)) for place in (None, tree))
        rows = []
        for stage in stages:
            progress(stage)
            rows.append(_compare_stage(stage, head, other, rounds, workload.frames))
    return {"base": base, "base_commit": commit, "workload": workload._asdict(), "rows": rows}


Ask = Callable[[str, str], dict[str, Any]]


def _compare_stage(stage: str, head: Ask, base: Ask, rounds: int, frames: int) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("head", "base", "speed_up", "q1", "q3", "same_output"))
    row |= {"stage": stage, "rounds": 0}
    checksums = []
    for ask, name in ((head, "the tree"), (base, "the base")):  # the call that does not count
        found = ask("check", stage)
        if "error" in found:
            return row | {"verdict": f"no comparison: {name} fails with {found['error']}"}
        checksums.append(found["checksum"])
    same = checksums[0] == checksums[1]
    pairs = [_pair(stage, head, base, number) for number in range(rounds)]
    ours, theirs = (spread([pair[side] for pair in pairs]).median for side in (0, 1))
    row |= {"head": 1e3 * ours / frames, "base": 1e3 * theirs / frames, "rounds": rounds, "same_output": same}
    if not same:
        return row | {"verdict": "refused: the outputs differ, so this is no speed-up"}
    ratio = spread([theirs / ours for ours, theirs in pairs])
    return row | {"speed_up": ratio.median, "q1": ratio.q1, "q3": ratio.q3, "verdict": verdict(ratio.q1, ratio.q3)}


def _pair(stage: str, head: Ask, base: Ask, number: int) -> tuple[float, float]:
    """Seconds of a call of either; who goes first changes from round to round."""
    if number % 2:
        theirs = base("time", stage)["seconds"]
        return head("time", stage)["seconds"], theirs
    ours = head("time", stage)["seconds"]
    return ours, base("time", stage)["seconds"]


def verdict(q1: float, q3: float) -> str:
    """What the quartiles of the speed-up allow to say.

    Example:
        >>> verdict(1.2, 1.3), verdict(0.98, 1.04), verdict(0.5, 0.6)
        ('quicker, same outputs', 'no difference beyond the spread', 'slower, same outputs')
    """
    if q1 <= 1 <= q3:
        return "no difference beyond the spread"
    return f"{'quicker' if q1 > 1 else 'slower'}, same outputs"


@contextmanager
def _checkout(root: Path, commit: str) -> Iterator[Path]:
    """A temporary worktree that can be imported as it is."""
    with tempfile.TemporaryDirectory(prefix="gpuvos-base-") as folder:
        tree = Path(folder) / "tree"
        if git(root, "worktree", "add", "--detach", str(tree), commit) is None:
            raise fail("--base", commit, "a commit that git worktree can check out")
        try:
            kernels = tree / "gpuvos" / "kernels"
            if (tree / "kernels").is_dir() and not kernels.exists():
                kernels.symlink_to("../kernels")  # where an installation has it
            yield tree
        finally:
            git(root, "worktree", "remove", "--force", str(tree))


@contextmanager
def _worker(tree: Path | None, workload: Workload, clock: str) -> Iterator[Ask]:
    """A process that answers; ``tree`` is what it imports the library from."""
    process = subprocess.Popen([sys.executable, str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    given, answers = process.stdin, process.stdout

    def send(words: dict[str, Any]) -> None:
        given.write(json.dumps(words) + "\n")
        given.flush()

    def ask(do: str, stage: str) -> dict[str, Any]:
        send({"do": do, "stage": stage})
        line = answers.readline()
        if not line:
            raise fail("--base", f"a process that ended with status {process.wait()}", "one that answers")
        answer: dict[str, Any] = json.loads(line)
        return answer

    try:
        send(
            {
                "root": None if tree is None else str(tree),
                "workload": workload._asdict(),
                "clock": clock,
                "threads": torch.get_num_threads(),
            }
        )
        yield ask
    finally:
        given.close()
        process.wait()
        answers.close()
