"""The commands, as a user runs them."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import gpuvos
from gpuvos.cli.main import main
from gpuvos.cli.pieces import STREAM_PIECE, stream_pieces
from gpuvos.data import Clip, read_mask, read_video, render_clip, write_mask, write_video
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.metrics import region_similarity

pytestmark = pytest.mark.usefixtures("small_saliency")

QUICK = ["--front-end", "appearance"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "moving.mp4"
    write_video(path, render_clip("single", num_frames=6, height=96, width=160, seed=1).frames, frame_rate=12)
    return path


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory, write_davis: Callable[..., Path]) -> Path:
    return write_davis(tmp_path_factory.mktemp("davis"), ("one", "two"), num_frames=5, height=96, width=160)


@pytest.mark.slow
def test_segment_writes_everything(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert main(["segment", str(clip), "-o", str(output)]) == 0
    names = sorted(path.name for path in (output / "masks").iterdir())
    assert names == [f"{number:05d}.png" for number in range(6)]
    assert len(read_video(output / "overlay.mp4").frames) == 6
    arrays = np.load(output / "result-00000.npz", allow_pickle=False)
    assert arrays["mask"].shape == (6, 96, 160)
    mask = torch.stack([read_mask(output / "masks" / name) for name in names]) > 0
    assert torch.equal(mask, torch.from_numpy(arrays["mask"]))
    truth = render_clip("single", num_frames=6, height=96, width=160, seed=1).mask
    assert region_similarity(mask, truth).mean() > 0.5
    assert (output / "sheet.png").stat().st_size > 1000
    report = (output / "report.html").read_text()
    assert base64.b64encode((output / "overlay.mp4").read_bytes()).decode() in report
    assert "found in 6 of 6 frames" in report
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # no work folder is left


@pytest.mark.slow
def test_crf_refines_what_is_written_and_measured(
    clip: Path, davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []
    for number, option in enumerate(([], ["--crf"])):
        output = tmp_path / str(number)
        assert main(["segment", str(clip), "-o", str(output), *QUICK, *option]) == 0
        written.append(np.load(output / "result-00000.npz", allow_pickle=False))
    assert not np.array_equal(written[0]["probability"], written[1]["probability"])
    assert np.array_equal(written[0]["seed_index"], written[1]["seed_index"])
    capsys.readouterr()
    tables = []
    for option in ([], ["--crf"]):
        assert main(["evaluate", "--root", str(davis), "--sequences", "one", *QUICK, *option]) == 0
        tables.append(capsys.readouterr().out.splitlines()[2].split("|")[4:10])  # J and F with recall and decay
    assert tables[0] != tables[1]


@pytest.mark.slow
def test_segment_in_pieces_keeps_every_frame(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ["--mode", "pieces", "--clip-length", "4", "--start", "1"]
    assert main(["segment", str(clip), "-o", str(output), *options, *QUICK]) == 0
    assert len(list((output / "masks").iterdir())) == 5
    assert sorted(path.name for path in output.glob("*.npz")) == ["result-00001.npz", "result-00005.npz"]


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a run, pieces joined."""
    files = [np.load(path, allow_pickle=False) for path in sorted(folder.glob("result-*.npz"))]
    return {name: np.concatenate([file[name] for file in files]) for name in files[0]}


@pytest.mark.slow
def test_segment_as_a_stream_that_remembers_all_equals_the_whole(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpuvos.cli.pieces.STREAM_PIECE", 4)
    monkeypatch.setattr("gpuvos.cli.segment._READ", 2)
    whole, stream = tmp_path / "whole", tmp_path / "stream"
    assert main(["segment", str(clip), "-o", str(whole), "--mode", "whole", *QUICK]) == 0
    options = ["--clip-length", "5", "--history", "9", "--latency", "7"]  # six frames: auto streams
    assert main(["segment", str(clip), "-o", str(stream), *options, *QUICK]) == 0
    assert sorted(path.name for path in stream.glob("*.npz")) == ["result-00000.npz", "result-00004.npz"]
    one, two = arrays(whole), arrays(stream)
    assert one["mask"].any()
    for name in set(one) - {"track_score"}:
        assert np.array_equal(one[name], two[name]), name
    assert two["track_score"].shape == two["tracks"].shape  # of every frame: windows differ
    for path in (whole / "masks").iterdir():
        assert path.read_bytes() == (stream / "masks" / path.name).read_bytes()
    assert len(read_video(stream / "overlay.mp4").frames) == 6
    assert (stream / "sheet.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_stream_reads_on_only_as_it_writes() -> None:
    frames = render_clip("single", num_frames=40, height=32, width=48).frames
    taken = []

    def clips() -> Iterator[Clip]:
        for first in range(0, 40, 2):
            taken.append(first + 2)
            names = (str(first), str(first + 1))
            yield Clip(frames[first : first + 2], torch.tensor([first, first + 1]), 24.0, names)

    streamer = gpuvos.StreamingSegmenter(AppearanceFeatures(), history=4, latency=3)
    seen, given = [], 0
    for piece in stream_pieces(streamer, clips(), torch.device("cpu"), progress=lambda _, done, __: seen.append(done)):
        given += len(piece.clip.names)
        assert taken[-1] <= given + 3 + 2
        assert (piece.features is not None) == (given <= STREAM_PIECE)
        assert torch.equal(piece.clip.frames, frames[given - len(piece.clip.names) : given])
    assert given == seen[-1] == len(seen) == 40


@pytest.mark.slow
def test_a_stream_with_a_crf_and_without_arrays(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ["--mode", "stream", "--history", "3", "--latency", "1", "--no-arrays", "--crf"]
    assert main(["segment", str(clip), "-o", str(output), *options, *QUICK]) == 0
    assert len(list((output / "masks").iterdir())) == 6
    assert not list(output.glob("*.npz"))


@pytest.mark.slow
def test_segment_with_a_first_mask(clip: Path, tmp_path: Path) -> None:
    truth = render_clip("single", num_frames=6, height=96, width=160, seed=1).mask
    write_mask(tmp_path / "first.png", truth[0])
    arguments = [
        "segment",
        str(clip),
        "-o",
        str(tmp_path / "out"),
        "--first-mask",
        str(tmp_path / "first.png"),
        "--preset",
        "realtime",
    ]
    assert main(arguments) == 0
    found = torch.from_numpy(np.load(tmp_path / "out" / "result-00000.npz")["mask"])
    assert region_similarity(found[0], truth[0]) > 0.5
    pieces = ["--overwrite", "--clip-length", "3", "--mode", "pieces"]
    assert main([*arguments, *pieces]) == 2  # a mask of frame 0 serves one piece
    assert main([*arguments, "--overwrite", "--clip-length", "3", "--latency", "2"]) == 0  # and a stream
    streamed = np.load(tmp_path / "out" / "result-00000.npz")
    assert np.array_equal(streamed["mask"], found)
    assert region_similarity(torch.from_numpy(streamed["mask"]), truth).min() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["whole", "stream", "pieces"])
@pytest.mark.parametrize("everything", [False, True])
def test_what_vanishes_while_it_is_written_is_one_line(
    mode: str,
    everything: bool,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Somebody deletes the folder of masks, or the whole work folder, when the third mask is written."""

    def write(path: Path, mask: torch.Tensor) -> None:
        if path.stem == "00002":
            shutil.rmtree(path.parent.parent if everything else path.parent)
        write_mask(path, mask)

    monkeypatch.setattr("gpuvos.cli.segment.write_mask", write)
    options = ["--mode", mode, "--history", "4", "--latency", "1", "--clip-length", "2", "--no-arrays", "--no-report"]
    assert main(["segment", str(clip), "-o", str(tmp_path / "out"), *options, *QUICK]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gpuvos: ")]
    assert len(said) == 1
    assert "nobody else touches" in said[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_output_that_exists_is_kept(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "precious.txt").write_text("mine")
    assert main(["segment", str(clip), "-o", str(output), *QUICK]) == 2
    assert (output / "precious.txt").read_text() == "mine"
    assert str(output) in capsys.readouterr().err
    assert main(["segment", str(clip), "-o", str(output), "--overwrite", *QUICK]) == 2  # it holds no record of ours
    assert (output / "precious.txt").read_text() == "mine"
    ours = tmp_path / "ours"
    assert main(["segment", str(clip), "-o", str(ours), *QUICK]) == 0
    (ours / "sheet.png").write_text("changed")
    assert main(["segment", str(clip), "-o", str(ours), "--overwrite", *QUICK]) == 0
    assert (ours / "sheet.png").read_bytes() != b"changed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["segment", "missing.mp4"], "missing.mp4"),
        (["segment", "noise.mp4"], "noise.mp4"),
        (["segment", "clip", "--device", "cuda:99"], "--device"),
        (["segment", "clip", "--device", "abacus"], "--device"),
        (["segment", "clip", "--device", "meta"], "--device"),
        (["segment", "clip", "--step", "0"], "--step"),
        (["segment", "clip", "--clip-length", "0"], "--clip-length"),
        (["segment", ""], "video"),
        (["segment", "clip", "--window", "4"], "window"),
        (["segment", "clip", "--start", "99"], "start"),
        (["segment", "clip", "--mode", "stream", "--history", "8"], "--latency"),
        (["segment", "clip", "-o", "noise.mp4/out"], "noise.mp4"),
        (["segment", "clip", "--weights", "none.safetensors"], "none.safetensors"),
        (["segment", "clip", "--weights", "noise.mp4", "--front-end", "appearance"], "--weights"),
        (["segment", "clip", "--precision", "bfloat16", "--front-end", "appearance"], "--precision"),
        (["evaluate", "--root", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str],
    word: str,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "cuda:99" in arguments and torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 8)
    assert main([str(clip) if word_ == "clip" else word_ for word_ in arguments]) == 2
    message = capsys.readouterr().err.strip().splitlines()
    assert len(message) == 1
    assert message[0].startswith("gpuvos: ")
    assert word in message[0]
    assert [path.name for path in tmp_path.iterdir()] == ["noise.mp4"]


def test_frames_that_an_output_would_replace_are_kept(
    davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = tmp_path / "set/frames"
    shutil.copytree(davis / "JPEGImages/480p/one", frames)
    monkeypatch.chdir(tmp_path)
    for command in ("segment", "figures"):
        for output in ("set/frames", "set", "."):
            assert main([command, "set/frames", "-o", output, "--overwrite", *QUICK]) == 2
            assert "would be deleted with 'set/frames' in it" in capsys.readouterr().err.replace(f"{tmp_path}/", "")
    assert main(["demo", "-o", "set", "--frames", "2", "--height", "16", "--width", "24", *QUICK]) == 2
    assert len(list(frames.iterdir())) == 5


@pytest.mark.slow
def test_output_that_nobody_reads_is_no_error() -> None:
    code = "import sys; from gpuvos.cli.main import main; sys.stdin.readline(); sys.exit(main(['info']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()  # as head does when it has seen enough
    process.stdout = None
    assert (process.communicate(b"now")[1], process.returncode) == (b"", 141)


@pytest.mark.slow
def test_interrupt_leaves_nothing(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gpuvos.cli.segment.save_npz", interrupted)  # masks are written by then
    assert main(["segment", str(clip), "-o", str(tmp_path / "out"), *QUICK]) == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_evaluate(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "report"
    arguments = ["evaluate", "--root", str(davis), "--rule", "paper", "robust", "-o", str(output), *QUICK]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert table.strip() == (output / "table.md").read_text().strip()
    report = json.loads((output / "results.json").read_text())
    assert [(row["sequence"], row["method"]) for row in report["rows"]] == [
        ("one", "paper"),
        ("one", "robust"),
        ("two", "paper"),
        ("two", "robust"),
    ]
    assert all(0 <= row["j"] <= 1 for row in report["rows"])
    assert all(0 <= row["t"] <= 5 for row in report["rows"])
    mean = sum(row["j"] for row in report["rows"] if row["method"] == "robust") / 2
    assert f"| **mean** | robust | 6 | {100 * mean:.1f} |" in table
    assert len(list((output / "sheets").iterdir())) == 4
    assert main(["evaluate", "--root", str(davis), "--sequences", "three"]) == 2


@pytest.mark.slow
def test_demo_and_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "demo"
    assert main(["demo", "-o", str(output), "--frames", "4", "--height", "96", "--width", "160"]) == 0
    assert {path.name for path in output.iterdir()} == {"clip.mp4", "overlay.mp4", "masks", "sheet.png"}
    assert "J 0." in capsys.readouterr().out
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert f"torch {torch.__version__.split('+')[0]}" in printed
    assert "gpuvos::minimax_forest: reference" in printed
