"""Files as cameras, recorders and editors write them: every frame once, at its time, whatever else is in the file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from gpuvos.data.video import iterate_video, probe_video, read_video
from gpuvos.errors import InputError

# A warning that a test does not expect is a defect.
pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def brightness(frames: torch.Tensor) -> list[float]:
    return frames.float().mean((1, 2, 3)).tolist()


def levels(count: int) -> list[np.ndarray]:
    """Frames whose brightness is 20 plus 3 times their number, with a texture."""
    texture = np.random.default_rng(0).integers(-15, 16, (48, 64, 3))
    return [(20 + 3 * number + texture).clip(0, 255).astype(np.uint8) for number in range(count)]


def camera_jpegs(file: Path, orientation: int, count: int = 3) -> np.ndarray:
    """Motion JPEG whose frames have an EXIF header, as cameras write it; returns the picture as stored."""
    picture = np.full((48, 64, 3), 30, dtype=np.uint8)
    picture[:24, :24], picture[:, :8] = 220, 60  # no two of the eight orientations look the same
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Camera"
    with io.BytesIO() as jpeg, av.open(str(file), "w") as container:
        Image.fromarray(picture).save(jpeg, "JPEG", quality=95, exif=exif)
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(count):
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 10), True
            packet.pts = packet.dts = number
            container.mux(packet)
    return picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_frames_with_exif_are_read_upright(tmp_path: Path, orientation: int) -> None:
    """FFmpeg hands on the EXIF header as side data that PyAV 18 has no name for."""
    picture = camera_jpegs(tmp_path / "clip.avi", orientation)
    turns = {3: 2, 4: 0, 5: -1, 6: -1, 7: 1, 8: 1}  # quarters counter-clockwise
    upright = np.rot90(picture, turns.get(orientation, 0))
    if orientation in (2, 5, 7):
        upright = upright[:, ::-1]
    if orientation == 4:
        upright = upright[::-1]
    clip = read_video(tmp_path / "clip.avi")
    assert clip.frames.shape == (3, 3, *upright.shape[:2])
    error = clip.frames[0].permute(1, 2, 0).int() - torch.from_numpy(upright.copy()).int()
    assert error.abs().float().mean() < 3


def test_whatever_pyav_raises_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encode: Callable) -> None:
    encode(tmp_path / "clip.mp4", levels(4), "libx264", "yuv420p")

    def stumble(*_: object) -> None:
        raise KeyError("something that FFmpeg sends")

    for place in ("gpuvos.data.sources.display_matrix", "gpuvos.data.decoding._packet_number"):
        with monkeypatch.context() as patch:
            patch.setattr(place, stumble)
            for read in (read_video, probe_video, lambda path: list(iterate_video(path))):
                with pytest.raises(InputError, match=r"path: got '.*clip\.mp4' \(.*something that FFmpeg sends"):
                    read(tmp_path / "clip.mp4")


@pytest.mark.parametrize("without", [False, True])
def test_tags_in_any_encoding(tmp_path: Path, encode: Callable, monkeypatch: pytest.MonkeyPatch, without: bool) -> None:
    """With the argument of PyAV that replaces what is not UTF-8, and with a PyAV that lacks it and does so itself."""
    if without:
        real = av.open

        def bare(*arguments: object, **options: object) -> object:
            if "metadata_errors" in options:
                raise TypeError("open() got an unexpected keyword argument 'metadata_errors'")
            return real(*arguments, metadata_errors="replace", **options)

        monkeypatch.setattr(av, "open", bare)
    with av.open(str(tmp_path / "title.avi"), "w") as container:
        container.metadata["title"] = "XXXXXX"
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in levels(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    encode(tmp_path / "handler.mov", levels(8), "libx264", "yuv420p")
    pictures = [Image.fromarray(image).quantize(32) for image in levels(8)]
    comment = "été".encode("latin1")
    pictures[0].save(tmp_path / "comment.gif", save_all=True, append_images=pictures[1:], duration=40, comment=comment)
    for name, old, new in (
        ("title.avi", b"XXXXXX", "фильмы".encode("cp1251")),
        ("handler.mov", b"VideoHandler", "Vidéo Apple!".encode("latin1")),
    ):
        content = (tmp_path / name).read_bytes()
        assert content.count(old) == 1
        (tmp_path / name).write_bytes(content.replace(old, new))
    for name in ("title.avi", "handler.mov", "comment.gif"):
        assert len(read_video(tmp_path / name).frames) == 8
        assert probe_video(tmp_path / name)[:2] == (48, 64)


PYRAMID = {"bf": "3", "b-pyramid": "normal", "g": "60", "x264-params": "b-adapt=0"}


def test_reordered_frames_in_avi(tmp_path: Path, encode: Callable) -> None:
    """AVI says when a packet is decoded, not when its frame is shown: frame k is shown at k / 24."""
    encode(tmp_path / "clip.avi", levels(40), "libx264", "yuv420p", options=PYRAMID)
    clip = read_video(tmp_path / "clip.avi")
    assert clip.frame_rate == 24
    assert torch.allclose(clip.timestamps, torch.arange(40).double() / 24, atol=1e-12)
    shown = brightness(clip.frames)
    assert shown == sorted(shown)
    pieces = list(iterate_video(tmp_path / "clip.avi", chunk=7, start=3, step=2))
    assert torch.equal(torch.cat([piece.timestamps for piece in pieces]), clip.timestamps[3::2])


def test_a_frame_that_avi_leaves_out_leaves_its_gap(tmp_path: Path, encode: Callable) -> None:
    """An empty packet means that the frame before is shown on."""
    encode(tmp_path / "whole.avi", levels(12), "libx264", "yuv420p", options={"bf": "2", "g": "60"})
    with (
        av.open(str(tmp_path / "whole.avi")) as source,
        av.open(str(tmp_path / "gap.avi"), "w") as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                packet.dts += 3 * (packet.dts >= 6)  # Avi keeps empty chunks for the times between
                packet.pts = packet.dts
                target.mux(packet)
    steps = (read_video(tmp_path / "gap.avi").timestamps.diff() * 24).round().int().tolist()
    assert sorted(steps) == [1] * 10 + [4]


@pytest.mark.parametrize("packets", [15, 30, 46, 58])
def test_reordered_frames_of_a_cut_avi_come_once_and_in_order(tmp_path: Path, encode: Callable, packets: int) -> None:
    file = tmp_path / "clip.avi"
    encode(file, levels(60), "libx264", "yuv420p", options=PYRAMID)
    with av.open(str(file)) as container:
        cut = [packet for packet in container.demux(video=0) if packet.size][packets]
    assert cut.pos is not None
    file.write_bytes(file.read_bytes()[: cut.pos + cut.size // 2])
    with pytest.warns(UserWarning, match="truncated or damaged"):
        clip = read_video(file)
    shown = brightness(clip.frames)
    assert packets <= len(shown) <= packets + 1
    assert all(after - before > 1 for before, after in pairwise(shown))  # none twice, none before another
    assert torch.allclose(clip.timestamps, torch.arange(len(shown)).double() / 24, atol=1e-12)


def two_streams(file: Path, first: tuple[int, int], second: tuple[int, int], *, grey: bool = False) -> None:
    """Two streams of five and eight frames; the first is black, the second bright."""
    with av.open(str(file), "w") as container:
        streams = []
        for number, (height, width) in enumerate((first, second)):
            stream = container.add_stream("ffv1", rate=10)
            stream.height, stream.width = height, width
            stream.pix_fmt = "gray" if grey and number == 0 else "yuv420p"
            streams.append(stream)
        for stream, count, value in zip(streams, (5, 8), (10, 200), strict=True):
            for _ in range(count):
                image = np.full((stream.height, stream.width, 3), value, dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))


def test_the_film_is_read_and_not_its_preview(tmp_path: Path) -> None:
    file = tmp_path / "preview.mkv"
    two_streams(file, (24, 32), (48, 64))
    with pytest.warns(UserWarning, match="2 video streams: number 1 of 64 x 48 pixels is read; .*--video-stream"):
        clip = read_video(file)
    assert clip.frames.shape == (8, 3, 48, 64)
    assert read_video(file, video_stream=0).frames.shape == (5, 3, 24, 32)
    assert probe_video(file, video_stream=1)[:2] == (48, 64)
    assert len(list(iterate_video(file, video_stream=0, chunk=3))) == 2
    with pytest.raises(InputError, match=r"video_stream: got 2, but .* has 2 video streams, wanted a number from 0"):
        read_video(file, video_stream=2)
    with pytest.raises(InputError, match="video_stream: got -1"):
        read_video(file, video_stream=-1)


def test_colour_goes_before_grey_of_the_same_size(tmp_path: Path) -> None:
    two_streams(tmp_path / "depth.mkv", (48, 64), (48, 64), grey=True)
    assert len(read_video(tmp_path / "depth.mkv").frames) == 8


def test_animation_with_transparency_is_read_and_not_its_alpha_plane(tmp_path: Path) -> None:
    features = pytest.importorskip("PIL.features")
    if not features.check("avif"):
        pytest.skip("needs a Pillow that writes AVIF")
    pictures = [Image.fromarray(image).convert("RGBA") for image in levels(12)]
    for picture in pictures:
        picture.putalpha(128)
    pictures[0].save(tmp_path / "clip.avif", save_all=True, append_images=pictures[1:], duration=40)
    clip = read_video(tmp_path / "clip.avif")
    assert clip.frames.shape == (12, 3, 48, 64)
    assert clip.frame_rate == 25
    shown = brightness(clip.frames)
    assert shown == sorted(shown)
    assert shown[-1] > shown[0] + 25


@pytest.mark.parametrize("name", ["clip.webp", "clip.png", "clip.tif"])
def test_pictures_of_one_file_are_frames(tmp_path: Path, name: str) -> None:
    pictures = [Image.fromarray(image) for image in levels(6)]
    lasts = [40, 80, 40, 120, 40, 40]
    options = {} if name == "clip.tif" else {"duration": lasts}
    lossless = {"lossless": True} if name == "clip.webp" else {}
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], **options, **lossless)
    clip = read_video(tmp_path / name)
    assert torch.equal(clip.frames, torch.from_numpy(np.stack(levels(6))).permute(0, 3, 1, 2))
    assert clip.names == tuple(f"{number:05d}" for number in range(6))
    times = torch.arange(6) / 24 if name == "clip.tif" else torch.tensor([0, 40, 120, 160, 280, 320]) / 1000
    assert torch.allclose(clip.timestamps, times.double(), atol=1e-6)
    assert probe_video(tmp_path / name)[:3] == (48, 64, 6)
    part = read_video(tmp_path / name, start=1, stop=5, step=2, max_side=32)
    assert part.frames.shape == (2, 3, 24, 32)
    assert torch.equal(part.timestamps, clip.timestamps[1:5:2])
    with pytest.raises(InputError, match=r"start: got 6, but .* has 6 frames"):
        read_video(tmp_path / name, start=6)


def test_the_still_of_an_animated_png_is_none_of_its_frames(tmp_path: Path) -> None:
    pictures = [Image.fromarray(image) for image in levels(4)]
    pictures[0].save(tmp_path / "clip.png", save_all=True, append_images=pictures[1:], duration=50, default_image=True)
    clip = read_video(tmp_path / "clip.png")
    assert torch.equal(clip.frames, torch.from_numpy(np.stack(levels(4)[1:])).permute(0, 3, 1, 2))


def test_pages_of_several_sizes_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.tif", save_all=True, append_images=[Image.new("RGB", (9, 6))])
    with pytest.raises(InputError, match=r"a\.tif' with pages of 8 x 6 and 9 x 6 pixels"):
        read_video(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["tif", "ppm", "pgm"])
def test_folders_of_frames_in_other_formats(tmp_path: Path, suffix: str) -> None:
    for number, image in enumerate(levels(3)):
        Image.fromarray(image).convert("L" if suffix == "pgm" else "RGB").save(tmp_path / f"f{number}.{suffix}")
    clip = read_video(tmp_path)
    assert clip.frames.shape == (3, 3, 48, 64)
    assert clip.names == ("f0", "f1", "f2")


def test_progress_of_reading(tmp_path: Path, encode: Callable) -> None:
    encode(tmp_path / "clip.mp4", levels(6), "libx264", "yuv420p")
    said: list[tuple[str, int, int]] = []
    read_video(tmp_path / "clip.mp4", step=2, progress=lambda *news: said.append(news))
    assert said == [("decode", 1, 3), ("decode", 2, 3), ("decode", 3, 3)]


def test_rate_of_a_format_that_counts_fine_ticks(tmp_path: Path) -> None:
    """FFmpeg gives the ticks of a digital video tape as its mean rate."""
    with av.open(str(tmp_path / "tape.dv"), "w", format="dv") as container:
        stream = container.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for image in levels(3):
            frame = np.resize(image, (576, 720, 3))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        clip = read_video(tmp_path / "tape.dv")
    assert clip.frame_rate == 25
