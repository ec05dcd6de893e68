"""Killed and started again, or shared among processes: the tables are the same."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import gpuvos
from gpuvos.cli.main import main

OPTIONS = ["--front-end", "appearance", "--num-seeds", "30", "--rule", "paper"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "gpuvos"]
# the same for less: see there
TWO_PROCESSES = [
    str(Path(__file__).parents[1] / "two_processes.py"),
    "gpuvos.cli.evaluate,gpuvos.paper.runner",
    str(Path(gpuvos.__file__).with_name("__main__.py")),
]
CHOSEN = ["--experiment", "main", "adaptation", "oracles", "drift", "--refinements"]


def command(davis: Path, output: Path) -> list[str]:
    return ["evaluate", "--root", str(davis), "-o", str(output), *OPTIONS, *CHOSEN]


def reports(output: Path) -> dict[str, bytes]:
    """Everything that was written but the cache and the results of sequences, which hold times."""
    files = [path for path in output.rglob("*") if path.is_file() and path.parent.name in (output.name, "plots")]
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory, write_davis: Callable[..., Path]) -> Path:
    """As small as it may be: every variant is measured several times."""
    names = ("one", "two", "three")
    return write_davis(tmp_path_factory.mktemp("davis"), names, num_frames=4, height=48, width=64)


@pytest.fixture(scope="module")
def whole(davis: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "out"
    assert main(command(davis, output)) == 0
    return output


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_writes_every_table(whole: Path) -> None:
    written = set(reports(whole))
    for name in ("main", "adaptation", "oracles", "drift"):
        assert {f"{name}.csv", f"{name}.json"} <= written
    assert {"report.md", "report.json", "figure6-drift.png", "table3-adaptation.png"} <= written
    report = json.loads((whole / "report.json").read_text())
    assert [table["columns"][0] for table in report["tables"]][:2] == ["method", "J mean"]
    rows = json.loads((whole / "main.json").read_text())["rows"]
    stored = [json.loads(path.read_text())["row"] for path in (whole / "sequences").glob("*/paper.json")]
    wanted = 100 * sum(sum(row["j"]) / len(row["j"]) for row in stored) / 3
    assert rows[0][1] == pytest.approx(wanted)


@pytest.mark.slow
def test_killed_and_started_again(davis: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    begun = subprocess.Popen(
        [sys.executable, "-m", "gpuvos", *command(davis, output)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(list(output.glob("sequences/*/[!.]*.json"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    before = {path: path.stat().st_mtime_ns for path in output.glob("sequences/*/[!.]*.json")}
    assert 5 <= len(before) < 39  # 3 sequences, 13 variants
    assert not (output / "report.md").exists()
    assert main(command(davis, output)) == 0
    assert reports(output) == reports(whole)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())  # none was made again


@pytest.mark.slow
def test_two_processes_write_what_one_does(davis: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, *TWO_PROCESSES, *command(davis, output)],
        env=environment(),
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert reports(output) == reports(whole)
    assert done.stdout.decode().count("### Table 3") == 1


@pytest.mark.slow
def test_two_processes_share_the_table(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--root", str(davis), *OPTIONS, "-o"]
    assert main([*words, str(tmp_path / "one")]) == 0
    done = subprocess.run(
        [sys.executable, *TORCHRUN, *words, str(tmp_path / "two")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("| sequence |") == capsys.readouterr().out.count("| sequence |") == 1
    written = []
    for name in ("one", "two"):
        with (tmp_path / name / "results.csv").open() as stream:
            written.append([list(row.values())[:6] for row in csv.DictReader(stream)])  # the rest are times
        assert len(list((tmp_path / name / "sheets").iterdir())) == 3
    assert written[0] == written[1]
    assert [row[0] for row in written[0]] == ["one", "two", "three"]


@pytest.mark.slow
def test_other_options_are_not_mixed_with_old_results(davis: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    main_only = ["evaluate", "--root", str(davis), "-o", str(output), "--experiment", "main", "--refinements"]
    assert main([*main_only, *OPTIONS]) == 0
    first = (output / "main.csv").read_bytes()
    assert first == (whole / "main.csv").read_bytes()
    fewer = ["--front-end", "appearance", "--num-seeds", "5", "--rule", "paper"]
    assert main([*main_only, *fewer]) == 0
    assert (output / "main.csv").read_bytes() != first
    damaged = next(output.glob("sequences/one/*.json"))
    damaged.write_text(damaged.read_text()[:40])
    assert main([*main_only, *OPTIONS]) == 0
    assert (output / "main.csv").read_bytes() == first


def test_an_experiment_needs_a_folder(davis: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--root", str(davis), "--experiment", "main"]) == 2
    assert "--output" in capsys.readouterr().err
