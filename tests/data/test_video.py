"""Videos and images as they come: what is read, what is written, and what is said about broken files."""

from __future__ import annotations

import math
import socket
import struct
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gpuvos.data.images import fit, natural_key
from gpuvos.data.video import Clip, VideoWriter, iterate_video, probe_video, read_video, write_video
from gpuvos.errors import InputError


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    """A warning that a test does not expect is a defect."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def moving_square(count: int, height: int = 48, width: int = 64) -> Tensor:
    """Smooth colours with a bright square that moves: uint8 [T, 3, H, W]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frames = []
    for t in range(count):
        frame = torch.stack([60 + x, 40 + 2 * y, 90 + (x + y) // 2 + t])
        left = t % max(width // 2, 1)
        frame[:, height // 4 : height // 2, left : left + width // 4] = 210
        frames.append(frame)
    return torch.stack(frames).clamp(0, 255).to(torch.uint8)


def psnr(first: Tensor, second: Tensor) -> float:
    error = (first.double() - second.double()).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def encode(
    file: Path,
    images: list[np.ndarray],
    codec: str,
    stored: str,
    *,
    given: str = "rgb24",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
) -> None:
    """Writes a file through PyAV alone, in formats that the library itself does not write."""
    with av.open(str(file), "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=24, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], stored
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format=given)))
        container.mux(stream.encode(None))


def pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    return [frame.permute(1, 2, 0).contiguous().numpy() for frame in moving_square(count, height, width)]


# Round trips


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".MP4"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
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


def test_quality_follows_crf(tmp_path: Path) -> None:
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
def test_gif(tmp_path: Path, height: int, width: int) -> None:
    frames = moving_square(6, height, width)
    write_video(tmp_path / "clip.gif", frames, frame_rate=10)
    clip = read_video(tmp_path / "clip.gif")
    assert clip.frames.shape == frames.shape
    assert psnr(clip.frames, frames) > 30
    assert torch.allclose(clip.timestamps, torch.arange(6).double() / 10)
    assert clip.frame_rate == pytest.approx(10)


def test_floating_point_frames_are_rounded(tmp_path: Path) -> None:
    frames = moving_square(2)
    for number, dtype in enumerate((torch.float32, torch.float64, torch.float16)):
        write_video(tmp_path / f"{number}.gif", frames.to(dtype) / 255)
    write_video(tmp_path / "bytes.gif", frames)
    expected = read_video(tmp_path / "bytes.gif").frames
    for number in range(3):
        assert torch.equal(read_video(tmp_path / f"{number}.gif").frames, expected)


def test_one_frame(tmp_path: Path) -> None:
    for name in ("clip.mp4", "clip.gif", "clip.mkv"):
        write_video(tmp_path / name, moving_square(1))
        clip = read_video(tmp_path / name)
        assert clip.frames.shape == (1, 3, 48, 64)
        assert clip.timestamps.tolist() == [0.0]
        assert math.isfinite(clip.frame_rate)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_streaming_writer_writes_the_same_video(tmp_path: Path, suffix: str) -> None:
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


# Time


@pytest.mark.parametrize(("suffix", "resolution"), [(".mp4", 1e-5), (".mkv", 6e-4), (".gif", 6e-3)])
def test_variable_timestamps(tmp_path: Path, suffix: str, resolution: float) -> None:
    times = torch.tensor([5.0, 5.04, 5.1, 5.5, 5.55, 6.2], dtype=torch.float64)
    file = tmp_path / f"clip{suffix}"
    write_video(file, moving_square(6), timestamps=times)
    clip = read_video(file)
    assert torch.allclose(clip.timestamps, times - 5, rtol=0, atol=resolution)
    assert (
        5 / 1.2 - 0.01 < clip.frame_rate < 6 / 1.2 + 0.01
    )  # with or without the time that the last frame stands
    with VideoWriter(tmp_path / f"parts{suffix}") as writer:
        writer.write(moving_square(6)[:2], timestamps=[5.0, 5.04])
        writer.write(moving_square(6)[2:], timestamps=times[2:])
    assert torch.equal(read_video(tmp_path / f"parts{suffix}").timestamps, clip.timestamps)


def test_file_of_variable_timestamps_is_as_long_as_they_say(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", moving_square(6), timestamps=[5.0, 5.04, 5.1, 5.5, 5.55, 6.2])
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.duration is not None
        assert 1.2 < stream.duration * stream.time_base < 1.3
        assert [frame.pts for frame in container.decode(stream)] == [0, 3600, 9000, 45000, 49500, 108000]


def test_index_comes_first(tmp_path: Path) -> None:
    """So that a browser can show the file while it loads."""
    write_video(tmp_path / "clip.mp4", moving_square(2))
    content = (tmp_path / "clip.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_fractional_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", moving_square(6), frame_rate=30000 / 1001)
    clip = read_video(tmp_path / "clip.mp4")
    assert clip.frame_rate == pytest.approx(30000 / 1001, rel=1e-6)
    assert clip.timestamps[5].item() == pytest.approx(5 * 1001 / 30000, abs=1e-4)


def test_transport_stream_starts_at_zero(tmp_path: Path) -> None:
    encode(tmp_path / "clip.ts", pictures(8), "libx264", "yuv420p")
    with av.open(str(tmp_path / "clip.ts")) as container:
        assert next(container.decode(video=0)).time > 0
    assert torch.allclose(
        read_video(tmp_path / "clip.ts").timestamps, torch.arange(8).double() / 24, atol=1e-4
    )


# Selection


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 30 frames whose brightness is 8 times the number of the frame."""
    file = tmp_path_factory.mktemp("numbered") / "clip.mp4"
    grey = (torch.arange(30) * 8).to(torch.uint8)[:, None, None, None]
    write_video(file, grey.expand(-1, 3, 32, 48), frame_rate=30, crf=1)
    return file


def numbers(clip: Clip) -> list[int]:
    return (clip.frames.float().mean((1, 2, 3)) / 8).round().int().tolist()


@pytest.mark.parametrize(
    ("start", "stop", "step"), [(0, None, 1), (3, 9, 1), (29, None, 1), (0, 100, 7), (5, 21, 5), (4, 5, 99)]
)
def test_selection(numbered: Path, start: int, stop: int | None, step: int) -> None:
    expected = list(range(30))[start:stop:step]
    clip = read_video(numbered, start=start, stop=stop, step=step)
    assert numbers(clip) == expected
    assert clip.names == tuple(f"{number:05d}" for number in expected)
    assert torch.allclose(clip.timestamps, torch.tensor(expected).double() / 30)
    assert clip.frame_rate == pytest.approx(30 / step)
    pieces = list(iterate_video(numbered, chunk=4, start=start, stop=stop, step=step))
    assert [len(piece.names) for piece in pieces[:-1]] == [4] * (len(pieces) - 1)
    assert 1 <= len(pieces[-1].names) <= 4
    assert torch.equal(torch.cat([piece.frames for piece in pieces]), clip.frames)
    assert torch.equal(torch.cat([piece.timestamps for piece in pieces]), clip.timestamps)
    assert sum((piece.names for piece in pieces), ()) == clip.names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 30}, "start: got 30, but '.*' has 30 frames"),
        ({"start": -1}, "start: got -1"),
        ({"start": 5, "stop": 5}, "stop: got 5, which selects no frame"),
        ({"stop": 0}, "stop: got 0"),
        ({"step": 0}, "step: got 0"),
        ({"step": 1.5}, "step: got 1.5"),
        ({"max_side": 0}, "max_side: got 0"),
        ({"start": True}, "start: got True"),
    ],
)
def test_bad_selection(numbered: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_video(numbered, **options)
    with pytest.raises(InputError, match=message):
        list(iterate_video(numbered, **options))


def test_bad_arguments_of_the_iterator_are_found_at_once(numbered: Path) -> None:
    with pytest.raises(InputError, match="chunk: got 0"):
        iterate_video(numbered, chunk=0)
    with pytest.raises(InputError, match="does not exist"):
        iterate_video(numbered.with_name("absent.mp4"))


def open_files() -> set[str]:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("needs /proc to see open files")
    return {str(entry.readlink()) for entry in folder.iterdir() if entry.is_symlink()}


def test_iterator_closes_its_file(numbered: Path) -> None:
    pieces = iterate_video(numbered, chunk=2)
    next(pieces)
    assert str(numbered) in open_files()
    pieces.close()
    assert str(numbered) not in open_files()
    for _ in iterate_video(numbered, chunk=2):
        break
    read_video(numbered, stop=3)
    probe_video(numbered)
    assert str(numbered) not in open_files()


@pytest.mark.parametrize(("max_side", "size"), [(32, (24, 32)), (1000, (48, 64)), (1, (1, 1))])
def test_downsizing(tmp_path: Path, max_side: int, size: tuple[int, int]) -> None:
    frames = moving_square(2)
    write_video(tmp_path / "clip.mp4", frames, crf=1)
    Image.fromarray(frames[0].permute(1, 2, 0).numpy()).save(tmp_path / "image.png")
    small = read_video(tmp_path / "clip.mp4", max_side=max_side).frames
    image = read_video(tmp_path / "image.png", max_side=max_side).frames
    assert small.shape[-2:] == image.shape[-2:] == size
    averaged = torch.nn.functional.adaptive_avg_pool2d(frames.float(), size)
    assert psnr(small, averaged) > 28
    assert psnr(image, averaged[:1]) > 28


def test_downsizing_averages(tmp_path: Path) -> None:
    """Columns of black and white become grey; picking one of two would leave them black or white."""
    columns = torch.zeros(2, 3, 64, 128, dtype=torch.uint8)
    columns[..., 1::2] = 255
    write_video(tmp_path / "clip.mp4", columns, crf=1)
    Image.fromarray(columns[0].permute(1, 2, 0).numpy()).save(tmp_path / "image.png")
    for name in ("clip.mp4", "image.png"):
        small = read_video(tmp_path / name, max_side=64).frames
        assert small.shape[2:] == (32, 64)
        assert (small[..., 2:-2].int() - 128).abs().max() < 12


@pytest.mark.parametrize(
    ("height", "width", "max_side", "expected"),
    [(480, 854, None, (480, 854)), (480, 854, 427, (240, 427)), (1, 999, 10, (1, 10)), (9, 5, 9, (9, 5))],
)
def test_fit(height: int, width: int, max_side: int | None, expected: tuple[int, int]) -> None:
    assert fit(height, width, max_side) == expected


def test_probe(tmp_path: Path, numbered: Path) -> None:
    assert probe_video(numbered) == (32, 48, 30, 30.0)
    assert probe_video(numbered)._fields == ("height", "width", "num_frames", "frame_rate")
    for name in ("clip.mkv", "clip.gif"):
        write_video(tmp_path / name, moving_square(25), frame_rate=25)
        info = probe_video(tmp_path / name)
        assert (info.height, info.width) == (48, 64)
        assert info.num_frames == pytest.approx(25, abs=2)
        assert info.frame_rate == pytest.approx(25, rel=0.05)


# Formats of pixels in videos


def stored_matrix(file: Path, matrix: list[int]) -> None:
    """Puts a display matrix (a b u c d v x y w) into the track header of an mp4."""
    content = bytearray(file.read_bytes())
    place = content.index(
        struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000), content.index(b"tkhd")
    )
    ones = [0x10000 * value for value in matrix]
    content[place : place + 36] = struct.pack(
        ">9i", ones[0], ones[1], 0, ones[2], ones[3], 0, 0, 0, 0x40000000
    )
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ([1, 0, 0, 1], lambda frames: frames),
        (
            [0, 1, -1, 0],
            lambda frames: frames.rot90(-1, (2, 3)),
        ),  # a telephone held upright: 90 degrees clockwise
        ([-1, 0, 0, -1], lambda frames: frames.rot90(2, (2, 3))),
        ([0, -1, 1, 0], lambda frames: frames.rot90(1, (2, 3))),
        ([-1, 0, 0, 1], lambda frames: frames.flip(3)),
        ([1, 0, 0, -1], lambda frames: frames.flip(2)),
        ([0, 1, 1, 0], lambda frames: frames.transpose(2, 3)),
        ([0, -1, -1, 0], lambda frames: frames.transpose(2, 3).flip(2, 3)),
    ],
)
def test_rotation(tmp_path: Path, matrix: list[int], upright: Callable[[Tensor], Tensor]) -> None:
    frames = torch.full((3, 3, 32, 64), 30, dtype=torch.uint8)
    frames[:, :, :16, :16] = 220  # a corner and an edge: no two of the eight orientations look the same
    frames[:, :, :8] += 30
    file = tmp_path / "clip.mp4"
    write_video(file, frames, crf=1)
    stored_matrix(file, matrix)
    expected = upright(frames)
    clip = read_video(file)
    assert clip.frames.shape == expected.shape
    assert psnr(clip.frames, expected) > 35
    assert probe_video(file)[:2] == expected.shape[2:]
    small = read_video(file, max_side=32).frames
    assert small.shape[2:] == tuple(side // 2 for side in expected.shape[2:])


def test_rotation_agrees_with_pyav(tmp_path: Path) -> None:
    """A matrix that FFmpeg itself reads as a rotation: its angle is counter-clockwise."""
    file = tmp_path / "clip.mp4"
    write_video(file, moving_square(1), crf=1)
    stored_matrix(file, [0, 1, -1, 0])
    with av.open(str(file)) as container:
        assert next(container.decode(video=0)).rotation == -90


@pytest.mark.parametrize(
    ("name", "codec", "stored", "lowest"),
    [
        ("grey.mkv", "ffv1", "gray", 200),
        ("deep.mkv", "ffv1", "yuv420p10le", 30),
        ("deep.avi", "ffv1", "gray16le", 45),
        ("rgb.avi", "ffv1", "bgr0", 200),
        ("full.avi", "mjpeg", "yuvj420p", 28),
        ("odd.mkv", "ffv1", "yuv444p", 38),
    ],
)
def test_pixel_formats(tmp_path: Path, name: str, codec: str, stored: str, lowest: float) -> None:
    images = pictures(3, 47, 63) if name == "odd.mkv" else pictures(3)
    if "gr" in stored and stored != "bgr0":
        images = [np.repeat(image.mean(2, keepdims=True).astype(np.uint8), 3, 2) for image in images]
    grey = stored.startswith("gray")
    encode(
        tmp_path / name,
        [image[..., 0] for image in images] if grey else images,
        codec,
        stored,
        given="gray" if grey else "rgb24",
    )
    clip = read_video(tmp_path / name)
    assert psnr(clip.frames, torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)) > lowest


def test_sixteen_bits_keep_the_high_byte(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    encode(tmp_path / "deep.mkv", [values], "ffv1", "gray16le", given="gray16le")
    read = read_video(tmp_path / "deep.mkv").frames[0]
    assert (read.int() - torch.from_numpy(values.astype(np.int32) >> 8)).abs().max() <= 1


def test_alpha_is_composited_over_black(tmp_path: Path) -> None:
    rgba = np.zeros((32, 48, 4), dtype=np.uint8)
    rgba[..., :3] = [200, 100, 50]
    rgba[:, 16:32, 3], rgba[:, 32:, 3] = 128, 255
    encode(tmp_path / "clip.mov", [rgba], "qtrle", "argb", given="rgba")
    columns = read_video(tmp_path / "clip.mov").frames[0, :, 5, [5, 20, 40]].T.tolist()
    assert columns[0] == [0, 0, 0]
    assert columns[1] == [100, 50, 25]
    assert columns[2] == [200, 100, 50]


def test_transparent_colour_of_a_palette(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8).repeat(8, 0).repeat(8, 1))
    image.putpalette([250, 250, 250, 255, 0, 0, 0, 0, 255])
    image.save(tmp_path / "clip.video", format="PNG", transparency=0)  # a name that leads past Pillow
    with av.open(str(tmp_path / "clip.video")) as container:
        assert next(container.decode(video=0)).format.name == "pal8"
    frame = read_video(tmp_path / "clip.video").frames[0]
    assert frame[:, ::8, ::8].permute(1, 2, 0).tolist() == [
        [[0, 0, 0], [255, 0, 0]],
        [[0, 0, 255], [255, 0, 0]],
    ]


def test_transparent_gif(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8).repeat(8, 0).repeat(8, 1))
    image.putpalette([250, 250, 250, 255, 0, 0, 0, 0, 255])
    image.save(tmp_path / "clip.gif", transparency=0)
    frame = read_video(tmp_path / "clip.gif").frames[0]
    assert frame[:, ::8, ::8].permute(1, 2, 0).tolist() == [
        [[0, 0, 0], [255, 0, 0]],
        [[0, 0, 255], [255, 0, 0]],
    ]


def test_pixels_that_are_not_square_are_left_alone(tmp_path: Path) -> None:
    encode(tmp_path / "clip.mp4", pictures(2), "libx264", "yuv420p", aspect=Fraction(4, 3))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    assert read_video(tmp_path / "clip.mp4").frames.shape == (2, 3, 48, 64)


def test_size_that_changes_is_brought_to_that_of_the_first_frame(tmp_path: Path) -> None:
    encode(tmp_path / "large.ts", pictures(4, 48, 64), "mpeg2video", "yuv420p")
    encode(tmp_path / "small.ts", pictures(4, 32, 48), "mpeg2video", "yuv420p")
    joined = (tmp_path / "large.ts").read_bytes() + (tmp_path / "small.ts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(joined)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        clip = read_video(tmp_path / "joined.ts")
    assert clip.frames.shape[1:] == (3, 48, 64)
    assert len(clip.frames) >= 7
    assert (clip.timestamps.diff() > 0).all()


# Broken files


def truncated(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize(
    ("name", "codec", "share"),
    [
        ("clip.mp4", "libx264", 0.7),
        ("clip.mkv", "libx264", 0.6),
        ("clip.webm", "libvpx-vp9", 0.6),
        ("clip.avi", "mjpeg", 0.7),
    ],
)
def test_truncated_video(tmp_path: Path, name: str, codec: str, share: float) -> None:
    images = pictures(48)
    options = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx-vp9" else {"g": "12"}
    file = tmp_path / name
    index_first = {"movflags": "faststart"} if name.endswith("mp4") else {}
    stored = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    encode(file, images, codec, stored, options=options, container_options=index_first)
    whole = read_video(file)
    assert len(whole.frames) == 48
    truncated(file, share)
    with pytest.warns(
        UserWarning, match=r"truncated or damaged: \d+ frames of about 48 could be read"
    ) as caught:
        clip = read_video(file)
    assert len(caught) == 1
    count = len(clip.frames)
    assert 5 < count < 48
    assert f" {count} frames" in str(caught[0].message)
    assert torch.equal(clip.frames[:-1], whole.frames[: count - 1])
    assert torch.allclose(clip.timestamps, whole.timestamps[:count])
    assert (
        len(read_video(file, stop=count - 2).frames) == count - 2
    )  # no warning: the part asked for is there


def test_truncation_loses_only_what_is_missing(tmp_path: Path) -> None:
    """Every frame whose packet is whole comes back, as many threads as there may be."""
    file = tmp_path / "clip.mp4"
    options = {"g": "12", "bf": "3"}
    encode(
        file, pictures(48), "libx264", "yuv420p", options=options, container_options={"movflags": "faststart"}
    )
    with av.open(str(file)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    cut = packets[30]
    assert cut.pos is not None
    file.write_bytes(file.read_bytes()[: cut.pos + cut.size // 2])
    with av.open(str(file)) as container:  # frames in parallel: those on their way at the break are lost
        container.streams.video[0].thread_type = "AUTO"
        container.streams.video[0].thread_count = 4
        parallel = sum(len(packet.decode()) for packet in container.demux(video=0))
    assert parallel < 30
    with pytest.warns(UserWarning, match="30 frames of about 48"):
        assert len(read_video(file).frames) == 30


def test_avi_cut_between_frames(tmp_path: Path) -> None:
    """Nothing is broken here: only the header says that there was more."""
    file = tmp_path / "clip.avi"
    encode(file, pictures(20), "mjpeg", "yuvj420p")
    with av.open(str(file)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert packets[17].pos is not None
    file.write_bytes(file.read_bytes()[: packets[17].pos])
    with pytest.warns(UserWarning, match="17 frames of about 20"):
        assert len(read_video(file).frames) == 17


def test_truncated_transport_stream(tmp_path: Path) -> None:
    encode(tmp_path / "clip.ts", pictures(48), "libx264", "yuv420p", options={"g": "12"})
    truncated(tmp_path / "clip.ts", 0.6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert 5 < len(read_video(tmp_path / "clip.ts").frames) < 48


def test_damage_in_the_middle(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    encode(file, pictures(48), "libx264", "yuv420p", options={"g": "8", "bf": "0"})
    content = bytearray(file.read_bytes())
    with av.open(str(file)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][20]
    assert packet.pos is not None
    content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="truncated or damaged"):
        clip = read_video(file)
    assert len(clip.frames) >= 46
    assert (clip.timestamps.diff() > 0).all()


def test_frames_that_decode_with_errors_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    encode(file, pictures(24, 96, 128), "mpeg4", "yuv420p", options={"g": "8"})
    with av.open(str(file)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][8]
    assert packet.pos is not None
    content, half = bytearray(file.read_bytes()), packet.size // 2
    content[packet.pos + half : packet.pos + packet.size] = bytes(packet.size - half)
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="24 frames with errors"):
        assert len(read_video(file).frames) == 24


def test_nothing_decodes(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    encode(file, pictures(8), "libx264", "yuv420p", container_options={"movflags": "faststart"})
    with av.open(str(file)) as container:
        first = next(packet for packet in container.demux(video=0) if packet.size).pos
    file.write_bytes(file.read_bytes()[:first])
    for read in (read_video, probe_video, lambda path: list(iterate_video(path))):
        with pytest.raises(InputError, match="no frame can be decoded"):
            read(file)


def test_what_is_no_video(tmp_path: Path, generator: torch.Generator) -> None:
    noise = torch.randint(0, 256, (20_000,), generator=generator, dtype=torch.uint8).numpy().tobytes()
    write_video(tmp_path / "moov.mp4", moving_square(24))
    write_video(tmp_path / "clip.mp4", moving_square(2))
    contents = {
        "noise.mp4": noise,
        "empty.mp4": b"",
        "text.mp4": b"this is no video\n" * 50,
        "text.txt": b"nor is this\n" * 50,
        "noise.png": noise,
        "head.mp4": (tmp_path / "clip.mp4").read_bytes()[:30],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"path: got .*{name}"):
            read_video(tmp_path / name)
    for missing in ("absent.mp4", "absent.png", "absent"):
        with pytest.raises(InputError, match=f"{missing}', which does not exist"):
            read_video(tmp_path / missing)
    with pytest.raises(InputError, match="path: got NoneType"):
        read_video(None)  # type: ignore[arg-type]


def test_sound_without_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="without a video stream"):
        read_video(tmp_path / "sound.wav")


def test_playlist_does_not_reach_for_a_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n"
        (tmp_path / "list.m3u8").write_text(playlist)
        with pytest.raises(InputError, match=r"list\.m3u8"):
            read_video(tmp_path / "list.m3u8")
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()


# Images


def save(folder: Path, name: str, values: np.ndarray, **options: object) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(values).save(folder / name, **options)


def test_folder_in_natural_order(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    for number in (10, 9, 1, 100):
        save(folder, f"frame{number}.png", np.full((4, 6, 3), number, dtype=np.uint8))
    save(folder, ".frame2.png", np.zeros((9, 9), dtype=np.uint8))
    (folder / "notes.txt").write_text("not an image")
    (folder / "deeper").mkdir()
    clip = read_video(folder)
    assert clip.names == ("frame1", "frame9", "frame10", "frame100")
    assert clip.frames[:, 0, 0, 0].tolist() == [1, 9, 10, 100]
    assert torch.allclose(clip.timestamps, torch.arange(4).double() / 24)
    assert clip.frame_rate == 24
    assert probe_video(folder) == (4, 6, 4, 24.0)
    part = read_video(folder, start=1, step=2)
    assert part.names == ("frame9", "frame100")
    assert part.frame_rate == 12
    assert [piece.names for piece in iterate_video(folder, chunk=3)] == [clip.names[:3], clip.names[3:]]


def test_natural_key() -> None:
    names = ["a10b", "a2b", "A1b", "2", "10", "02", "b", "²"]
    assert sorted(names, key=natural_key)[:3] == ["02", "2", "10"]
    assert sorted(names, key=natural_key)[3:6] == ["A1b", "a2b", "a10b"]


@pytest.mark.parametrize("name", ["image.png", "image.bmp", "image.webp", "image.jpg", "image.JPEG"])
def test_single_image(tmp_path: Path, name: str) -> None:
    values = pictures(1)[0]
    Image.fromarray(values).save(
        tmp_path / name, **({"lossless": True} if "webp" in name else {"quality": 95})
    )
    clip = read_video(tmp_path / name)
    assert clip.names == ("image",)
    assert clip.timestamps.tolist() == [0.0]
    assert psnr(clip.frames[0], torch.from_numpy(values).permute(2, 0, 1)) > (
        30 if "j" in name.lower() else 200
    )


def test_grey_palette_alpha_and_deep_images(tmp_path: Path) -> None:
    def read(values: np.ndarray, **options: object) -> list[list[int]]:
        save(tmp_path, "image.png", values, **options)
        return read_video(tmp_path / "image.png").frames[0, :, 0].T.tolist()

    assert read(np.array([[0, 7, 255]], dtype=np.uint8)) == [[0] * 3, [7] * 3, [255] * 3]
    assert read(np.array([[False, True]])) == [[0] * 3, [255] * 3]
    # 16 bits: 65535 / 256 = 255.99, 256 / 256 = 1, 300 / 256 = 1.17, always rounded down
    assert read(np.array([[65535, 256, 300, 255]], dtype=np.uint16)) == [[255] * 3, [1] * 3, [1] * 3, [0] * 3]
    rgba = np.array([[[200, 100, 51, 255], [200, 100, 51, 128], [200, 100, 51, 0]]], dtype=np.uint8)
    # 51 * 128 / 255 = 25.6
    assert read(rgba) == [[200, 100, 51], [100, 50, 26], [0, 0, 0]]
    assert read(np.array([[[90, 255], [90, 85]]], dtype=np.uint8)) == [[90] * 3, [30] * 3]
    assert read(np.array([[9, 200]], dtype=np.uint8), transparency=200) == [[9] * 3, [0] * 3]
    palette = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    palette.putpalette([10, 20, 30, 40, 50, 60, 255, 255, 255])
    palette.save(tmp_path / "palette.png", transparency=2)
    assert read_video(tmp_path / "palette.png").frames[0, :, 0].T.tolist() == [
        [10, 20, 30],
        [40, 50, 60],
        [0, 0, 0],
    ]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda image: image),
        (2, lambda image: image[:, ::-1]),
        (3, lambda image: image[::-1, ::-1]),
        (4, lambda image: image[::-1]),
        (5, lambda image: image.swapaxes(0, 1)),
        (6, lambda image: np.rot90(image, -1)),
        (7, lambda image: image[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda image: np.rot90(image, 1)),
    ],
)
def test_orientation_of_photographs(tmp_path: Path, orientation: int, upright: Callable) -> None:
    values = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path, "image.png", values, exif=exif)
    assert np.array_equal(read_video(tmp_path / "image.png").frames[0].permute(1, 2, 0), upright(values))


def test_folders_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="without images"):
        read_video(tmp_path / "empty")
    save(tmp_path / "mixed", "a.png", np.zeros((4, 6), dtype=np.uint8))
    save(tmp_path / "mixed", "b.png", np.zeros((6, 4), dtype=np.uint8))
    with pytest.raises(InputError, match=r"'a\.png' of 6 x 4 and 'b\.png' of 4 x 6 pixels.*one size"):
        read_video(tmp_path / "mixed")
    save(tmp_path / "twice", "a.png", np.zeros((4, 6), dtype=np.uint8))
    save(tmp_path / "twice", "a.jpg", np.zeros((4, 6), dtype=np.uint8))
    with pytest.raises(InputError, match=r"'a\.jpg' and 'a\.png'.*different folders"):
        read_video(tmp_path / "twice")
    save(tmp_path / "cut", "a.jpg", pictures(1)[0])
    truncated(tmp_path / "cut" / "a.jpg", 0.6)
    with pytest.raises(InputError, match=r"a\.jpg' \(.*[Tt]runcated"):
        read_video(tmp_path / "cut")
    with pytest.raises(InputError, match=r"start: got 3, but .* has 2 frames"):
        read_video(tmp_path / "mixed", start=3)
    first, *others = [Image.fromarray(image) for image in pictures(3)]
    first.save(tmp_path / "moving.png", save_all=True, append_images=others)
    with pytest.raises(InputError, match=r"an animation of 3 frames.*convert"):
        read_video(tmp_path / "moving.png")


# Writing that fails


def test_failure_closes_the_file(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "clip.gif")

    def write_and_fail() -> None:
        with writer:
            writer.write(moving_square(3))
            assert any(".partial-" in name for name in open_files())
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write_and_fail()
    assert not any(".partial-" in name for name in open_files())


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize(
    "failure", [RuntimeError("half-way"), KeyboardInterrupt()], ids=["error", "interrupt"]
)
@pytest.mark.parametrize("written", [0, 80])  # H.264 keeps about 50 frames before it writes the first
def test_failure_leaves_nothing(tmp_path: Path, suffix: str, failure: BaseException, written: int) -> None:
    (tmp_path / f"old{suffix}").write_text("old")

    def write_and_fail(name: str) -> None:
        with VideoWriter(
            tmp_path / name / f"clip{suffix}" if name == "new" else tmp_path / f"old{suffix}"
        ) as writer:
            writer.write(moving_square(80)[:written])
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
def test_bad_writing(tmp_path: Path, name: str, frames: Tensor | None, options: dict, message: str) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(InputError, match=message):
        write_video(tmp_path / name, moving_square(2) if frames is None else frames, **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_bad_sequences_of_writes(tmp_path: Path) -> None:
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


# Real data


@pytest.mark.data
def test_davis_sequence(development_data: Path, tmp_path: Path) -> None:
    folder = next((development_data / "davis2016").rglob("JPEGImages/480p/bear"))
    clip = read_video(folder, stop=4, max_side=427)
    assert clip.frames.shape == (4, 3, 240, 427)
    assert clip.names == ("00000", "00001", "00002", "00003")
    write_video(tmp_path / "bear.mp4", clip.frames)
    assert psnr(read_video(tmp_path / "bear.mp4").frames[..., :427], clip.frames) > 30
