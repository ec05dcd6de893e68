"""``gpuvos bench``, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gpuvos.bench.environment import read_record
from gpuvos.cli.bench import build_workloads
from gpuvos.cli.main import main
from gpuvos.cli.options.bench import add_arguments

pytestmark = pytest.mark.usefixtures("small_saliency")

TINY = ["--height", "48", "--width", "64", "--frames", "2", "--channels", "4", "--seeds", "5"]
QUICK = [*TINY, "--rounds", "1", "--device", "cpu"]


@pytest.mark.slow
def test_one_table_and_one_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jsonschema")
    file = tmp_path / "bench.json"
    words = ["--stride", "4", "2", "--stages", "tracks", "region means", "J,", "--json", str(file)]
    assert main(["bench", *QUICK, *words]) == 0
    printed = capsys.readouterr().out
    record = read_record(file)
    first, second = record["measurements"]
    assert [row["stage"] for row in first["rows"]] == ["region means", "tracks", "J, region similarity"]
    assert [row["stage"] for row in second["rows"]] == ["region means", "tracks"]  # J sees no grid: once
    assert [found["workload"]["stride"] for found in (first, second)] == [4, 2]
    assert first["workload"]["seeds"] == first["workload"]["robust_seeds"] == 5
    assert printed.count("| region means |") == 2
    assert "GB/s" in printed
    for peer in first["peers"]:
        assert (peer["name"] if peer["skipped"] is None else peer["skipped"]) in printed


@pytest.mark.slow
def test_peers_can_be_left_out(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    assert main(["bench", *QUICK, "--stages", "region means", "--no-peers", "--json", str(file)]) == 0
    assert json.loads(file.read_text())["measurements"][0]["peers"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stages", "nothing"], "--stages: got 'nothing'"),
        (["--frames", "0"], "--frames: got 0"),
        (["--rounds", "0"], "--rounds: got 0"),
        (["--threads", "-1"], "--threads: got -1"),
        (["--height", "48"], "--height, --width: got one of them, wanted both or neither"),
        (["--base", "no-such-commit"], "--base: got 'no-such-commit'"),
    ],
)
def test_bad_input_is_one_clear_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--device", "cpu", *words]) == 2
    assert capsys.readouterr().err.startswith(f"gpuvos: {message}")


def test_a_gpu_needs_no_option() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    found = build_workloads(parser.parse_args([]), torch.device("cuda"))
    assert [(one.stride, one.frames, one.dtype) for one in found] == [
        (4, 80, "bfloat16"),
        (1, 80, "bfloat16"),
    ]
    (host,) = build_workloads(parser.parse_args([]), torch.device("cpu"))
    assert (host.grid, host.frames, host.seeds, host.robust_seeds) == ((120, 214), 8, 100, 300)
    assert host.dtype == "float32"
