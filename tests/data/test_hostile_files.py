"""Files that are broken at random, lie about their size, or are no files at all: refused by name, never hung on."""

from __future__ import annotations

import os
import socket
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from gpuvos.data import iterate_video, probe_video, read_mask, read_video, write_mask, write_video
from gpuvos.errors import InputError

READERS = (read_video, probe_video, read_mask, lambda path: list(iterate_video(path)))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory, moving_square: Callable) -> dict[str, bytes]:
    folder, frames = tmp_path_factory.mktemp("originals"), moving_square(6)
    for name in ("clip.mp4", "clip.mkv", "clip.gif"):
        write_video(folder / name, frames)
    picture = Image.fromarray(frames[0].permute(1, 2, 0).contiguous().numpy())
    for name in ("still.png", "still.jpg", "still.bmp", "still.webp"):
        picture.save(folder / name)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def refused_or_whole(file: Path) -> str:
    """Reads a damaged file: an error that names it, or frames as they should be."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            clip = read_video(file)
        except InputError as error:
            refusal = str(error)
        else:
            refusal = ""
    if refusal:
        assert refusal.startswith("path: got ")
        assert file.name in refusal
        return "refused"
    t, c, h, w = clip.frames.shape
    assert (clip.frames.dtype, c, len(clip.names), len(clip.timestamps)) == (torch.uint8, 3, t, t)
    assert min(t, h, w) > 0
    assert (clip.timestamps.diff() > 0).all()
    assert all(file.name in str(warning.message) for warning in said if warning.category is UserWarning)
    return "read with a warning" if said else "read"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["clip.mp4", "clip.mkv", "clip.gif", "still.png", "still.jpg", "still.bmp", "still.webp"]
)
def test_flipped_bits(originals: dict[str, bytes], name: str, tmp_path: Path, generator: torch.Generator) -> None:
    outcomes = set()
    for number in range(12):
        content = bytearray(originals[name])
        head = 64 if number % 2 else len(content)  # half of them where the header is
        for place in torch.randint(min(head, len(content)), (1 + number,), generator=generator).tolist():
            content[place] ^= 1 << (place % 8)
        file = tmp_path / f"{number}-{name}"
        file.write_bytes(content)
        outcomes.add(refused_or_whole(file))
    assert "refused" in outcomes or name.endswith(("mp4", "mkv"))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "still.png", "still.jpg", "still.webp"])
def test_cut_anywhere(originals: dict[str, bytes], name: str, tmp_path: Path) -> None:
    content = originals[name]
    for number, share in enumerate((0.0, 0.02, 0.1, 0.4, 0.7, 0.95)):
        file = tmp_path / f"{number}-{name}"
        file.write_bytes(content[: int(share * len(content))])
        if refused_or_whole(file) == "read" and name.startswith("still"):  # all that is missing is the end mark
            (tmp_path / name).write_bytes(content)
            assert torch.equal(read_video(file).frames, read_video(tmp_path / name).frames)
            assert share == 0.95


def test_one_format_under_the_name_of_another(originals: dict[str, bytes], tmp_path: Path) -> None:
    for content, name in (
        ("clip.mp4", "a.png"),
        ("still.png", "a.mp4"),
        ("clip.gif", "a.mkv"),
        ("still.jpg", "a.webp"),
    ):
        file = tmp_path / name
        file.write_bytes(originals[content])
        refused_or_whole(file)


def gigantic_png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_gigantic_headers_are_refused_before_memory_is_taken(originals: dict[str, bytes], tmp_path: Path) -> None:
    jpeg, gif = bytearray(originals["still.jpg"]), bytearray(originals["clip.gif"])
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = b"\xff\xff\xff\xff"  # 65535 x 65535
    gif[6:10] = b"\xff\xff\xff\xff"
    bombs = {
        "bomb.png": gigantic_png(100_000),
        "bomb.jpg": bytes(jpeg),
        "bomb.gif": bytes(gif),
        "wrong.mp4": gigantic_png(90_000),
    }
    for name, content in bombs.items():
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_video(file)
    with pytest.raises(InputError, match=r"bomb\.png"):
        read_mask(tmp_path / "bomb.png")


def test_pipes_sockets_and_devices_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.mp4"))
        for file in (
            tmp_path / "pipe.mp4",
            tmp_path / "pipe.png",
            tmp_path / "socket.mp4",
            Path("/dev/zero"),
        ):
            for read in READERS:
                with pytest.raises(InputError, match=r"a pipe, socket or device.*save what it gives into a file"):
                    read(file)
    with pytest.raises(InputError, match="without images"):
        read_video(tmp_path)  # a folder with a pipe that is called like an image
    for write in (lambda file: write_video(file, torch.zeros(1, 3, 8, 8)),):
        with pytest.raises(InputError, match="not a regular file"):
            write(tmp_path / "pipe.mp4")


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    (tmp_path / "plain").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    for name in ("loop.png", "gone.mp4", "x" * 300 + ".mp4", "plain/below.png", "folder.png"):
        for read in READERS:
            with pytest.raises(InputError, match=r"^path: got"):
                read(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(tmp_path: Path, moving_square: Callable) -> None:
    write_video(tmp_path / "clip.mp4", moving_square(2))
    (tmp_path / "clip.mp4").chmod(0)
    with pytest.raises(InputError, match=r"clip\.mp4.*ermission"):
        read_video(tmp_path / "clip.mp4")


@pytest.mark.parametrize(
    "name",
    [
        "with blank",
        "-leading",
        "new\nline",
        "Ünïcödé-雪",
        "a:b",
        "http:x",
        "%05d",
        "*",
        "concat:a|b",
        "CON",
        "quote'\"",
        "a..b",
    ],
)
def test_any_name_is_just_a_name(
    name: str, tmp_path: Path, moving_square: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # relative, so that the name is all there is
    write_video(f"{name}.mp4", moving_square(2))
    assert read_video(f"{name}.mp4").frames.shape == (2, 3, 48, 64)
    write_mask(f"{name}.png", torch.ones(4, 6, dtype=torch.bool))
    assert read_mask(f"{name}.png").all()
    assert {file.name for file in Path().iterdir()} == {f"{name}.mp4", f"{name}.png"}


def test_what_is_damaged_behind_the_first_picture_is_refused_too(tmp_path: Path) -> None:
    """A second page without a width, which Pillow looks for only when it counts the pages."""
    file = tmp_path / "pages.tif"
    picture = Image.new("RGB", (6, 4), (10, 20, 30))
    picture.save(file, save_all=True, append_images=[picture])
    content = bytearray(file.read_bytes())
    width = struct.pack("<HHI", 256, 4, 1)
    last = content.rindex(width)
    assert last != content.index(width)
    content[last : last + 2] = struct.pack("<H", 65000)  # a tag that nobody knows
    file.write_bytes(content)
    for read in (read_video, lambda path: list(iterate_video(path))):
        with pytest.raises(InputError, match=r"pages\.tif.*Missing dimensions"):
            read(file)


def test_an_orientation_that_cannot_be_read_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Pillow raises while it looks an orientation up."""
    file = tmp_path / "picture.png"
    Image.new("L", (6, 4)).save(file)

    def broken(_: Image.Image) -> Image.Image:
        raise struct.error("unpack requires a buffer of 2 bytes")

    monkeypatch.setattr("PIL.ImageOps.exif_transpose", broken)
    for read in (read_video, read_mask):
        with pytest.raises(InputError, match=r"picture\.png.*buffer of 2 bytes"):
            read(file)
