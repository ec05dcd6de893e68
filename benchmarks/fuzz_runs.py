"""Runs of ``gpuvos segment`` that are killed at random moments, or write to one place at the same time."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from gpuvos.cli.main import main as command
from gpuvos.data import render_clip, write_video


def make_videos(folder: Path, count: int) -> Path:
    """Some short clips."""
    for number in range(count):
        clip = render_clip("single", num_frames=3, height=32, width=48, seed=number)
        write_video(folder / f"videos/{number}.mp4", clip.frames)
    return folder / "videos"


def start(words: Sequence[str], said: Path) -> int:
    """Runs a command of gpuvos in a forked process; gives its number."""
    child = os.fork()
    if child == 0:
        status = 1
        with said.open("w") as stream, redirect_stdout(stream), redirect_stderr(stream):
            try:
                torch.set_num_threads(1)
                status = command(list(words))
            finally:
                os._exit(status)
    return child


def finish(child: int) -> int:
    """Waits for a process; gives its status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(folder: Path) -> dict[str, bytes | None]:
    """All of a folder, hidden files as well; of records and overlays, which hold times, that they are there."""
    return {
        str(file.relative_to(folder)): None if file.name in ("record.json", "overlay.mp4") else file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _words(videos: Path, out: Path) -> list[str]:
    return [
        *("segment", str(videos), "-o", str(out), "--front-end", "appearance", "--num-seeds", "20"),
        *("--device", "cpu", "--no-arrays"),
    ]


def _undisturbed(folder: Path, count: int) -> tuple[Path, dict[str, bytes | None], float]:
    """Some clips, what a run on them leaves that nobody disturbs, and the seconds that it takes."""
    videos, said = make_videos(folder, count), folder / "said"
    begin = time.monotonic()
    if finish(start(_words(videos, folder / "whole"), said)):
        raise RuntimeError(said.read_text())
    return videos, contents(folder / "whole"), time.monotonic() - begin


def kill_runs(folder: Path, kills: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Kills runs at random moments, then lets them go on to the end; half of them replace results of before."""
    videos, whole, lasts = _undisturbed(folder, 2)
    said = folder / "said"
    outcomes: Counter[str] = Counter()
    wrong = []
    chance = random.Random(seed)
    for number in range(kills):
        out = folder / f"killed-{number}"
        words = _words(videos, out)
        if number % 2:
            shutil.copytree(folder / "whole", out)
            words.append("--overwrite")
        child = start(words, said)
        time.sleep(chance.uniform(0, lasts))
        os.kill(child, chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
        outcomes["killed" if finish(child) else "had ended"] += 1
        halves = [path for path in out.glob("*-gpuvos") if contents(path) != contents(folder / "whole" / path.name)]
        status = finish(start(words, said))
        same = contents(out) == whole
        outcomes["whole after the next run" if same and not status else "lost"] += 1
        if halves or not same or status:
            wrong.append(
                f"kill {number}: half {halves}, status {status}, {sorted(contents(out).keys() ^ whole.keys())}"
            )
        shutil.rmtree(out)
    return outcomes, wrong


def pair_runs(folder: Path, pairs: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Two runs on one output at a time, the second a random moment later."""
    videos, whole, lasts = _undisturbed(folder, 3)
    outcomes: Counter[str] = Counter()
    wrong = []
    chance = random.Random(seed)
    for number in range(pairs):
        out = folder / f"pair-{number}"
        words = _words(videos, out) + ["--overwrite"] * (number % 2)
        first = start(words, folder / "said-1")
        time.sleep(chance.uniform(0, lasts))
        second = start(words, folder / "said-2")
        statuses = finish(first), finish(second)
        same = contents(out) == whole
        outcomes["nothing lost" if same and statuses == (0, 0) else "lost"] += 1
        if not same or statuses != (0, 0):
            wrong.append(f"pair {number}: {statuses}, {sorted(contents(out).keys() ^ whole.keys())}")
        shutil.rmtree(out)
    return outcomes, wrong
