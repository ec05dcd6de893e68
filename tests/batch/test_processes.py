"""Videos side by side on the cores of this machine: the same bytes for any number of workers, and killed processes."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
import torch

from gpuvos.batch import processes
from gpuvos.batch.jobs import Job
from gpuvos.batch.processes import default_workers, end_with_parent, run_processes
from gpuvos.batch.worker import DONE, FAILED, RunOptions, Worker
from gpuvos.cli import segment
from gpuvos.cli.main import main
from gpuvos.data import render_clip, write_video
from gpuvos.pipeline.threads import ThreadedFeatures
from gpuvos.pipeline.video import VideoSegmenter
from gpuvos.viz.maps import save_png

pytestmark = pytest.mark.usefixtures("small_saliency")


class Pool:
    """In this process; of the first ``deaths`` pools all but the first video find that a process was killed."""

    deaths = 0
    sizes: list[int]
    worker: Worker

    def __init__(self, workers: int, **_: Any) -> None:
        self.sizes.append(workers)
        self.dies, self.done = len(self.sizes) <= self.deaths, 0

    def submit(self, _call: Callable[[Job], Any], job: Job) -> Future[Any]:
        future: Future[Any] = Future()
        if self.dies and self.done == 1:
            future.set_exception(BrokenProcessPool())
        else:
            future.set_result(self.worker(job))
        self.done += 1
        return future

    def shutdown(self, **_: Any) -> None:
        pass


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], tuple[list[str], list[int]]]:
    """Statuses of four videos and sizes of the pools, by the number of pools that die."""
    jobs = [Job(tmp_path / f"{name}.mp4", tmp_path / f"out/{name}") for name in "abcd"]
    for job in jobs:
        job.video.touch()
    options = RunOptions({}, "run", tmp_path / "out/.work", retries=1)
    monkeypatch.setattr(processes, "ProcessPoolExecutor", Pool)

    def statuses(deaths: int) -> tuple[list[str], list[int]]:
        Pool.deaths, Pool.sizes, Pool.worker = deaths, [], Worker(lambda *_: 5, options)
        found = {one.output: one.status for one in run_processes(jobs, lambda: lambda *_: 5, options, 3)}
        return [found[str(job.output)] for job in jobs], Pool.sizes

    return statuses


def test_all_are_done_with_as_many_as_wanted(run: Callable[[int], tuple[list[str], list[int]]]) -> None:
    assert run(0) == ([DONE] * 4, [3])


def test_after_a_killed_process_they_go_on_one_at_a_time(run: Callable[[int], tuple[list[str], list[int]]]) -> None:
    assert run(1) == ([DONE] * 4, [3, 1])


def test_processes_that_always_die_come_to_an_end(
    run: Callable[[int], tuple[list[str], list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenProcessPool())
        return future

    monkeypatch.setattr(Pool, "submit", dead)
    assert run(9) == ([FAILED] * 4, [3, 1, 1])  # 2 + retries


def test_a_core_each() -> None:
    assert 1 <= default_workers() <= (os.cpu_count() or 1)


def test_processes_end_with_the_one_that_started_them() -> None:
    """A killed run leaves no workers that wait for videos for ever."""
    context = multiprocessing.get_context("fork")
    reading, writing = os.pipe()

    def work() -> None:
        end_with_parent()
        signal.pause()

    def killed() -> None:
        context.Process(target=work).start()
        os.kill(os.getpid(), signal.SIGKILL)

    process = context.Process(target=killed)
    process.start()
    os.close(writing)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert select.select([reading], [], [], 60)[0]  # its other end is closed in every process
    os.close(reading)


def test_a_worker_that_is_told_to_end_begins_no_other_video(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(_job: Job) -> None:
        raise SystemExit(143)

    ends: list[int] = []
    monkeypatch.setattr(processes, "_worker", told)
    monkeypatch.setattr(processes.os, "_exit", ends.append)
    processes._segment(Job(Path("a"), Path("b")))
    assert ends == [143]


def test_a_worker_that_is_told_in_a_finalizer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python drops the exception."""

    class Told:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def work(_job: Job) -> None:
        Told()
        time.sleep(60)

    ends: list[int] = []
    monkeypatch.setattr(processes, "_worker", work)
    monkeypatch.setattr(processes.os, "_exit", ends.append)
    processes._segment(Job(Path("a"), Path("b")))
    assert ends == [143]


@pytest.mark.parametrize(("videos", "workers", "cores"), [(2, 1, 1), (1, 1, 1), (1, 2, 2)])
def test_one_worker_is_this_process_with_one_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, videos: int, workers: int, cores: int
) -> None:
    seen = []

    def segment_file(_arguments: object, segmenter: VideoSegmenter, *_: object) -> int:
        seen.append((os.getpid(), torch.get_num_threads(), isinstance(segmenter.front_end, ThreadedFeatures)))
        return 1

    paths = [tmp_path / f"{number}.mp4" for number in range(videos)]
    for path in paths:
        path.touch()
    monkeypatch.setattr(segment, "segment_file", segment_file)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        words = ["segment", *map(str, paths), "-o", str(tmp_path / "out"), "--workers", str(workers)]
        assert main([*words, "--device", "cpu", "--front-end", "appearance"]) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [(os.getpid(), cores, workers > 1)] * videos


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["whole", "pieces"])
def test_the_same_bytes_for_any_number_of_threads_of_one_video(tmp_path: Path, mode: str) -> None:
    """Of an odd number of frames of an odd size, with both networks and every step of the refinement."""
    frames = render_clip("single", num_frames=5, height=61, width=83, seed=2).frames
    video = tmp_path / "clip"
    video.mkdir()
    for number, frame in enumerate(frames):
        save_png(video / f"{number}.png", frame)
    found = []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for workers in ("1", "2", "3"):
            out = tmp_path / workers
            words = ["segment", str(video), "-o", str(out), "--workers", workers, "--device", "cpu", "--no-report"]
            assert main([*words, "--mode", mode, "--clip-length", "3"]) == 0
            files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "record.json")
            found.append({path.relative_to(out): path.read_bytes() for path in files})
    finally:
        torch.set_num_threads(before)
    assert len(found[0]) >= 5 + 1 + 1 + 1  # masks, overlay, sheet, arrays
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_the_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for seed in range(3):
        frames = render_clip("single", num_frames=3, height=48, width=80, seed=seed).frames
        write_video(videos / f"{seed}.mp4", frames)
    found = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        quick = ["--device", "cpu", "--front-end", "appearance", "--no-report"]
        assert main(["segment", str(videos), "-o", str(out), "--workers", workers, *quick]) == 0
        files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "record.json")
        found.append({path.relative_to(out): path.read_bytes() for path in files})
        assert not (out / ".gpuvos-work").exists()
    assert len(found[0]) == 3 * (3 + 1 + 1 + 1)  # masks, overlay, sheet, arrays
    assert found[0] == found[1]
