"""Truncated, damaged and mistaken files: what is read of them and what is said."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from gpuvos.data.video import iterate_video, probe_video, read_video, write_video
from gpuvos.errors import InputError

# A warning that a test does not expect is a defect.
pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def truncated(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "codec", "share"),
    [
        ("clip.mp4", "libx264", 0.7),
        ("clip.mkv", "libx264", 0.6),
        ("clip.webm", "libvpx-vp9", 0.6),
        ("clip.avi", "mjpeg", 0.7),
    ],
)
def test_truncated_video(
    tmp_path: Path, name: str, codec: str, share: float, encode: Callable, pictures: Callable
) -> None:
    images = pictures(48)
    options = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx-vp9" else {"g": "12"}
    file = tmp_path / name
    index_first = {"movflags": "faststart"} if name.endswith("mp4") else {}
    stored = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    encode(file, images, codec, stored, options=options, container_options=index_first)
    whole = read_video(file)
    assert len(whole.frames) == 48
    truncated(file, share)
    with pytest.warns(UserWarning, match=r"truncated or damaged: \d+ frames of about 48 could be read") as caught:
        clip = read_video(file)
    assert len(caught) == 1
    count = len(clip.frames)
    assert 5 < count < 48
    assert f" {count} frames" in str(caught[0].message)
    assert torch.equal(clip.frames[:-1], whole.frames[: count - 1])
    assert torch.allclose(clip.timestamps, whole.timestamps[:count])
    assert len(read_video(file, stop=count - 2).frames) == count - 2  # no warning: the part asked for is there


def test_truncation_loses_only_what_is_missing(tmp_path: Path, encode: Callable, pictures: Callable) -> None:
    """Every frame whose packet is whole comes back, as many threads as there may be."""
    file = tmp_path / "clip.mp4"
    options = {"g": "12", "bf": "3"}
    encode(file, pictures(48), "libx264", "yuv420p", options=options, container_options={"movflags": "faststart"})
    with av.open(str(file)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    cut = packets[30]
    assert cut.pos is not None
    file.write_bytes(file.read_bytes()[: cut.pos + cut.size // 2])
    with pytest.warns(UserWarning, match="30 frames of about 48"):
        assert len(read_video(file).frames) == 30


def test_avi_cut_between_frames(tmp_path: Path, encode: Callable, pictures: Callable) -> None:
    """Nothing is broken here: only the header says that there was more."""
    file = tmp_path / "clip.avi"
    encode(file, pictures(20), "mjpeg", "yuvj420p")
    with av.open(str(file)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert packets[17].pos is not None
    file.write_bytes(file.read_bytes()[: packets[17].pos])
    with pytest.warns(UserWarning, match="17 frames of about 20"):
        assert len(read_video(file).frames) == 17


def test_truncated_transport_stream(tmp_path: Path, encode: Callable, pictures: Callable) -> None:
    encode(tmp_path / "clip.ts", pictures(48), "libx264", "yuv420p", options={"g": "12"})
    truncated(tmp_path / "clip.ts", 0.6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert 5 < len(read_video(tmp_path / "clip.ts").frames) < 48


def test_damage_in_the_middle(tmp_path: Path, encode: Callable, pictures: Callable) -> None:
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


def test_frames_that_decode_with_errors_are_kept(tmp_path: Path, encode: Callable, pictures: Callable) -> None:
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


def test_nothing_decodes(tmp_path: Path, encode: Callable, pictures: Callable) -> None:
    file = tmp_path / "clip.mp4"
    encode(file, pictures(8), "libx264", "yuv420p", container_options={"movflags": "faststart"})
    with av.open(str(file)) as container:
        first = next(packet for packet in container.demux(video=0) if packet.size).pos
    file.write_bytes(file.read_bytes()[:first])
    for read in (read_video, probe_video, lambda path: list(iterate_video(path))):
        with pytest.raises(InputError, match="no frame can be decoded"):
            read(file)


def test_what_is_no_video(tmp_path: Path, generator: torch.Generator, moving_square: Callable) -> None:
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
