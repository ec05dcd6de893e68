"""Images as frames: folders, single files, kinds of pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gpuvos.data.images import fit, natural_key
from gpuvos.data.video import iterate_video, probe_video, read_video
from gpuvos.errors import InputError

# A warning that a test does not expect is a defect.
pytestmark = pytest.mark.filterwarnings("error::UserWarning")


@pytest.mark.parametrize(
    ("height", "width", "max_side", "expected"),
    [(480, 854, None, (480, 854)), (480, 854, 427, (240, 427)), (1, 999, 10, (1, 10)), (9, 5, 9, (9, 5))],
)
def test_fit(height: int, width: int, max_side: int | None, expected: tuple[int, int]) -> None:
    assert fit(height, width, max_side) == expected


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
def test_single_image(tmp_path: Path, name: str, psnr: Callable, pictures: Callable) -> None:
    values = pictures(1)[0]
    Image.fromarray(values).save(tmp_path / name, **({"lossless": True} if "webp" in name else {"quality": 95}))
    clip = read_video(tmp_path / name)
    assert clip.names == ("image",)
    assert clip.timestamps.tolist() == [0.0]
    assert psnr(clip.frames[0], torch.from_numpy(values).permute(2, 0, 1)) > (30 if "j" in name.lower() else 200)


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


def test_folders_that_are_refused(tmp_path: Path, pictures: Callable) -> None:
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
    whole = (tmp_path / "cut" / "a.jpg").read_bytes()
    (tmp_path / "cut" / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.jpg' \(.*[Tt]runcated"):
        read_video(tmp_path / "cut")
    with pytest.raises(InputError, match=r"start: got 3, but .* has 2 frames"):
        read_video(tmp_path / "mixed", start=3)
    first, *others = [Image.fromarray(image) for image in pictures(3)]
    (tmp_path / "animations").mkdir()
    first.save(tmp_path / "animations" / "moving.png", save_all=True, append_images=others)
    with pytest.raises(InputError, match=r"an animation of 3 frames.*by itself"):
        read_video(tmp_path / "animations")
