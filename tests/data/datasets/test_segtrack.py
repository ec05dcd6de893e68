"""SegTrack-v2: small trees of the official layout, whole and broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gpuvos.data import SegTrack2
from gpuvos.errors import InputError

HEIGHT, WIDTH = 6, 8


def square(column: int, value: int = 255) -> Image.Image:
    pixels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    pixels[2:4, column : column + 2] = value
    return Image.fromarray(pixels)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """birdfall with one object, bmx with two, girl whose masks have other names."""
    for name, suffix in (("birdfall", "png"), ("bmx", "bmp"), ("girl", "png")):
        folder = tmp_path / "JPEGImages" / name
        folder.mkdir(parents=True)
        for frame in (9, 10, 11):
            Image.new("RGB", (WIDTH, HEIGHT), (20 * frame,) * 3).save(folder / f"{name}_{frame}.{suffix}")
    truth = tmp_path / "GroundTruth"
    for folder in ("birdfall", "bmx/1", "bmx/2", "girl"):
        (truth / folder).mkdir(parents=True)
    for shift, frame in enumerate((9, 10, 11)):
        square(shift).convert("RGB").save(truth / "birdfall" / f"birdfall_{frame}.png")
        square(shift).save(truth / "bmx" / "1" / f"bmx_{frame}.png")
        square(shift + 3, 200).save(truth / "bmx" / "2" / f"bmx_{frame}.png")
        square(shift).save(truth / "girl" / f"mask{shift}.bmp")
    return tmp_path


def test_reads_frames_and_merged_masks(root: Path) -> None:
    segtrack = SegTrack2(root)
    assert segtrack.names == ("birdfall", "bmx", "girl")
    assert len(segtrack) == 3
    birdfall, bmx, girl = segtrack
    assert bmx.names == ("bmx_9", "bmx_10", "bmx_11")  # 9 before 10
    for shift in range(3):
        one = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
        one[2:4, shift : shift + 2] = True
        assert torch.equal(birdfall.mask[shift], one)
        assert torch.equal(girl.mask[shift], one)
        two = one.clone()
        two[2:4, shift + 3 : shift + 5] = True
        assert torch.equal(bmx.mask[shift], two)
        assert bmx.frames[shift, 0, 0, 0] == 20 * (9 + shift)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("remove JPEGImages", "JPEGImages"),
        ("remove GroundTruth/girl", "girl"),
        ("remove JPEGImages/bmx", "bmx"),
        ("remove GroundTruth/bmx/2/bmx_10.png", "bmx_10"),
        ("remove JPEGImages/girl/girl_9.png", "3 masks"),
        ("empty GroundTruth/birdfall", "birdfall"),
    ],
)
def test_half_present_data_is_named(root: Path, change: str, word: str) -> None:
    how, _, where = change.partition(" ")
    target = root / where
    for path in sorted(target.rglob("*"), reverse=True) if target.is_dir() else [target]:
        path.rmdir() if path.is_dir() else path.unlink()
    if how == "remove" and target.is_dir():
        target.rmdir()
    with pytest.raises(InputError, match=word):
        SegTrack2(root)


def test_other_sizes_and_names(root: Path) -> None:
    segtrack = SegTrack2(root)
    with pytest.raises(InputError, match="birdfall, bmx, girl"):
        segtrack["lion"]
    Image.new("L", (WIDTH + 1, HEIGHT)).save(root / "GroundTruth" / "girl" / "mask1.bmp")
    with pytest.raises(InputError, match="mask1"):
        segtrack["girl"]
    Image.new("L", (WIDTH + 1, HEIGHT)).save(root / "GroundTruth" / "bmx" / "2" / "bmx_10.png")
    with pytest.raises(InputError, match="bmx_10"):
        segtrack["bmx"]


def test_objects_that_are_missing_are_named(root: Path) -> None:
    for file in (root / "GroundTruth" / "bmx" / "2").iterdir():
        file.unlink()
    (root / "GroundTruth" / "bmx" / "2").rmdir()
    with pytest.raises(InputError, match=r"bmx' with 1 of 2 objects, without 2"):
        SegTrack2(root)


def test_a_part_of_the_archive_and_merged_objects_are_said(root: Path) -> None:
    with pytest.warns(UserWarning, match="3 of the 14 sequences"):
        SegTrack2(root)
    one, two = (root / "GroundTruth" / "bmx" / name for name in "12")
    for file in one.iterdir():
        file.rename(root / "GroundTruth" / "bmx" / file.name)
    one.rmdir()
    for file in two.iterdir():
        file.unlink()
    two.rmdir()
    with pytest.warns(UserWarning, match="bmx' has no folder an object"):
        SegTrack2(root)
