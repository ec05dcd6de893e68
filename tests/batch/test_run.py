"""Runs over many videos: nothing is lost, nothing is done twice, one that fails stops no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gpuvos.batch.jobs import Job, plan_jobs
from gpuvos.batch.local import run_local
from gpuvos.batch.manifest import input_hash, read_record, settings_hash
from gpuvos.batch.run import Summary, run_jobs
from gpuvos.batch.worker import DONE, FAILED, SKIPPED, Outcome, RunOptions, Worker
from gpuvos.cli.main import main
from gpuvos.errors import InputError, OutOfMemoryError


class Segment:
    """Stands in for the segmenter: writes one file, fails where it is told to."""

    def __init__(self, failures: dict[str, list[Exception]] | None = None) -> None:
        self.failures = failures or {}
        self.calls: Counter[str] = Counter()

    def __call__(self, video: Path, folder: Path) -> int:
        self.calls[video.stem] += 1
        (folder / "mask.txt").write_text(video.read_text())
        if self.failures.get(video.stem):
            raise self.failures[video.stem].pop(0)
        return len(video.read_text())


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    root = tmp_path / "videos"
    root.mkdir()
    for name in "abc":
        (root / f"{name}.mp4").write_text(name * 3)
    return root


def run(
    root: Path, segment: Segment, *, name: str = "first", step: int = 1, retries: int = 2, overwrite: bool = False
) -> Summary:
    out = root.parent / "out"
    options = RunOptions({"step": step}, name, out / ".work", retries, overwrite)
    engine = partial(run_local, open_segmenter=lambda: segment, options=options)
    return run_jobs(plan_jobs([str(root)], out), engine, options, out / "failures.json")


def test_what_is_done_is_not_done_again(videos: Path) -> None:
    segment = Segment()
    assert run(videos, segment) == Summary(3, 0, (), 9)
    assert segment.calls == {"a": 1, "b": 1, "c": 1}
    out = videos.parent / "out"
    assert sorted(path.name for path in out.iterdir()) == ["a-gpuvos", "b-gpuvos", "c-gpuvos"]
    record = read_record(out / "a-gpuvos")
    assert record is not None
    assert record["frames"] == 3
    assert record["settings"] == {"step": 1}
    (videos / "d.mp4").write_text("d")
    assert run(videos, segment, name="second") == Summary(1, 3, (), 1)
    assert segment.calls == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_other_settings_or_another_input_need_to_be_told(videos: Path) -> None:
    segment = Segment()
    run(videos, segment)
    (videos / "b.mp4").write_text("longer")
    summary = run(videos, segment, name="second")
    assert [(Path(row.video).stem, row.attempts) for row in summary.failures] == [("b", 1)]
    assert "--overwrite" in summary.failures[0].error
    assert (videos.parent / "out/b-gpuvos/mask.txt").read_text() == "bbb"  # as it was
    assert len(run(videos, segment, name="third", step=2).failures) == 3
    assert segment.calls == {"a": 1, "b": 1, "c": 1}
    assert run(videos, segment, name="fourth", step=2, overwrite=True) == Summary(3, 0, (), 12)
    assert (videos.parent / "out/b-gpuvos/mask.txt").read_text() == "longer"


def test_a_folder_of_somebody_else_is_kept(videos: Path) -> None:
    precious = videos.parent / "out/a-gpuvos/precious.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    summary = run(videos, Segment())
    assert (summary.done, len(summary.failures)) == (2, 1)
    assert precious.read_text() == "mine"


def test_results_inside_of_a_folder_of_images_do_not_change_it(tmp_path: Path) -> None:
    (tmp_path / "0.png").touch()
    before = input_hash(tmp_path)
    (tmp_path / "results").mkdir()
    assert input_hash(tmp_path) == before
    (tmp_path / "1.png").touch()
    assert input_hash(tmp_path) != before


def test_failures_are_tried_again_and_stop_no_other(videos: Path) -> None:
    out = videos.parent / "out"
    segment = Segment({"a": [RuntimeError("once"), OSError("twice")], "b": [RuntimeError(str(n)) for n in range(4)]})
    segment.failures["c"] = [InputError("c: broken")]
    summary = run(videos, segment)
    assert summary.done == 1
    assert segment.calls == {"a": 3, "b": 3, "c": 1}  # bad input stays bad
    assert [row["error"] for row in json.loads((out / "failures.json").read_text())["failures"]] == [
        "RuntimeError: 2",
        "c: broken",
    ]
    assert read_record(out / "a-gpuvos")["attempts"] == 3  # type: ignore[index]
    assert sorted(path.name for path in out.iterdir()) == ["a-gpuvos", "failures.json"]
    assert run(videos, segment, name="second") == Summary(2, 1, (), 6)
    assert not (out / "failures.json").exists()


def test_out_of_memory_is_tried_again(videos: Path) -> None:
    segment = Segment({"a": [OutOfMemoryError("frames: got more than fits into memory")]})
    assert run(videos, segment) == Summary(3, 0, (), 9)
    assert segment.calls["a"] == 2


def test_attempts_of_killed_processes_count_and_leave_nothing(videos: Path) -> None:
    out = videos.parent / "out"
    job = Job(videos / "a.mp4", out / "a-gpuvos")
    options = RunOptions({}, "run", out / ".work", retries=2)
    folders = options.work_folders(job)
    segment = Segment()
    for name in ("run-1", "other-7"):
        (folders / name / "masks").mkdir(parents=True)
    assert Worker(segment, options)(job) == Outcome(str(job.video), str(job.output), DONE, 2, 3)
    assert not folders.exists()
    other = Job(videos / "b.mp4", out / "b-gpuvos")
    (options.work_folders(other) / "run-3").mkdir(parents=True)
    outcome = Worker(segment, options)(other)
    assert (outcome.status, outcome.attempts) == (FAILED, 3)
    assert "killed" in outcome.error
    assert segment.calls == {"a": 1}
    assert not options.work_folders(other).exists()


def test_a_task_that_comes_twice_is_done_once(videos: Path) -> None:
    out = videos.parent / "out"
    job = Job(videos / "a.mp4", out / "a-gpuvos")
    segment = Segment()
    for overwrite in (False, True):
        worker = Worker(segment, RunOptions({}, f"run {overwrite}", out / ".work", overwrite=overwrite))
        first, second = (
            worker(job),
            worker(job),
        )  # as when a worker is killed between its rename and its answer
        assert first == second
        assert first.status == DONE
    assert segment.calls == {"a": 2}
    assert Worker(segment, RunOptions({}, "later", out / ".work"))(job).status == SKIPPED


_KILLED = """
import os, signal, sys
from functools import partial
from pathlib import Path
from gpuvos.batch.run import run_jobs
from gpuvos.batch.jobs import plan_jobs
from gpuvos.batch.local import run_local
from gpuvos.batch.worker import RunOptions

def segment(video, folder):
    (folder / "mask.txt").write_text(video.read_text())
    if video.stem == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return 3

videos, out = Path(sys.argv[1]), Path(sys.argv[2])
options = RunOptions({"step": 1}, "killed", out / ".work")
engine = partial(run_local, open_segmenter=lambda: segment, options=options)
run_jobs(plan_jobs([str(videos)], out), engine, options, out / "failures.json")
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(videos: Path) -> None:
    out = videos.parent / "out"
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(videos), str(out)], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert sorted(path.name for path in out.iterdir()) == [".b-gpuvos.lock", ".work", "a-gpuvos"]
    assert len(list(out.glob(".work/*/killed-1/mask.txt"))) == 1
    before = (out / "a-gpuvos/mask.txt").stat().st_mtime_ns
    segment = Segment()
    assert run(videos, segment, name="second") == Summary(2, 1, (), 6)
    assert segment.calls == {"b": 1, "c": 1}
    assert (out / "a-gpuvos/mask.txt").stat().st_mtime_ns == before
    assert sorted(path.name for path in out.iterdir()) == ["a-gpuvos", "b-gpuvos", "c-gpuvos"]


def test_hashes_follow_what_they_are_of(tmp_path: Path) -> None:
    assert settings_hash({"a": 1, "b": None}) == settings_hash({"b": None, "a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": "1"})
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "0.png").write_text("0")
    hashes = [input_hash(folder)]
    (folder / "1.png").write_text("1")
    hashes.append(input_hash(folder))
    (folder / "1.png").write_text("22")
    hashes.append(input_hash(folder))
    (folder / "1.png").rename(folder / "2.png")
    hashes.append(input_hash(folder))
    assert len(set(hashes)) == 4
    assert input_hash(tmp_path / "missing.mp4") is None


def forked(*calls: Callable[[], object]) -> list[int]:
    """Runs functions at the same time, each in a process of its own; gives the exit status of each."""
    children = []
    for call in calls:
        child = os.fork()
        if child == 0:
            try:
                call()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_two_runs_at_once_lose_nothing_and_do_nothing_twice(videos: Path) -> None:
    out, log = videos.parent / "out", videos.parent / "log"

    def segment(video: Path, folder: Path) -> int:
        (folder / "masks").mkdir()
        for number in range(20):
            (folder / f"masks/{number}.png").write_text(video.stem)
            time.sleep(0.002)
        with log.open("a") as stream:
            stream.write(f"{video.stem}\n")
        return 20

    def once(name: str) -> None:
        options = RunOptions({}, name, out / ".work")
        engine = partial(run_local, open_segmenter=lambda: segment, options=options)
        assert run_jobs(plan_jobs([str(videos)], out), engine, options, out / "failures.json").failures == ()

    assert forked(partial(once, "first"), partial(once, "second")) == [0, 0]
    assert sorted(log.read_text().split()) == ["a", "b", "c"]
    assert sorted(path.name for path in out.iterdir()) == ["a-gpuvos", "b-gpuvos", "c-gpuvos"]
    assert len(list(out.glob("*/masks/*.png"))) == 60


def test_a_work_folder_that_vanishes_is_a_failure(videos: Path) -> None:
    def segment(video: Path, folder: Path) -> int:
        shutil.rmtree(folder)
        (folder / "masks").mkdir(parents=True)
        return len(video.name)

    out = videos.parent / "out"
    options = RunOptions({}, "run", out / ".work")
    engine = partial(run_local, open_segmenter=lambda: segment, options=options)
    summary = run_jobs(plan_jobs([str(videos)], out), engine, options, out / "failures.json")
    assert [row.error.count("was deleted while it was filled") for row in summary.failures] == [1, 1, 1]
    assert [path.name for path in out.iterdir()] == ["failures.json"]


def test_results_that_are_no_longer_whole_are_not_done(videos: Path) -> None:
    run(videos, Segment())
    out = videos.parent / "out"
    (out / "a-gpuvos/mask.txt").unlink()
    summary = run(videos, Segment(), name="second")
    assert (summary.skipped, len(summary.failures)) == (2, 1)
    assert "not all there any more" in summary.failures[0].error
    assert run(videos, Segment(), name="third", overwrite=True).done == 3


@pytest.mark.parametrize("content", [b"[" * 200_000, b"{}", b'{"frames": "many"}', b"\xff", b"[1]"])
def test_a_bad_record_stops_no_batch(videos: Path, content: bytes) -> None:
    folder = videos.parent / "out/a-gpuvos"
    folder.mkdir(parents=True)
    (folder / "record.json").write_bytes(content)
    summary = run(videos, Segment())
    assert (summary.done, len(summary.failures)) == (2, 1)
    assert (folder / "record.json").read_bytes() == content


def test_a_pipe_as_a_record_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "record.json")
    assert read_record(tmp_path) is None


def test_overwrite_keeps_what_is_not_of_a_run(videos: Path) -> None:
    precious = videos.parent / "out/a-gpuvos/precious.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    summary = run(videos, Segment(), overwrite=True)
    assert (summary.done, len(summary.failures)) == (2, 1)
    assert "without a record.json" in summary.failures[0].error
    assert precious.read_text() == "mine"


def test_the_reason_names_an_input_that_is_gone(videos: Path) -> None:
    run(videos, Segment())
    job = plan_jobs([str(videos)], videos.parent / "out")[0]
    job.video.unlink()
    outcome = Worker(Segment(), RunOptions({"step": 1}, "later", videos.parent / "out/.work"))(job)
    assert "which is no longer there" in outcome.error


@pytest.mark.parametrize("option", ["--first-mask", "--weights"])
def test_what_a_run_reads_is_never_replaced(tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.mp4").touch()
    inside = tmp_path / "out/mine"
    inside.parent.mkdir()
    inside.write_text("kept")
    words = ["segment", str(tmp_path / "one.mp4"), "-o", str(inside.parent), "--overwrite", option, str(inside)]
    assert main(words) == 2
    assert "which would be deleted with" in capsys.readouterr().err
    assert inside.read_text() == "kept"


def test_figures_replace_figures_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.mp4").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("kept")
    assert main(["figures", str(tmp_path / "one.mp4"), "-o", str(tmp_path / "out"), "--overwrite"]) == 2
    assert "with mine, wanted a new folder or one of figures" in capsys.readouterr().err
    assert (tmp_path / "out/mine").exists()


def test_an_input_inside_of_another_job_s_output_is_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.mp4").touch()
    later = tmp_path / "one-gpuvos/later.mp4"
    later.parent.mkdir()
    later.touch()
    words = ["segment", str(tmp_path / "one.mp4"), str(later), "-o", str(tmp_path), "--overwrite"]
    assert main(words) == 2
    assert "which would be deleted with" in capsys.readouterr().err
    assert later.exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.mp4").touch()
    (tmp_path / "file").touch()
    words = ["segment", str(tmp_path / "one.mp4"), str(tmp_path / "two.mp4"), "-o", str(tmp_path / "file/out")]
    assert main([*words, "--front-end", "appearance"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gpuvos: ")
    assert said.count("\n") == 1


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/one.mp4").touch()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(tmp_path / "real")
    (tree / "loop").symlink_to(tree)
    jobs = plan_jobs([str(tree)], tmp_path / "out")
    assert [job.video for job in jobs] == [tree / "link/one.mp4"]
