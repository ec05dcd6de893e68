"""DAVIS-2017: small trees of the official layout, whole and broken."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from gpuvos.data import Davis2017, read_ids, write_mask
from gpuvos.errors import InputError

HEIGHT, WIDTH = 6, 8
TRUTH = "Annotations_unsupervised/480p"


def ids(frame: int) -> torch.Tensor:
    """Object 1 on the left, object 2 on the right, from the third frame on the second alone; a void pixel."""
    numbers = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    numbers[1:3, frame : frame + 2] = 1 if frame < 2 else 0
    numbers[4, 5:7] = 2
    numbers[0, 0] = 255
    return numbers


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sequences of three frames."""
    for name in ("judo", "dogs-jump"):
        (tmp_path / "JPEGImages/480p" / name).mkdir(parents=True)
        for frame in range(3):
            image = Image.new("RGB", (WIDTH, HEIGHT), (40 * frame,) * 3)
            image.save(tmp_path / "JPEGImages/480p" / name / f"{frame:05d}.jpg")
            write_mask(tmp_path / TRUTH / name / f"{frame:05d}.png", ids(frame))
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/val.txt").write_text("judo\ndogs-jump\n")
    return tmp_path


def test_reads_objects_by_number(root: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        davis = Davis2017(root, split="val")
    assert davis.names == ("judo", "dogs-jump")
    judo = davis["judo"]
    assert judo.frames.shape == (3, 3, HEIGHT, WIDTH)
    wanted = torch.stack([ids(frame) for frame in range(3)])
    wanted[wanted == 255] = 0
    assert judo.ids is not None
    assert torch.equal(judo.ids, wanted)
    assert torch.equal(judo.mask, wanted != 0)
    assert (judo.annotated, judo.names) == ((0, 1, 2), ("00000", "00001", "00002"))


def test_grey_ids_are_taken_as_they_are(root: Path) -> None:
    """One value on black, which ``read_mask`` would call object 1."""
    file = root / TRUTH / "judo" / "00002.png"
    Image.fromarray(ids(2).masked_fill(ids(2) == 255, 0).numpy()).save(file)
    assert read_ids(file).unique().tolist() == [0, 2]
    judo = Davis2017(root, split="val")["judo"]
    assert judo.ids is not None
    assert judo.ids[2].unique().tolist() == [0, 2]
    Image.new("RGB", (WIDTH, HEIGHT)).save(file)
    with pytest.raises(InputError, match="mode RGB"):
        Davis2017(root, split="val")["judo"]


def test_annotations_of_the_other_challenge_are_said(root: Path) -> None:
    (root / "Annotations_unsupervised").rename(root / "Annotations")
    with pytest.warns(UserWarning, match="semi-supervised"):
        davis = Davis2017(root, split="val")
    assert davis["judo"].mask.any()


def broken(root: Path, how: str) -> None:
    split = root / "ImageSets/2017/val.txt"
    changes = {
        "split": split.unlink,
        "empty": lambda: split.write_text("\n"),
        "path": lambda: split.write_text("../judo"),
        "twice": lambda: split.write_text("judo judo"),
        "stranger": lambda: split.write_text("lion"),
        "mask": (root / TRUTH / "judo/00001.png").unlink,
        "frame": (root / "JPEGImages/480p/judo/00001.jpg").unlink,
        "truth": lambda: (root / "Annotations_unsupervised").rename(root / "elsewhere"),
    }
    changes[how]()


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("split", r"2017/val\.txt"),
        ("empty", "is empty"),
        ("path", r"'\.\./judo'"),
        ("twice", "'judo' more than once"),
        ("stranger", "JPEGImages/480p/lion"),
        ("mask", r"judo/00001\.jpg' without a mask"),
        ("frame", r"judo/00001\.png' without a frame"),
        ("truth", "Annotations_unsupervised/480p"),
    ],
)
def test_half_present_data_is_named(root: Path, how: str, word: str) -> None:
    broken(root, how)
    with pytest.raises(InputError, match=word):
        Davis2017(root, split="val")


def test_contents_that_do_not_fit(root: Path) -> None:
    late = ids(1)
    late[5, 7] = 3
    write_mask(root / TRUTH / "judo" / "00001.png", late)
    with pytest.warns(UserWarning, match=r"judo/00001\.png' shows object 3, the first frame 2: left out"):
        judo = Davis2017(root, split="val")["judo"]
    assert judo.ids is not None
    assert judo.ids.unique().tolist() == [0, 1, 2]
    assert not judo.mask[1, 5, 7]
    write_mask(root / TRUTH / "dogs-jump" / "00001.png", torch.zeros(HEIGHT, WIDTH + 1, dtype=torch.uint8))
    with pytest.raises(InputError, match="6 x 9"):
        Davis2017(root, split="val")["dogs-jump"]
    with pytest.raises(InputError, match="split"):
        Davis2017(root, split="test-dev")
    with pytest.raises(InputError, match="no folder"):
        Davis2017(root / "nowhere", split="val")
