"""Reading of videos: which frames, at which times, in which colours and which way up."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gpuvos.data.video import Clip, iterate_video, probe_video, read_video, write_video
from gpuvos.errors import InputError

# A warning that a test does not expect is a defect.
pytestmark = pytest.mark.filterwarnings("error::UserWarning")


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 30 frames whose brightness is 8 times the number of the frame."""
    file = tmp_path_factory.mktemp("numbered") / "clip.mp4"
    grey = (torch.arange(30) * 8).to(torch.uint8)[:, None, None, None]
    write_video(file, grey.expand(-1, 3, 32, 48), frame_rate=30, crf=1)
    return file


def numbers(clip: Clip) -> list[int]:
    return (clip.frames.float().mean((1, 2, 3)) / 8).round().int().tolist()


@pytest.mark.sampled
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


def test_iterator_closes_its_file(numbered: Path, open_files: Callable) -> None:
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
def test_downsizing(
    tmp_path: Path, max_side: int, size: tuple[int, int], moving_square: Callable, psnr: Callable
) -> None:
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


@pytest.mark.slow
def test_probe(tmp_path: Path, numbered: Path, moving_square: Callable) -> None:
    assert probe_video(numbered) == (32, 48, 30, 30.0)
    assert probe_video(numbered)._fields == ("height", "width", "num_frames", "frame_rate")
    for name in ("clip.mkv", "clip.gif"):
        write_video(tmp_path / name, moving_square(25), frame_rate=25)
        info = probe_video(tmp_path / name)
        assert (info.height, info.width) == (48, 64)
        assert info.num_frames == pytest.approx(25, abs=2)
        assert info.frame_rate == pytest.approx(25, rel=0.05)


def test_transport_stream_starts_at_zero(tmp_path: Path, encode: Callable, pictures: Callable) -> None:
    encode(tmp_path / "clip.ts", pictures(8), "libx264", "yuv420p")
    with av.open(str(tmp_path / "clip.ts")) as container:
        assert next(container.decode(video=0)).time > 0
    assert torch.allclose(read_video(tmp_path / "clip.ts").timestamps, torch.arange(8).double() / 24, atol=1e-4)


def stored_matrix(file: Path, matrix: list[int]) -> None:
    """Puts a display matrix (a b u c d v x y w) into the track header of an mp4."""
    content = bytearray(file.read_bytes())
    place = content.index(struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000), content.index(b"tkhd"))
    ones = [0x10000 * value for value in matrix]
    content[place : place + 36] = struct.pack(">9i", ones[0], ones[1], 0, ones[2], ones[3], 0, 0, 0, 0x40000000)
    file.write_bytes(content)


@pytest.mark.sampled
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
def test_rotation(tmp_path: Path, matrix: list[int], upright: Callable[[Tensor], Tensor], psnr: Callable) -> None:
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


def test_rotation_agrees_with_pyav(tmp_path: Path, moving_square: Callable) -> None:
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
def test_pixel_formats(
    tmp_path: Path,
    name: str,
    codec: str,
    stored: str,
    lowest: float,
    psnr: Callable,
    encode: Callable,
    pictures: Callable,
) -> None:
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


def test_sixteen_bits_keep_the_high_byte(tmp_path: Path, encode: Callable) -> None:
    values = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    encode(tmp_path / "deep.mkv", [values], "ffv1", "gray16le", given="gray16le")
    read = read_video(tmp_path / "deep.mkv").frames[0]
    assert (read.int() - torch.from_numpy(values.astype(np.int32) >> 8)).abs().max() <= 1


def test_alpha_is_composited_over_black(tmp_path: Path, encode: Callable) -> None:
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


def test_pixels_that_are_not_square_are_left_alone(tmp_path: Path, encode: Callable, pictures: Callable) -> None:
    encode(tmp_path / "clip.mp4", pictures(2), "libx264", "yuv420p", aspect=Fraction(4, 3))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    assert read_video(tmp_path / "clip.mp4").frames.shape == (2, 3, 48, 64)


def test_size_that_changes_is_brought_to_that_of_the_first_frame(
    tmp_path: Path, encode: Callable, pictures: Callable
) -> None:
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


@pytest.mark.data
def test_davis_sequence(development_data: Path, tmp_path: Path, psnr: Callable) -> None:
    folder = next((development_data / "davis2016").rglob("JPEGImages/480p/bear"))
    clip = read_video(folder, stop=4, max_side=427)
    assert clip.frames.shape == (4, 3, 240, 427)
    assert clip.names == ("00000", "00001", "00002", "00003")
    write_video(tmp_path / "bear.mp4", clip.frames)
    assert psnr(read_video(tmp_path / "bear.mp4").frames[..., :427], clip.frames) > 30
