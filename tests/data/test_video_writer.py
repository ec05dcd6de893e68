"""Writing of videos: what comes back, and what is left when it fails."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from gpuvos.data.video import VideoWriter, read_video, write_video
from gpuvos.errors import InputError

# A warning that a test does not expect is a defect.
pytestmark = pytest.mark.filterwarnings("error::UserWarning")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".MP4"])
def test_round_trip(tmp_path: Path, suffix: str, moving_square: Callable, psnr: Callable) -> None:
    frames = moving_square(10)
    file = tmp_path / f"clip{suffix}"
    write_video(file, frames, frame_rate=25)
    clip = read_video(file)
    assert clip.frames.dtype == torch.uint8
    assert clip.frames.shape == frames.shape
    assert clip.frames.is_contiguous()
    assert psnr(clip.frames, frames) > 34
    assert abs(clip.frames.double().mean() - frames.double().mean()) < 2  # the colours are not shifted
    tolerance = 6e-4 if suffix == ".mkv" else 1e-6  # Matroska counts in milliseconds
    assert clip.timestamps.dtype == torch.float64
    assert torch.allclose(clip.timestamps, torch.arange(10).double() / 25, rtol=0, atol=tolerance)
    assert clip.frame_rate == 25
    assert clip.names == tuple(f"{number:05d}" for number in range(10))
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]


def test_colours_survive(tmp_path: Path) -> None:
    colours = [
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [255, 255, 255],
        [0, 0, 0],
        [255, 200, 20],
        [128, 128, 128],
    ]
    frames = torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 32, 32)
    write_video(tmp_path / "clip.mp4", frames, crf=1)
    difference = read_video(tmp_path / "clip.mp4").frames.int() - frames.int()
    assert difference.abs().max() <= 4
    with av.open(str(tmp_path / "clip.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range, frame.format.name) == (1, 1, "yuv420p")


def test_quality_follows_crf(tmp_path: Path, moving_square: Callable, psnr: Callable) -> None:
    frames = moving_square(4)
    write_video(tmp_path / "good.mp4", frames, crf=1)
    write_video(tmp_path / "poor.mp4", frames, crf=45)
    good, poor = (read_video(tmp_path / name).frames for name in ("good.mp4", "poor.mp4"))
    assert psnr(good, frames) > psnr(poor, frames) + 5


@pytest.mark.parametrize(("height", "width"), [(47, 63), (1, 1), (48, 1), (3, 200)])
def test_odd_sizes_repeat_the_last_row_and_column(tmp_path: Path, height: int, width: int) -> None:
    frames = torch.full((3, 3, height, width), 40, dtype=torch.uint8)
    frames[:, :, -1], frames[:, :, :, -1] = 200, 200
    write_video(tmp_path / "clip.mp4", frames, crf=1)
    read = read_video(tmp_path / "clip.mp4").frames
    padded = torch.nn.functional.pad(frames.float(), (0, width % 2, 0, height % 2), mode="replicate")
    assert read.shape == padded.shape
    assert (read.float() - padded).abs().max() < 12


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (1, 1)])
def test_gif(tmp_path: Path, height: int, width: int, moving_square: Callable, psnr: Callable) -> None:
    frames = moving_square(6, height, width)
    write_video(tmp_path / "clip.gif", frames, frame_rate=10)
    clip = read_video(tmp_path / "clip.gif")
    assert clip.frames.shape == frames.shape
    assert psnr(clip.frames, frames) > 30
    assert torch.allclose(clip.timestamps, torch.arange(6).double() / 10)
    assert clip.frame_rate == pytest.approx(10)


def test_floating_point_frames_are_rounded(tmp_path: Path, moving_square: Callable) -> None:
    frames = moving_square(2)
    for number, dtype in enumerate((torch.float32, torch.float64, torch.float16)):
        write_video(tmp_path / f"{number}.gif", frames.to(dtype) / 255)
    write_video(tmp_path / "bytes.gif", frames)
    expected = read_video(tmp_path / "bytes.gif").frames
    for number in range(3):
        assert torch.equal(read_video(tmp_path / f"{number}.gif").frames, expected)


def test_one_frame(tmp_path: Path, moving_square: Callable) -> None:
    for name in ("clip.mp4", "clip.gif", "clip.mkv"):
        write_video(tmp_path / name, moving_square(1))
        clip = read_video(tmp_path / name)
        assert clip.frames.shape == (1, 3, 48, 64)
        assert clip.timestamps.tolist() == [0.0]
        assert math.isfinite(clip.frame_rate)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_streaming_writer_writes_the_same_video(
    tmp_path: Path, suffix: str, moving_square: Callable, psnr: Callable
) -> None:
    frames = moving_square(20)
    write_video(tmp_path / f"whole{suffix}", frames)
    with VideoWriter(tmp_path / f"parts{suffix}") as writer:
        for start in range(0, 20, 7):
            writer.write(frames[start : start + 7])
            writer.write(frames[:0])
            assert not (tmp_path / f"parts{suffix}").exists()
    whole, parts = (read_video(tmp_path / f"{name}{suffix}") for name in ("whole", "parts"))
    # x264 itself does not always encode the same frames to the same bits.
    assert psnr(parts.frames, whole.frames) > (36 if suffix == ".mp4" else 200)
    assert torch.equal(whole.timestamps, parts.timestamps)


@pytest.mark.sampled
@pytest.mark.parametrize(("suffix", "resolution"), [(".mp4", 1e-5), (".mkv", 6e-4), (".gif", 6e-3)])
def test_variable_timestamps(tmp_path: Path, suffix: str, resolution: float, moving_square: Callable) -> None:
    times = torch.tensor([5.0, 5.04, 5.1, 5.5, 5.55, 6.2], dtype=torch.float64)
    file = tmp_path / f"clip{suffix}"
    write_video(file, moving_square(6), timestamps=times)
    clip = read_video(file)
    assert torch.allclose(clip.timestamps, times - 5, rtol=0, atol=resolution)
    assert 5 / 1.2 - 0.01 < clip.frame_rate < 6 / 1.2 + 0.01  # with or without the time that the last frame stands
    with VideoWriter(tmp_path / f"parts{suffix}") as writer:
        writer.write(moving_square(6)[:2], timestamps=[5.0, 5.04])
        writer.write(moving_square(6)[2:], timestamps=times[2:])
    assert torch.equal(read_video(tmp_path / f"parts{suffix}").timestamps, clip.timestamps)


def test_file_of_variable_timestamps_is_as_long_as_they_say(tmp_path: Path, moving_square: Callable) -> None:
    write_video(tmp_path / "clip.mp4", moving_square(6), timestamps=[5.0, 5.04, 5.1, 5.5, 5.55, 6.2])
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.duration is not None
        assert 1.2 < stream.duration * stream.time_base < 1.3
        assert [frame.pts for frame in container.decode(stream)] == [0, 3600, 9000, 45000, 49500, 108000]


def test_index_comes_first(tmp_path: Path, moving_square: Callable) -> None:
    """So that a browser can show the file while it loads."""
    write_video(tmp_path / "clip.mp4", moving_square(2))
    content = (tmp_path / "clip.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_fractional_rate(tmp_path: Path, moving_square: Callable) -> None:
    write_video(tmp_path / "clip.mp4", moving_square(6), frame_rate=30000 / 1001)
    clip = read_video(tmp_path / "clip.mp4")
    assert clip.frame_rate == pytest.approx(30000 / 1001, rel=1e-6)
    assert clip.timestamps[5].item() == pytest.approx(5 * 1001 / 30000, abs=1e-4)


def test_failure_closes_the_file(tmp_path: Path, moving_square: Callable, open_files: Callable) -> None:
    writer = VideoWriter(tmp_path / "clip.gif")

    def write_and_fail() -> None:
        with writer:
            writer.write(moving_square(3))
            assert any(".partial-" in name for name in open_files())
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write_and_fail()
    assert not any(".partial-" in name for name in open_files())


@pytest.mark.sampled
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize("failure", [RuntimeError("half-way"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("written", [0, 80])  # H.264 keeps about 50 frames before it writes the first
def test_failure_leaves_nothing(
    tmp_path: Path, suffix: str, failure: BaseException, written: int, moving_square: Callable
) -> None:
    (tmp_path / f"old{suffix}").write_text("old")

    def write_and_fail(name: str) -> None:
        with VideoWriter(tmp_path / name / f"clip{suffix}" if name == "new" else tmp_path / f"old{suffix}") as writer:
            writer.write(moving_square(80, 16, 16)[:written])
            raise failure

    for name in ("new", "old"):
        with pytest.raises(type(failure)):
            write_and_fail(name)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"old{suffix}"]
    assert (tmp_path / f"old{suffix}").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "frames", "options", "message"),
    [
        ("clip.xyz", None, {}, r"path: got '.*clip\.xyz', wanted a file name ending in \.mp4"),
        ("clip", None, {}, "wanted a file name ending in"),
        ("clip.mp4", None, {"frame_rate": 0}, "frame_rate: got 0"),
        ("clip.mp4", None, {"frame_rate": math.nan}, "frame_rate: got nan"),
        ("clip.mp4", None, {"frame_rate": -24}, "frame_rate: got -24"),
        ("clip.mp4", None, {"frame_rate": "24"}, "frame_rate: got '24'"),
        ("clip.gif", None, {"frame_rate": 60}, "frame_rate: got 60.*to 50.*mp4"),
        ("clip.mp4", None, {"crf": 52}, "crf: got 52"),
        ("clip.mp4", torch.zeros(0, 3, 8, 8), {}, "frames: got no frame"),
        ("clip.mp4", torch.zeros(2, 1, 8, 8), {}, r"frames: got shape \(2, 1, 8, 8\)"),
        ("clip.mp4", torch.zeros(3, 8, 8), {}, "frames: got shape"),
        ("clip.mp4", torch.zeros(2, 3, 0, 8), {}, "frames: got size"),
        ("clip.mp4", torch.zeros(2, 3, 8, 8, dtype=torch.int64), {}, "frames: got torch.int64"),
        ("clip.mp4", torch.full((2, 3, 8, 8), 200.0), {}, "frames: got values from 200 to 200"),
        ("clip.mp4", torch.full((2, 3, 8, 8), torch.nan), {}, "frames: got NaN"),
        ("clip.mp4", None, {"timestamps": [0.0]}, "timestamps: got 1 values, wanted 2"),
        ("clip.mp4", None, {"timestamps": [0.0, 0.0]}, "timestamps: got 0.0 s.*growing"),
        ("clip.mp4", None, {"timestamps": [0.0, math.inf]}, "timestamps: got .*finite"),
        ("clip.gif", None, {"timestamps": [0.0, 0.01]}, "timestamps: got 0.01 s.*0.02 s"),
        ("file/clip.mp4", None, {}, "path: got .*cannot be written"),
    ],
)
def test_bad_writing(
    tmp_path: Path, name: str, frames: Tensor | None, options: dict, message: str, moving_square: Callable
) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(InputError, match=message):
        write_video(tmp_path / name, moving_square(2) if frames is None else frames, **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_bad_sequences_of_writes(tmp_path: Path, moving_square: Callable) -> None:
    frames = moving_square(2)

    def write(*calls: tuple[Tensor, list[float] | None]) -> None:
        with VideoWriter(tmp_path / "clip.mp4") as writer:
            for part, timestamps in calls:
                writer.write(part, timestamps=timestamps)

    with pytest.raises(InputError, match=r"frames: got size .*the size of the frames before"):
        write((frames, None), (frames[..., :32], None))
    with pytest.raises(InputError, match="timestamps: got some calls with and some without"):
        write((frames, None), (frames, [1.0, 2.0]))
    with pytest.raises(InputError, match=r"timestamps: got 0\.5 s"):
        write((frames, [0.0, 1.0]), (frames, [0.5, 2.0]))
    with pytest.raises(InputError, match="outside of its block"):
        VideoWriter(tmp_path / "clip.mp4").write(frames)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_file_does_not_depend_on_what_was_in_memory_before(tmp_path: Path) -> None:
    script = """
        import sys
        from gpuvos.data import render_clip, write_video
        from gpuvos.viz.maps import overlay
        clip = render_clip("single", num_frames=12, height=48, width=64)
        write_video(sys.argv[1], overlay(clip.frames, clip.mask))
    """
    for filling in ("0", "165"):  # what the allocator of glibc fills memory with
        command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / f"{filling}.mp4")]
        subprocess.run(command, check=True, env={**os.environ, "MALLOC_PERTURB_": filling})
    assert (tmp_path / "0.mp4").read_bytes() == (tmp_path / "165.mp4").read_bytes()
