"""Records: what the schema takes and refuses; everything recorded in the repository fits."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gpuvos import InputError
from gpuvos.bench import environment as records
from gpuvos.bench.environment import check_record, environment, read_record, write_record
from gpuvos.bench.runner import measure_workload
from gpuvos.bench.stages import Stage, chosen_stages
from gpuvos.bench.table import table
from gpuvos.bench.workload import Workload

pytest.importorskip("jsonschema")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
TINY = Workload(height=48, width=64, frames=2, channels=4, seeds=5, robust_seeds=6)


def fails(_inputs: object) -> object:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore")


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    stages = [*chosen_stages(["minimax", "tracks"]), Stage("too large", fails)]
    found = measure_workload(TINY, stages, bandwidth=1e9, rounds=2)
    kept = environment(torch.device("cpu"), "wall", ["scipy"])
    return {**kept, "copy_bandwidth": 1e9, "measurements": [found]}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """A record of the repository: it fits as one measured here does, and takes no time."""
    found: dict[str, Any] = json.loads((RESULTS / "bench-cpu.json").read_text())
    return found


@pytest.mark.slow
def test_a_record_fits_and_comes_back(record: dict[str, Any], tmp_path: Path) -> None:
    write_record(tmp_path / "record.json", record)
    assert read_record(tmp_path / "record.json") == record


@pytest.mark.slow
def test_floor_and_peers_of_a_measurement(record: dict[str, Any]) -> None:
    (found,) = record["measurements"]
    forest, _, failed = found["rows"]
    assert forest["must_bytes"] == 12 * 16 * 20
    assert forest["floor"] == pytest.approx(1e3 * 12 * 16 * 20 / 1e9)
    assert failed["error"] == "OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB"
    assert failed["median"] is None
    assert {peer["stage"] for peer in found["peers"]} == {"minimax forest"}


@pytest.mark.slow
def test_the_table_shows_every_row(record: dict[str, Any]) -> None:
    made_up = copy.deepcopy(record)
    (found,) = made_up["measurements"]
    found["rows"][0] |= {"median": 2.0, "q1": 1.5, "q3": 3.0, "floor": 0.5, "peak_bytes": 3 << 20}
    peer = found["peers"][0]
    peer |= {"median": 5.0, "q1": 4.0, "q3": 6.0, "peak_bytes": None, "skipped": None, "agreement": 0.5}
    found["peers"] = [peer, {**peer, "name": "absent", "skipped": "absent: it is not installed"}]
    lines = table(made_up).splitlines()
    assert "| minimax forest | 2.00 | 1.50 - 3.00 | 500 | 0.500 | 25 % | 0.00384 / 0.0115 | 3 | - | |" in lines
    assert any(
        line.startswith(f"| &emsp;{peer['name']} | 5.00 | 4.00 - 6.00 | 200 |") and line.endswith("| 2.50 |")
        for line in lines
    )
    assert any("50 % of the results equal ours" in line for line in lines)
    assert "- skipped: absent: it is not installed" in lines
    assert any(line.startswith("| too large | failed: OutOfMemoryError") for line in lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("commit"), "'commit' is a required property"),
        (lambda r: r.update(schema=2), "1 was expected"),
        (lambda r: r.update(commit="abc"), "does not match"),
        (lambda r: r.update(extra=1), "'extra' was unexpected"),
        (
            lambda r: r["measurements"][0]["rows"][0].update(median=-1.0),
            r"measurements\[0\].rows\[0\].median",
        ),
        (lambda r: r["measurements"][0]["workload"].pop("seeds"), "'seeds' is a required property"),
        (lambda r: r["versions"].pop("torch"), "'torch' is a required property"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(recorded: dict[str, Any], change: Any, message: str) -> None:
    broken = copy.deepcopy(recorded)
    change(broken)
    with pytest.raises(InputError, match=message):
        check_record(broken)


def test_a_record_that_does_not_fit_is_not_written(recorded: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_record(tmp_path / "record.json", {**recorded, "threads": 0})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "half.json").write_text('{"schema": 1')
    with pytest.raises(InputError, match="wanted a JSON file"):
        read_record(tmp_path / "half.json")


def test_without_jsonschema_nothing_is_claimed(recorded: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records.importlib.util, "find_spec", lambda _name: None)
    assert check_record({"schema": 2}) is False
    monkeypatch.undo()
    assert check_record(recorded) is True


def test_commit_and_dirt_are_those_of_the_code(tmp_path: Path) -> None:
    assert records.commit_of(tmp_path) == (None, None)
    for words in (("init", "-q"), ("config", "user.email", "a@b.c"), ("config", "user.name", "a")):
        assert records.git(tmp_path, *words) is not None
    code = tmp_path / "gpuvos" / "a.py"
    code.parent.mkdir()
    code.write_text("x = 1\n")
    records.git(tmp_path, "add", "-A")
    records.git(tmp_path, "commit", "-q", "-m", "first")
    commit, dirty = records.commit_of(tmp_path)
    assert commit is not None
    assert (len(commit), dirty) == (40, False)
    (tmp_path / "README.md").write_text("text\n")
    assert records.commit_of(tmp_path) == (commit, False)
    code.write_text("x = 2\n")
    assert records.commit_of(tmp_path) == (commit, True)


def test_recorded_results_fit() -> None:
    files = sorted([*RESULTS.glob("bench-*.json"), *RESULTS.glob("curves-*.json")])
    assert files
    for file in files:
        assert json.loads(file.read_text())["schema"] == 1, file
        read_record(file)
