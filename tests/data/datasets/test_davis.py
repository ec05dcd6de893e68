"""DAVIS-2016: small trees of the official layout, whole and broken in every way that was thought of."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gpuvos.data.datasets.davis import Davis2016
from gpuvos.data.masks import write_mask
from gpuvos.errors import InputError

HEIGHT, WIDTH = 12, 16
SEQUENCES = {"bear": 4, "rhino": 2}


def image_path(root: Path, name: str, frame: int) -> Path:
    return root / "JPEGImages" / "480p" / name / f"{frame:05d}.jpg"


def annotation_path(root: Path, name: str, frame: int) -> Path:
    return root / "Annotations" / "480p" / name / f"{frame:05d}.png"


def split_path(root: Path, split: str = "train") -> Path:
    return root / "ImageSets" / "480p" / f"{split}.txt"


def true_mask(number: int, frame: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """A square whose place tells the sequence and the frame apart."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[1 + number : 5 + number, frame : frame + 4] = True
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sequences; frame t of sequence n has the grey value 100 n + 20 t."""
    lines = []
    for number, (name, frames) in enumerate(SEQUENCES.items()):
        for frame in range(frames):
            image, annotation = image_path(tmp_path, name, frame), annotation_path(tmp_path, name, frame)
            image.parent.mkdir(parents=True, exist_ok=True)
            annotation.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (WIDTH, HEIGHT), (100 * number + 20 * frame,) * 3).save(image, quality=95)
            Image.fromarray(true_mask(number, frame).astype(np.uint8) * 255).save(annotation)
            lines.append(f"/JPEGImages/480p/{name}/{frame:05d}.jpg /Annotations/480p/{name}/{frame:05d}.png")
    split_path(tmp_path).parent.mkdir(parents=True)
    split_path(tmp_path).write_text("\n".join(lines) + "\n")
    return tmp_path


def test_reads_frames_and_masks(root: Path) -> None:
    davis = Davis2016(root)
    assert davis.names == ("bear", "rhino")
    assert len(davis) == 2
    bear, rhino = davis
    assert bear.name == "bear"
    assert bear.names == ("00000", "00001", "00002", "00003")
    assert bear.frames.shape == (4, 3, HEIGHT, WIDTH)
    assert bear.frames.dtype == torch.uint8
    assert bear.mask.shape == (4, HEIGHT, WIDTH)
    assert bear.mask.dtype == torch.bool
    for number, sequence in enumerate((bear, rhino)):
        for frame in range(len(sequence.names)):
            assert torch.equal(sequence.mask[frame], torch.from_numpy(true_mask(number, frame)))
            grey = torch.full((3, HEIGHT, WIDTH), 100 * number + 20 * frame)
            assert (sequence.frames[frame].int() - grey).abs().max() <= 2  # JPEG is not exact


def test_keys(root: Path) -> None:
    davis = Davis2016(str(root), split="train", resolution="480p")
    for key in (1, -1, "rhino", np.int64(1), torch.tensor(1)):
        assert davis[key].name == "rhino"
    for key in (2, -3, "lion", 1.0, None, slice(0, 1)):
        with pytest.raises(InputError, match="key: got"):
            davis[key]  # type: ignore[index]
    with pytest.raises(InputError, match=r"'lion', wanted a sequence of .*: bear, rhino"):
        davis["lion"]


def test_nothing_is_read_before_it_is_asked_for(root: Path) -> None:
    image_path(root, "rhino", 1).write_bytes(b"no image")
    davis = Davis2016(root)
    assert davis["bear"].name == "bear"
    with pytest.raises(InputError, match=r"JPEGImages/480p/rhino/00001\.jpg"):
        davis["rhino"]


def test_travels_to_the_workers_of_a_loader(root: Path) -> None:
    davis = pickle.loads(pickle.dumps(Davis2016(root)))
    assert davis.names == ("bear", "rhino")
    assert davis[0].mask.any()


def test_order_is_that_of_the_split_file(root: Path) -> None:
    lines = split_path(root).read_text().splitlines()
    split_path(root, "val").write_text("\n\n".join([*lines[4:], *lines[:4]]))
    split_path(root, "trainval").write_text("\r\n".join(line.replace(" /", "  ")[1:] for line in lines))
    assert Davis2016(root, split="val").names == ("rhino", "bear")
    assert Davis2016(root, split="trainval").names == ("bear", "rhino")


def test_objects_are_merged_whatever_the_colours(root: Path) -> None:
    ids = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    ids[0, :3] = torch.tensor([1, 2, 7], dtype=torch.uint8)
    write_mask(annotation_path(root, "bear", 0), ids)  # palette
    colours = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    colours[0, :2] = [[128, 0, 0], [0, 128, 0]]  # ids 1 and 2 of the DAVIS palette
    Image.fromarray(colours).save(annotation_path(root, "bear", 1))
    Image.fromarray(ids.numpy() > 0).save(annotation_path(root, "bear", 2))  # one bit
    Image.new("L", (WIDTH, HEIGHT)).save(annotation_path(root, "bear", 3))
    mask = Davis2016(root)["bear"].mask
    assert mask.sum(dim=(1, 2)).tolist() == [3, 2, 3, 0]
    assert mask[:, 0, :3].tolist() == [[True] * 3, [True, True, False], [True] * 3, [False] * 3]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_masks_of_every_mode(root: Path, mode: str) -> None:
    """As the archive has them: most grey, some in colour or with transparency; a palette whose white is index 1."""
    white = np.where(true_mask(0, 1), 255, 0).astype(np.uint8)
    image = Image.fromarray(white)
    if mode == "I;16":
        image = Image.fromarray(white.astype(np.uint16) * 257)
    elif mode == "P":
        image = Image.fromarray((white > 0).astype(np.uint8))
        image.putpalette([0, 0, 0, 255, 255, 255])
    else:
        image = image.convert(mode)
    image.save(annotation_path(root, "bear", 1))
    with Image.open(annotation_path(root, "bear", 1)) as stored:
        assert stored.mode == mode
    assert torch.equal(Davis2016(root)["bear"].mask[1], torch.from_numpy(true_mask(0, 1)))


def test_grey_numbers_with_transparency(root: Path) -> None:
    """Two objects, 1 and 2, of mode LA; a transparent pixel is background whatever its value."""
    pixels = np.zeros((HEIGHT, WIDTH, 2), dtype=np.uint8)
    pixels[2, 2:5] = (1, 255), (2, 255), (2, 0)
    Image.fromarray(pixels, "LA").save(annotation_path(root, "bear", 1))
    assert Davis2016(root)["bear"].mask[1].nonzero().tolist() == [[2, 2], [2, 3]]


def test_missing_parts_of_the_layout(root: Path) -> None:
    with pytest.raises(InputError, match=r"root: got '.*nowhere', which is no folder"):
        Davis2016(root / "nowhere")
    with pytest.raises(InputError, match=r"without the split file '.*ImageSets/480p/val\.txt'.*JPEGImages"):
        Davis2016(root, split="val")
    with pytest.raises(InputError, match=r"ImageSets/1080p/train\.txt"):
        Davis2016(root, resolution="1080p")
    with pytest.raises(InputError, match="split: got 'test', wanted one of 'train', 'val', 'trainval'"):
        Davis2016(root, split="test")
    with pytest.raises(InputError, match="resolution: got '4k'"):
        Davis2016(root, resolution="4k")
    with pytest.raises(InputError, match="root: got NoneType"):
        Davis2016(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [image_path, annotation_path])
def test_half_present_data(root: Path, path: object) -> None:
    assert callable(path)
    path(root, "rhino", 1).unlink()
    with pytest.raises(InputError, match=rf"1 missing, first '{path(root, 'rhino', 1)}', wanted the 2 files"):
        Davis2016(root)
    path(root, "rhino", 0).unlink()
    with pytest.raises(InputError, match=rf"2 missing, first '{path(root, 'rhino', 0)}'"):
        Davis2016(root)
    path(root, "rhino", 0).parent.rmdir()
    with pytest.raises(InputError, match=rf"no folder '{path(root, 'rhino', 0).parent}'"):
        Davis2016(root)


@pytest.mark.parametrize("path", [image_path, annotation_path])
def test_more_frames_than_the_split_lists(root: Path, path: object) -> None:
    assert callable(path)
    extra = path(root, "bear", 4)
    extra.write_bytes(path(root, "bear", 3).read_bytes())
    with pytest.raises(InputError, match=rf"1 superfluous, first '{extra}', wanted the 4 files"):
        Davis2016(root)
    extra.rename(extra.with_name("._00004" + extra.suffix))  # what some archivers leave behind
    (extra.parent / "notes.txt").write_text("")
    assert len(Davis2016(root)["bear"].names) == 4


@pytest.mark.parametrize(
    "line",
    [
        "bear",
        "/JPEGImages/480p/bear/00000.jpg",
        "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00001.png",
        "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/rhino/00000.png",
        "/JPEGImages/1080p/bear/00000.jpg /Annotations/1080p/bear/00000.png",
        "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png 1",
    ],
)
def test_lines_of_another_form(root: Path, line: str) -> None:
    split_path(root).write_text(f"\n{line}\n")
    with pytest.raises(InputError, match=r"line 2 of '.*train\.txt', .*wanted '/JPEGImages/480p/NAME/00000\.jpg"):
        Davis2016(root)


def test_split_file_that_lists_nothing_or_twice(root: Path) -> None:
    text = split_path(root).read_text()
    split_path(root).write_text(text + text.splitlines()[0])
    with pytest.raises(InputError, match=r"line 7 of .*bear/00000\.png' again, wanted every frame once"):
        Davis2016(root)
    split_path(root).write_text("\n \n")
    with pytest.raises(InputError, match="which is empty"):
        Davis2016(root)


def test_sizes_that_differ(root: Path) -> None:
    Image.new("L", (WIDTH, HEIGHT + 1)).save(annotation_path(root, "bear", 2))
    with pytest.raises(InputError, match=r"Annotations/480p/bear/00002\.png' of 13 x 16 pixels, wanted 12 x 16"):
        Davis2016(root)["bear"]
    Image.new("RGB", (WIDTH + 2, HEIGHT)).save(image_path(root, "rhino", 1))
    with pytest.raises(InputError, match=r"JPEGImages/480p/rhino/00001\.jpg' of 12 x 18 pixels"):
        Davis2016(root)["rhino"]


@pytest.mark.slow
@pytest.mark.data
def test_the_real_training_set(development_data: Path) -> None:
    if not (development_data / "davis2016").is_dir():
        pytest.skip("no davis2016 in the development data")
    davis = Davis2016(development_data / "davis2016", split="train")
    assert len(davis) == 30
    surf = davis["surf"]
    assert surf.frames.shape == (55, 3, 480, 854)
    assert surf.mask.shape == (55, 480, 854)
    # One frame of this sequence shows no object; elsewhere the mask is neither nothing nor everything.
    areas = surf.mask.sum(dim=(1, 2))
    assert (areas == 0).sum() == 1
    assert areas.max() < 480 * 854 / 2
