"""FBMS-59: small trees in both of its formats, whole and broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gpuvos.data import Fbms59
from gpuvos.errors import InputError

HEIGHT, WIDTH = 6, 8
BACKGROUND, FIRST, SECOND = (255, 255, 255), (0, 255, 0), (255, 0, 255)


def code(colour: tuple[int, int, int]) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def definition(folder: Path, name: str, scales: list[int], masks: dict[int, str], frames: int) -> None:
    """A Def.dat file as the archives have it."""
    lines = ["Total number of regions:", str(len(scales)), ""]
    for number, scale in enumerate(scales):
        lines += [f"Scale of region {number}:", str(scale), ""]
    lines += ["Confusion penality matrix", "0 1 1", "1 0 1", "1 1 0", ""]
    lines += ["Total number of frames in this shot:", str(frames)]
    lines += ["Total number of labeled frames:", str(len(masks)), ""]
    for frame, file in masks.items():
        lines += ["Frame number:", str(frame), "File name:", file, "Input file name:", f"{name}_x.ppm", ""]
    (folder / f"{name}Def.dat").write_text("\n".join(lines))


def write_frames(folder: Path, name: str, count: int) -> None:
    folder.mkdir(parents=True)
    for frame in range(count):
        Image.new("RGB", (WIDTH, HEIGHT), (40 * frame,) * 3).save(folder / f"{name}_{frame + 1:04d}.jpg")


def coloured(shift: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Two objects, at columns ``shift`` and ``shift + 3``, on white."""
    pixels = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    pixels[1:4, shift] = FIRST
    pixels[1:4, shift + 3] = SECOND
    return pixels


def merged(shift: int) -> torch.Tensor:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[1:4, [shift, shift + 3]] = True
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """camel01 in colour with weights in a pgm; cars1 in grey values; dogs without a definition."""
    for name in ("camel01", "cars1", "dogs10"):
        write_frames(tmp_path / "Testset" / name, name, 4)
        (tmp_path / "Testset" / name / "GroundTruth").mkdir()
    camel = tmp_path / "Testset" / "camel01" / "GroundTruth"
    for frame in (0, 3):
        Image.fromarray(coloured(frame)).save(camel / f"camel01_{frame + 1:04d}_gt.ppm")
        Image.new("L", (WIDTH, HEIGHT)).save(camel / f"camel01_{frame + 1:04d}_gt.pgm")
        Image.new("RGB", (WIDTH, HEIGHT)).save(camel / f"camel01_{frame + 1:04d}PROB_gt.ppm")
    scales = [code(BACKGROUND), code(FIRST), code(SECOND)]
    masks = {frame: f"camel01_{frame + 1:04d}_gt.ppm" for frame in (0, 3)}
    definition(camel, "camel01", scales, masks, 4)
    cars = tmp_path / "Testset" / "cars1" / "GroundTruth"
    grey = np.where(merged(2).numpy(), 255, 100).astype(np.uint8)
    grey[1:4, 2] = 0  # the background is 100: the definition says so
    Image.fromarray(grey).save(cars / "cars1_02.pgm")
    definition(cars, "cars1", [100, 0, 255], {1: "cars1_02.pgm"}, 4)
    dogs = tmp_path / "Testset" / "dogs10" / "GroundTruth"
    Image.fromarray(coloured(1)).save(dogs / "dogs10_0003_gt.ppm")
    return tmp_path


def test_reads_sparse_masks_of_both_formats(root: Path) -> None:
    fbms = Fbms59(root, split="test")
    assert fbms.names == ("camel01", "cars1", "dogs10")
    camel, cars, dogs = fbms
    assert camel.frames.shape == (4, 3, HEIGHT, WIDTH)
    assert [camel.annotated, cars.annotated, dogs.annotated] == [(0, 3), (1,), (2,)]
    assert torch.equal(camel.mask, torch.stack([merged(0), merged(3)]))
    assert torch.equal(cars.mask, merged(2)[None])
    assert torch.equal(dogs.mask, merged(1)[None])
    assert camel.names[0] == "camel01_0001"
    assert Fbms59(root / "Testset").names == fbms.names


def remove(*files: Path) -> None:
    for file in files:
        file.rmdir() if file.is_dir() else file.unlink()


def broken(root: Path, how: str) -> Path:
    camel, dogs = root / "Testset" / "camel01", root / "Testset" / "dogs10" / "GroundTruth"
    truth, listing = camel / "GroundTruth", camel / "GroundTruth" / "camel01Def.dat"
    text = listing.read_text().replace("Frame number:\n3", "Frame number:\nthree")
    changes = {
        "no split": lambda: None,
        "no truth": lambda: remove(*truth.iterdir(), truth),
        "no mask": lambda: remove(*truth.glob("*_0004*")),
        "no frames": lambda: remove(*camel.glob("*.jpg")),
        "fewer frames": lambda: remove(camel / "camel01_0004.jpg"),
        "no numbers": lambda: definition(truth, "camel01", [1], {}, 4),
        "words": lambda: listing.write_text(text),
        "stranger": lambda: (dogs / "dogs10_0003_gt.ppm").rename(dogs / "dogs10_0009_gt.ppm"),
    }
    changes[how]()
    return camel if how == "no split" else root


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("no split", "Testset"),
        ("no truth", "GroundTruth"),
        ("no mask", "camel01_0004"),
        ("no frames", "camel01"),
        ("fewer frames", "frame 3"),
        ("no numbers", "Def.dat"),
        ("words", "three"),
        ("stranger", "dogs10_0009"),
    ],
)
def test_half_present_data_is_named(root: Path, how: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        Fbms59(broken(root, how), split="test")


def test_other_sizes_and_names(root: Path) -> None:
    fbms = Fbms59(root)
    with pytest.raises(InputError, match="camel01, cars1"):
        fbms["lion"]
    Image.new("RGB", (WIDTH, HEIGHT + 1), "white").save(
        root / "Testset" / "camel01" / "GroundTruth" / "camel01_0001_gt.ppm"
    )
    with pytest.raises(InputError, match="7 x 8"):
        fbms["camel01"]
    with pytest.raises(InputError, match="Trainingset"):
        Fbms59(root, split="train")
    with pytest.raises(InputError, match="split"):
        Fbms59(root, split="val")


def test_values_that_the_definition_forgot_are_the_object_and_named(root: Path) -> None:
    """As in marple7, where a whole person has grey value 102."""
    truth = root / "Testset" / "cars1" / "GroundTruth"
    grey = np.full((HEIGHT, WIDTH), 100, dtype=np.uint8)
    grey[1:3, 4] = 102
    Image.fromarray(grey).save(truth / "cars1_02.pgm")
    with pytest.warns(UserWarning, match=r"cars1_02\.pgm' holds values .* 102 \(2 pixels\)"):
        mask = Fbms59(root)["cars1"].mask
    assert mask.sum() == 2


def test_a_part_of_the_archive_is_said(root: Path) -> None:
    with pytest.warns(UserWarning, match="3 of 30 sequences"):
        Fbms59(root)


def test_bms26_as_distributed(tmp_path: Path) -> None:
    """Frames, masks and the definition in one folder; frames in ppm."""
    folder = tmp_path / "cars1"
    folder.mkdir()
    for frame in range(3):
        Image.new("RGB", (WIDTH, HEIGHT), (40 * frame,) * 3).save(folder / f"cars1_{frame + 1:02d}.ppm")
    Image.fromarray(merged(2).numpy().astype(np.uint8) * 255).save(folder / "cars1_02.pgm")
    definition(folder, "cars1", [0, 255], {1: "cars1_02.pgm"}, 3)
    with pytest.warns(UserWarning, match="1 of 26"):
        cars = Fbms59(tmp_path)["cars1"]
    assert cars.names == ("cars1_01", "cars1_02", "cars1_03")
    assert cars.annotated == (1,)
    assert torch.equal(cars.mask, merged(2)[None])
    assert cars.frames[2, 0, 0, 0] == 80


@pytest.mark.data
def test_the_real_sequences(development_data: Path) -> None:
    root = development_data / "fbms59"
    if not root.is_dir():
        pytest.skip("no fbms59 in the development data")
    with pytest.warns(UserWarning, match="5 of 29 sequences"):
        fbms = Fbms59(root, split="train")
    assert fbms.names == ("cars2", "cars3", "cars8", "marple8", "marple13")
    cars, marple = fbms["cars2"], fbms["marple8"]
    assert cars.annotated == (0, 9, 19, 29)
    assert marple.annotated == (0, 9, 19, 29, 39, 49, 71)
    assert len(cars.frames) == 30
    assert len(marple.frames) == 72
    for mask in (*cars.mask, *marple.mask):
        assert 0 < mask.float().mean() < 0.9
