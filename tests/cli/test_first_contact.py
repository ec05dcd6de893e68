"""What somebody sees who has just installed it: quick answers, plain words, and how far it is."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from argparse import Namespace
from pathlib import Path

import pytest
import torch

import gpuvos
from gpuvos.cli import main as command
from gpuvos.cli.findings import Findings
from gpuvos.cli.main import main, spoken
from gpuvos.cli.options import bench, common, demo, evaluate, segment, train
from gpuvos.cli.options.common import Parser
from gpuvos.cli.progress import Stages
from gpuvos.data import SCENES, read_video, render_clip, write_mask, write_video
from gpuvos.features.appearance import AppearanceFeatures

pytestmark = pytest.mark.usefixtures("small_saliency")

QUICK = ["--front-end", "appearance", "--no-arrays"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "moving.mp4"
    frames = render_clip("single", num_frames=6, height=48, width=80, seed=1).frames
    write_video(path, frames, timestamps=[0, 0.04, 0.08, 1.5, 2.9, 3.0])
    return path


TYPING_ERRORS = {
    "": "COMMAND",
    "segmen": "invalid choice: 'segmen'",
    "segment": "video",
    "segment missing.mp4": "video: got 'missing.mp4', which does not exist",
    "segment @missing.txt": "@FILE",
    "segment . --bogus": "unrecognized arguments: --bogus",
    "segment . --step 0": "--step: got 0, wanted a whole number of at least 1",
    "segment . --max-side big": "--max-side: got big",
    "segment . --rule papre": "--rule: invalid choice: 'papre'",
    "segment . --first-mask missing.png": "--first-mask: got 'missing.png', which does not exist",
    "segment . --history 8": "--latency: got 8 with --history 8",
    "segment . --start 5 --stop 5": "--stop: got 5, wanted a number above --start 5",
    "segment notes.txt -o taken": "--output: got 'taken', which is not empty; choose another folder, or replace",
    "demo -o taken": "--output: got 'taken', which is not empty; choose another folder",
    "demo --frames 0": "--frames: got 0",
    "figures notes.txt -o taken": "--output: got 'taken'",
    "evaluate --root nowhere": "--root: got 'nowhere', which does not exist",
    "train --init nothing.pth": "--init: got 'nothing.pth'",
    "bench --rounds 0": "--rounds: got 0",
}


def test_typing_errors_are_answered_in_one_line_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    (tmp_path / "notes.txt").touch()
    code = (
        "import sys\nfrom gpuvos.cli.main import main\n"
        "for line in sys.stdin.read().splitlines(): assert main(line.split()) == 2, line\n"
        "heavy = {'torch', 'numpy', 'av', 'PIL', 'tqdm'} & set(sys.modules)\nassert not heavy, heavy"
    )
    given = "\n".join(TYPING_ERRORS)
    ran = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert ran.returncode == 0, ran.stderr
    said = ran.stderr.splitlines()
    assert len(said) == len(TYPING_ERRORS)
    for line, word in zip(said, TYPING_ERRORS.values(), strict=True):
        assert line.startswith("gpuvos: ")
        assert word in line


def test_help_and_version_import_nothing_heavy() -> None:
    lines = [["--version"], ["--help"], *([name, "--help"] for name in command._COMMANDS)]
    code = (
        "import sys\nfrom gpuvos.cli.main import main\n"
        f"for words in {lines}:\n"
        "    try: main(words)\n"
        "    except SystemExit as left: assert not left.code, words\n"
        "    heavy = {'torch', 'numpy', 'av', 'PIL', 'tqdm'} & set(sys.modules)\n"
        "    assert not heavy, (words, heavy)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    assert said[0] == f"gpuvos {gpuvos.__version__}"
    assert sum(line.startswith("usage: gpuvos") for line in said) == len(lines) - 1


def test_options_know_what_the_library_knows() -> None:
    """They repeat its constants, as importing it takes seconds."""
    from gpuvos.bench.timing import CLOCKS
    from gpuvos.bench.workload import DTYPES, SIZES
    from gpuvos.cli.progress import REFINEMENT_COSTS
    from gpuvos.kernels.static import ARCHITECTURES
    from gpuvos.paper.datasets import DATASETS, SPLITS
    from gpuvos.paper.tables import REFINEMENTS as ROWS
    from gpuvos.paper.variants import EXPERIMENTS
    from gpuvos.pipeline.refinement import REFINEMENTS, refinement
    from gpuvos.pipeline.rules import RULES
    from gpuvos.training.config import TrainingConfig
    from gpuvos.training.loss import KEEP

    assert set(common.RULES) == set(RULES)
    assert common.REFINEMENTS == tuple(REFINEMENT_COSTS) == ("none", *REFINEMENTS)
    assert tuple(ROWS) == REFINEMENTS
    assert all(isinstance(refinement(name, size=32), torch.nn.Module) for name in REFINEMENTS)
    assert demo.SCENES == SCENES
    assert (evaluate.DATASETS, evaluate.SPLITS, evaluate.EXPERIMENTS) == (DATASETS, SPLITS, EXPERIMENTS)
    assert (tuple(SIZES), tuple(DTYPES), tuple(CLOCKS)) == (bench.SIZES, bench.DTYPES, bench.CLOCKS)
    assert bench.ARCHITECTURES == ARCHITECTURES
    assert train.KEEP == KEEP
    parser = Parser()
    train.add_arguments(parser)
    given = vars(parser.parse_args([]))
    for field in dataclasses.fields(TrainingConfig):
        if given.get(field.name) is not None and field.name not in ("minutes", "steps"):
            assert given[field.name] == field.default, field.name
    parser = Parser()
    segment.add_arguments(parser)
    default = parser.parse_args(["."])
    config = gpuvos.Config()
    assert (default.rule, default.distance, default.rank_by) == (config.rule, config.distance, config.rank_by)
    for name in common.DISTANCES:
        gpuvos.Config(distance=name)
    for name in common.RANKINGS:
        gpuvos.Config(rank_by=name)


def test_messages_speak_the_options_of_the_command() -> None:
    arguments = Namespace(num_seeds=1, start=0, overwrite=False, video=["a"])
    assert spoken("config.num_seeds: got 0", arguments) == "--num-seeds: got 0"
    assert spoken("start: got 9, but 'a' has 3 frames", arguments) == "--start: got 9, but 'a' has 3 frames"
    assert spoken("path: got 'a: b'", arguments) == "path: got 'a: b'"
    assert spoken("pass overwrite=True, which", arguments) == "pass --overwrite, which"
    assert "overwrite" not in spoken("pass overwrite=True, which", Namespace())


@pytest.mark.slow
def test_overlay_has_the_times_of_the_input(clip: Path, tmp_path: Path) -> None:
    for mode in ("whole", "stream", "pieces"):
        options = ["--mode", mode, "--history", "4", "--latency", "2", "--clip-length", "4"]
        assert main(["segment", str(clip), "-o", str(tmp_path / mode), *options, *QUICK]) == 0
        times = read_video(tmp_path / mode / "overlay.mp4").timestamps
        assert torch.allclose(times, read_video(clip).timestamps, atol=1e-3), mode


def test_a_first_mask_must_fit(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = {
        "turned": (
            torch.ones(80, 48, dtype=torch.bool),
            "of 48 x 80 pixels, wanted 80 x 48, the size of the video; turn",
        ),
        "pixel off": (torch.ones(48, 81, dtype=torch.bool), "of 81 x 48 pixels, wanted 80 x 48, the size of the video"),
        "empty": (torch.zeros(48, 80, dtype=torch.bool), "which is empty"),
    }
    for name, (mask, message) in masks.items():
        write_mask(tmp_path / f"{name}.png", mask)
        options = ["--first-mask", str(tmp_path / f"{name}.png"), "-o", str(tmp_path / "out"), *QUICK]
        assert main(["segment", str(clip), *options]) == 2
        said = capsys.readouterr().err.strip()
        assert said.startswith(f"gpuvos: --first-mask: got '{tmp_path / name}.png'")
        assert message in said
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_first_mask_follows_frames_that_are_scaled_down(clip: Path, tmp_path: Path) -> None:
    mask = torch.zeros(48, 80, dtype=torch.bool)
    mask[20:23, 40:42] = True  # smaller than a pixel of the scaled frames
    write_mask(tmp_path / "first.png", mask)
    options = ["--first-mask", str(tmp_path / "first.png"), "--max-side", "40", "-o", str(tmp_path / "out"), *QUICK]
    assert main(["segment", str(clip), *options]) == 0


@pytest.mark.sampled
@pytest.mark.parametrize("rule", ["robust", "paper"])
def test_a_still_video_is_said_to_be_still(rule: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = render_clip("single", num_frames=1, height=48, width=80, seed=3).frames
    write_video(tmp_path / "still.mp4", frame.expand(4, -1, -1, -1), frame_rate=10)
    arguments = ["segment", str(tmp_path / "still.mp4"), "-o", str(tmp_path / "out"), "--rule", rule, *QUICK]
    assert main(arguments) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "nothing moves" in line]
    assert len(said) == 1
    assert said[0].startswith(f"gpuvos: {tmp_path / 'still.mp4'}: nothing moves")


def test_one_frame_is_said_to_have_no_motion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--frames", "1", "--height", "48", "--width", "80", "--front-end", "appearance"]
    assert main(["demo", "-o", str(tmp_path / "demo"), *size]) == 0
    assert "one frame alone has no motion" in capsys.readouterr().err


def test_nothing_is_said_where_something_was_found() -> None:
    frames = render_clip("single", num_frames=4, height=48, width=80, seed=1).frames
    segmenter = gpuvos.VideoSegmenter(AppearanceFeatures())
    findings = Findings(segmenter.config)
    findings.add(segmenter(frames))
    assert findings.sentence("clip") == ""


def test_stages_add_up_by_what_they_cost(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("gpuvos.cli.progress._PAUSE", 0)
    with Stages({"decode": 1, "network": 3}, 4, name="clip.mp4", lines=True) as stages:
        stages("decode", 4, 4)
        assert stages.share == 0.25
        stages.from_frame(2)("network", 1, 2)  # the third of four frames
        assert stages.share == pytest.approx(0.25 + 0.75 * 3 / 4)
        stages("network", 4, 4)
        assert stages.share == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in said] == [
        "clip.mp4: decode 4/4",
        "clip.mp4: network 3/4",
        "clip.mp4: network 4/4",
    ]
    assert all(line.endswith(" left") for line in said)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["whole", "stream", "pieces"])
def test_every_mode_says_how_far_it_is(
    mode: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gpuvos.cli.progress._PAUSE", 0)
    options = ["--mode", mode, "--history", "4", "--latency", "2", "--clip-length", "4"]
    assert main(["segment", str(clip), "-o", str(tmp_path / mode), *options, *QUICK]) == 0
    said = capsys.readouterr().err
    stages = ("frames",) if mode == "stream" else ("network", "flow", "method")
    for stage in (*stages, "masks", "overlay", "page"):
        assert f"moving.mp4: {stage} " in said
    assert f"moving.mp4: {stages[0]} 6/6" in said


def test_warnings_of_the_command_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warned(_: list[str]) -> int:
        for level in (1, 2):  # from two places
            warnings.warn("something to know", UserWarning, stacklevel=level)
        return 0

    monkeypatch.setattr(command, "_run", warned)
    monkeypatch.setattr(sys, "argv", ["gpuvos"])
    assert main() == 0
    assert capsys.readouterr().err == "gpuvos: something to know\n"


@pytest.mark.slow
def test_the_stream_is_chosen_by_its_number(tmp_path: Path) -> None:
    write_video(tmp_path / "one.mkv", render_clip("single", num_frames=3, height=48, width=80).frames)
    out = ["-o", str(tmp_path / "out"), *QUICK]
    assert main(["segment", str(tmp_path / "one.mkv"), "--video-stream", "1", *out]) == 2
    assert main(["segment", str(tmp_path / "one.mkv"), "--video-stream", "0", *out]) == 0
