"""Runs of ``gpuvos segment`` that are killed at random moments, or write to one place at the same time."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from gpuvos.cli.main import main as command
from gpuvos.data import render_clip, write_video

_SPAWNED = 40  # of so many runs one has workers that begin as they do elsewhere
Found = tuple[Counter[str], list[str]]  # how often each outcome came, and what was not allowed


def make_videos(folder: Path, count: int) -> Path:
    """Some short clips."""
    for number in range(count):
        clip = render_clip("single", num_frames=3, height=32, width=48, seed=number)
        write_video(folder / f"videos/{number}.mp4", clip.frames)
    return folder / "videos"


def start(words: Sequence[str], said: Path, *, spawned: bool = False) -> int:
    """Runs a command of gpuvos in a forked process, of a group of its own; gives its number.

    Its workers are forked as well, unless they are to be ``spawned`` as they are elsewhere: each then imports torch.
    """
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        forking = multiprocessing.get_context("fork")
        if not spawned:
            multiprocessing.get_context = lambda _method: forking  # type: ignore[assignment]
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


def _words(videos: Path, out: Path, workers: int) -> list[str]:
    return [
        *("segment", str(videos), "-o", str(out), "--front-end", "appearance", "--num-seeds", "20"),
        *("--device", "cpu", "--no-arrays", "--workers", str(workers)),
    ]


class _Whole:
    """Some clips, and what a run on them leaves that nobody disturbs, whatever its workers."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.videos, self.lasts = folder, make_videos(folder, count), dict[bool, float]()
        command(_words(self.videos / "0.mp4", folder / "one", 1))  # here, so that forked processes import nothing
        self.out = folder / "whole"
        self.contents = self._undisturbed(self.out, spawned=False)

    def _undisturbed(self, out: Path, spawned: bool) -> dict[str, bytes | None]:
        if self.run(_words(self.videos, out, 1 + spawned), spawned):
            raise RuntimeError((self.folder / "said").read_text())
        return contents(out)

    def run(self, words: Sequence[str], spawned: bool) -> int:
        """Runs a command to its end; gives its status, and keeps the seconds that it took."""
        begin = time.monotonic()
        status = finish(start(words, self.folder / "said", spawned=spawned))
        self.lasts[spawned] = time.monotonic() - begin
        return status

    def moment(self, spawned: bool, chance: random.Random) -> float:
        """Seconds after which something happens to a run: as many as the last one took at most."""
        if spawned not in self.lasts and self._undisturbed(self.folder / "spawned", spawned) != self.contents:
            raise RuntimeError("workers that are spawned leave other files than those that are forked")
        return chance.uniform(0, self.lasts[spawned])


def killed_runs(folder: Path) -> Callable[..., Found]:
    """What kills runs at random moments, then lets them go on to the end; half of them replace results of before."""
    whole = _Whole(folder, 2)

    def kill(number: int, chance: random.Random) -> tuple[str, str]:
        out, spawned = folder / f"killed-{number}", number % _SPAWNED == _SPAWNED - 1
        words = _words(whole.videos, out, 1 + number % 2)
        if number // 2 % 2:
            shutil.copytree(whole.out, out)
            words.append("--overwrite")
        moment = whole.moment(spawned, chance)
        child = start(words, folder / "said", spawned=spawned)
        time.sleep(moment)
        os.kill(child, chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
        end = "killed" if finish(child) else "had ended"
        halves = [path for path in out.glob("*-gpuvos") if contents(path) != contents(whole.out / path.name)]
        status = whole.run(words, spawned)
        left, found = not _all_ended(child), contents(out)
        shutil.rmtree(out)
        if halves or left or status or found != whole.contents:
            names = sorted(found.keys() ^ whole.contents.keys())
            return end, f"kill {number}: half {halves}, status {status}, processes left {left}, {names}"
        return end, ""

    return _counting(kill, "whole after the next run")


def paired_runs(folder: Path) -> Callable[..., Found]:
    """What lets two runs write one output at a time, the second a random moment later."""
    whole = _Whole(folder, 2)

    def pair(number: int, chance: random.Random) -> tuple[str, str]:
        out, spawned = folder / f"pair-{number}", number % _SPAWNED == _SPAWNED - 1
        words = _words(whole.videos, out, 1 + number % 2) + ["--overwrite"] * (number // 2 % 2)
        moment, begin = whole.moment(spawned, chance), time.monotonic()
        first = start(words, folder / "said-1", spawned=spawned)
        time.sleep(moment)
        second = start(words, folder / "said-2", spawned=spawned)
        statuses = [finish(first)]
        whole.lasts[spawned] = time.monotonic() - begin
        statuses.append(finish(second))
        found = contents(out)
        shutil.rmtree(out)
        if found != whole.contents or statuses != [0, 0]:
            return "ran", f"pair {number}: {statuses}, {sorted(found.keys() ^ whole.contents.keys())}"
        return "ran", ""

    return _counting(pair, "nothing lost")


def _counting(trial: Callable[[int, random.Random], tuple[str, str]], good: str) -> Callable[..., Found]:
    def run(numbers: range, seed: int) -> Found:
        outcomes: Counter[str] = Counter()
        wrong = []
        for number in numbers:
            end, complaint = trial(number, random.Random(f"{seed} {number}"))
            outcomes[end] += 1
            outcomes["lost" if complaint else good] += 1
            wrong += [complaint] * bool(complaint)
        return outcomes, wrong

    return run


def _all_ended(group: int) -> bool:
    """Waits for the end of every process of a group, for a minute at most; whether they ended."""
    for _ in range(600):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
