"""The scripts of benchmarks/ that nothing else runs, on inputs as small as can be."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_saliency")]


@pytest.fixture(autouse=True)
def _threads() -> object:
    """Scripts choose how many there are."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(monkeypatch: pytest.MonkeyPatch, name: str, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    monkeypatch.syspath_prepend(FOLDER)  # as Python does for a script
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


def test_streaming(
    davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--root", davis, "--sequences", "one", "--settings", "4:1", "--keep", tmp_path / "kept.json")
    run(monkeypatch, "streaming", *words)
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept["rows"]["one"].keys() == {"whole clip", "4:1"}
    assert kept["rows"]["one"]["whole clip"] > 50
    kept["rows"] = {"one": {"whole clip": 90.0, "4:1": 88.0}}
    (tmp_path / "kept.json").write_text(json.dumps(kept))
    capsys.readouterr()
    run(monkeypatch, "streaming", *words)  # goes on from what was kept
    assert "| 4 | 1 | 88.0 | -2.0 | -2.0 (one) | -2.0 (one) |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"--keep: .*kept\.json has rows of other settings"):
        run(monkeypatch, "streaming", *words, "--settings", "5:1")


def test_cross_tuning(davis: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "cross_tuning", "--root", davis, "--every", 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-6] == "| parameters | values | the 16 | the 14 |"
    cells = [line.strip("| ").split(" | ") for line in lines[-4:]]
    assert [row[0] for row in cells] == ["the defaults", "chosen on the 16", "chosen on the 14", "the worst of all"]
    # who chooses for himself loses nothing to the others
    assert float(cells[1][2]) == max(float(row[2]) for row in cells)
    assert float(cells[2][3]) == max(float(row[3]) for row in cells)


def test_endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--frames", 12, "--history", 6, "--latency", 2, "--seeds", 8, "--json", tmp_path / "rows.json")
    run(monkeypatch, "endless", *words)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["frames"] for row in rows] == [10, 12]
    assert all(row["resident_mib"] > 0 for row in rows)


def test_corrections(davis: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "corrections", "--root", davis, "--sequence", "one", "--frames", 3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 7
    assert lines[2].startswith("| Remove, the thing | ")


def test_presets(davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--root", davis, "--presets", "realtime", "--every", 3, "--threads", 1, "--frames", 2, "--rounds", 1)
    run(monkeypatch, "presets", *words, "--out", tmp_path / "presets")
    record = json.loads((tmp_path / "presets.json").read_text())["realtime"]
    assert record["accuracy"]["one"]["J"] > 25
    assert len(record["time"]["1"]["clock"]) == 1
    assert "| realtime | " in (tmp_path / "presets.md").read_text()
