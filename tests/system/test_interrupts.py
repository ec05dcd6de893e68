"""Commands that are ended at any change on the disk, again and again: what is there is whole, and the end the same."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gpuvos.cli.main import main
from gpuvos.data import probe_video

QUICK = ["--front-end", "appearance", "--num-seeds", "20", "--device", "cpu"]
CHANGING = {"seconds", "feature_seconds", "method_seconds", "times", "run"}
ENDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

Run = Callable[..., int]


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory, write_davis: Callable[..., Path]) -> Path:
    return write_davis(tmp_path_factory.mktemp("davis"), ("one", "two"), num_frames=3, height=48, width=64)


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs a command in a folder, to its end or until a signal ends it before its n-th change; gives its status."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forked_commands.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def order(words: list[str], folder: Path, *, number: int = 0, end: int = 0) -> int:
        said = folder.with_suffix(".said")
        folder.mkdir(exist_ok=True)
        line = {"words": words, "folder": str(folder), "said": str(said), "number": number, "end": end}
        print(json.dumps(line), file=server.stdin, flush=True)
        return int(server.stdout.readline())

    yield order
    server.stdin.close()
    server.wait()


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(None not in row and None not in row.values() for row in rows)  # none too long, none too short
    return rows


def read_arrays(path: Path) -> dict[str, bytes]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name].tobytes() for name in arrays}


def read_checkpoint(path: Path) -> dict[str, bytes]:
    network = torch.load(path, weights_only=True)["network"]
    return {name: value.numpy().tobytes() for name, value in network.items()}


READERS: dict[str, Callable[[Path], Any]] = {
    ".csv": read_table,
    ".html": Path.read_bytes,
    ".json": lambda path: json.loads(path.read_text()),
    ".md": lambda path: path.read_text().endswith("\n"),  # its numbers are those of the .csv
    ".mp4": lambda path: (probe_video(path), path.read_bytes()),
    ".npz": read_arrays,
    ".png": lambda path: Image.open(path).tobytes(),
    ".pt": read_checkpoint,
    ".safetensors": lambda path: {name: value.numpy().tobytes() for name, value in load_file(path).items()},
}


def read(folder: Path) -> dict[str, Any]:
    """What is in the files of a folder that are not hidden, all of which must be whole; without times."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not hidden(path, folder)]
    return {str(path.relative_to(folder)): without_times(READERS[path.suffix](path)) for path in files}


def without_times(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: without_times(value) for name, value in content.items() if name not in CHANGING}
    return [without_times(value) for value in content] if isinstance(content, list) else content


def hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def end_again_and_again(run: Run, words: Callable[[], list[str]], folder: Path) -> int:
    """Ends the k-th attempt before its k-th change until one needs fewer; returns the number of attempts.

    After each, what is there must be whole, and after an end that can be heard, nothing else may be left; nor may after
    the last, whatever those left that were killed.
    """
    left: set[Path] = set()
    for number in count(1):
        end = ENDS[number % 3]
        status = run(words(), folder, number=number, end=end)
        said = folder.with_suffix(".said").read_text()
        if status == 0:
            assert [path for path in folder.rglob("*") if hidden(path, folder)] == []
            return number
        assert status == (-end if end == signal.SIGKILL else 128 + end), said
        read(folder)
        found = {path for path in folder.rglob("*") if hidden(path, folder)}
        if end != signal.SIGKILL:
            assert said.endswith("gpuvos: interrupted; nothing half-written is left\n")
            assert "Traceback" not in said
            assert found <= left
        left = found
    raise AssertionError


@pytest.mark.slow
def test_evaluate(run: Run, davis: Path, tmp_path: Path) -> None:
    words = ["evaluate", "--root", str(davis), "-o", "out", "--sequences", "one", *QUICK]
    assert run(words, tmp_path / "whole") == 0
    assert end_again_and_again(run, lambda: words, tmp_path / "ended") > 8
    assert read(tmp_path / "ended") == read(tmp_path / "whole")


@pytest.mark.slow
def test_experiments(run: Run, davis: Path, tmp_path: Path) -> None:
    words = ["evaluate", "--root", str(davis), "-o", "out", "--experiment", "main", "--refinements", *QUICK]
    assert run(words, tmp_path / "whole") == 0
    assert end_again_and_again(run, lambda: words, tmp_path / "ended") > 8
    assert read(tmp_path / "ended") == read(tmp_path / "whole")


@pytest.mark.slow
def test_train(run: Run, tmp_path: Path) -> None:
    words = [
        "train",
        "-o",
        "out",
        "--steps",
        "2",
        "--save-every",
        "1",
        "--evaluate-every",
        "1",
        "--size",
        "64",
        "--batch-size",
        "2",
        "--log-every",
        "1",
        "--threads",
        "1",
        "--device",
        "cpu",
    ]
    checkpoint = tmp_path / "ended/out/checkpoint.pt"
    assert run(words, tmp_path / "whole") == 0
    attempts = end_again_and_again(run, lambda: words + ["--resume"] * checkpoint.exists(), tmp_path / "ended")
    assert attempts > 8
    assert read(tmp_path / "ended") == read(tmp_path / "whole")


@pytest.mark.slow
def test_segment(run: Run, davis: Path, tmp_path: Path) -> None:
    video = str(davis / "JPEGImages/480p/one")
    words = ["segment", video, "-o", "out", *QUICK]
    assert run(words, tmp_path / "whole") == 0
    assert end_again_and_again(run, lambda: words, tmp_path / "ended") > 12
    assert read(tmp_path / "ended") == read(tmp_path / "whole")


@pytest.mark.slow
def test_a_process_with_its_threads(davis: Path, tmp_path: Path) -> None:
    words = [
        "segment",
        str(davis / "JPEGImages/480p/one"),
        "-o",
        "out",
        "--mode",
        "pieces",
        "--clip-length",
        "1",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "gpuvos", *words, *QUICK], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        while process.poll() is None and not list(tmp_path.glob(".out.partial-*/masks/*.png")):
            time.sleep(0.01)
        process.terminate()
        said = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode == 143, said
    assert said.endswith("gpuvos: interrupted; nothing half-written is left\n")
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_interrupt_is_heard_while_a_command_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.import_module", lambda _: signal.raise_signal(signal.SIGTERM))
    assert main(["info"]) == 143
    assert capsys.readouterr().err == "gpuvos: interrupted; nothing half-written is left\n"
    # or an interrupt ends in a traceback for seconds
    code = "import sys, gpuvos.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
