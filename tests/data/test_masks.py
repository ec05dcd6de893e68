"""Mask files: palettes, ids, archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra import numpy as hypothesis_numpy
from PIL import Image

from gpuvos.data.masks import davis_palette, read_mask, save_npz, write_mask, write_masks
from gpuvos.errors import InputError


def palette_by_rule() -> list[list[int]]:
    """The published loop: peel off three bits at a time, fill each channel from its highest bit."""
    colours = []
    for number in range(256):
        red = green = blue = 0
        left = number
        for place in range(7, -1, -1):
            red |= (left & 1) << place
            green |= (left >> 1 & 1) << place
            blue |= (left >> 2 & 1) << place
            left >>= 3
        colours.append([red, green, blue])
    return colours


def test_palette_by_hand() -> None:
    palette = davis_palette()
    assert palette.dtype == torch.uint8
    assert palette.shape == (256, 3)
    assert palette[:9].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [128, 0, 128],
        [0, 128, 128],
        [128, 128, 128],
        [64, 0, 0],
    ]
    # 255 sets every bit there is: three of red, three of green, two of blue.
    assert palette[255].tolist() == [224, 224, 192]
    assert palette[22].tolist() == [0, 192, 128]  # 22 = 0b010110: green twice, blue once


def test_palette_by_rule() -> None:
    palette = davis_palette().tolist()
    assert palette == palette_by_rule()
    assert len({tuple(colour) for colour in palette}) == 256


@settings(max_examples=20, deadline=None)
@given(hypothesis_numpy.arrays(np.uint8, hypothesis_numpy.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, ids: np.ndarray) -> None:
    file = tmp_path_factory.mktemp("masks") / "mask.png"
    write_mask(file, torch.from_numpy(ids))
    back = read_mask(file)
    assert back.dtype == torch.uint8
    assert np.array_equal(back.numpy(), ids)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integer_types_and_views(tmp_path: Path, dtype: torch.dtype) -> None:
    mask = torch.tensor([[0, 1, 1], [1, 0, 0]]).to(dtype)
    write_mask(tmp_path / "mask.png", mask.T)
    assert read_mask(tmp_path / "mask.png").tolist() == [[0, 1], [1, 0], [1, 0]]


def test_file_is_an_eight_bit_palette_png(tmp_path: Path) -> None:
    write_mask(tmp_path / "mask.png", torch.tensor([[True, False]]))
    content = (tmp_path / "mask.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content[24:26] == bytes([8, 3])  # bit depth, colour type "palette" of the header chunk
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        assert image.convert("RGB").getpixel((0, 0)) == (128, 0, 0)
    assert [file.name for file in tmp_path.iterdir()] == ["mask.png"]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.rand(2, 2), "mask: got torch.float32.*integer ids.*threshold"),
        (torch.tensor([[256]]), "mask: got ids from 256 to 256"),
        (torch.tensor([[-1, 3]]), "mask: got ids from -1 to 3"),
        (torch.zeros(1, 2, 2, dtype=torch.bool), r"mask: got shape \(1, 2, 2\)"),
        (torch.zeros(0, 2, dtype=torch.bool), "at least one pixel"),
        (np.zeros((2, 2), dtype=np.uint8), "mask: got ndarray"),
    ],
)
def test_bad_masks(tmp_path: Path, mask: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_mask(tmp_path / "mask.png", mask)
    assert list(tmp_path.iterdir()) == []


def test_bad_suffix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ending in \.png"):
        write_mask(tmp_path / "mask.jpg", torch.zeros(2, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0, 255], [255, 0]], [[0, 1], [1, 0]]),
        ([[255, 255], [255, 255]], [[1, 1], [1, 1]]),
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]]),
        ([[0, 1], [2, 3]], [[0, 1], [2, 3]]),
        ([[0, 1], [2, 255]], [[0, 1], [2, 255]]),
        ([[0, 128], [0, 0]], [[0, 128], [0, 0]]),
    ],
)
def test_grey(tmp_path: Path, values: list[list[int]], expected: list[list[int]]) -> None:
    for name in ("mask.png", "mask.bmp", "mask.tif"):
        Image.fromarray(np.array(values, dtype=np.uint8)).save(tmp_path / name)
        assert read_mask(tmp_path / name).tolist() == expected


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False, True]])).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[1, 0, 1]]


def test_grey_of_sixteen_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)).save(tmp_path / "binary.png")
    Image.fromarray(np.array([[0, 7]], dtype=np.uint16)).save(tmp_path / "ids.png")
    Image.fromarray(np.array([[0, 300]], dtype=np.uint16)).save(tmp_path / "high.png")
    assert read_mask(tmp_path / "binary.png").tolist() == [[0, 1]]
    assert read_mask(tmp_path / "ids.png").tolist() == [[0, 7]]
    with pytest.raises(InputError, match="grey values up to 300"):
        read_mask(tmp_path / "high.png")


@pytest.mark.parametrize(
    ("palette", "expected"),
    [
        ([0, 0, 0, 9, 9, 9, 7, 7, 7], [[0, 1, 2, 1]]),  # index 0 is the darkest: the indices are ids
        ([5, 5, 5, 5, 5, 5, 200, 0, 0], [[0, 1, 2, 1]]),
        ([255, 255, 255, 0, 0, 0, 0, 0, 0], [[1, 0, 0, 0]]),  # white was counted first: black is the ground
        ([255, 0, 0, 0, 0, 0, 255, 0, 0], [[1, 0, 1, 0]]),
        ([128, 0, 0, 0, 0, 0, 0, 128, 0], [[1, 0, 2, 0]]),  # the colours of DAVIS at indices of their own
    ],
)
def test_indices_are_trusted_where_index_0_can_be_the_ground(
    tmp_path: Path, palette: list[int], expected: list[list[int]]
) -> None:
    image = Image.fromarray(np.array([[0, 1, 2, 1]], dtype=np.uint8))
    image.putpalette(palette)
    image.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == expected


def test_davis_indices_are_trusted_whatever_is_used(tmp_path: Path) -> None:
    write_mask(tmp_path / "mask.png", torch.tensor([[5, 3], [200, 3]]))
    assert read_mask(tmp_path / "mask.png").tolist() == [[5, 3], [200, 3]]


def test_a_palette_that_names_no_ids_is_refused(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    image.putpalette([255, 255, 255, 9, 9, 9, 200, 0, 0])
    image.save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="3 colours"):
        read_mask(tmp_path / "mask.png")


def test_colour(tmp_path: Path) -> None:
    def read(pixels: list[list[int]]) -> list[int]:
        Image.fromarray(np.array([pixels], dtype=np.uint8)).save(tmp_path / "mask.png")
        return read_mask(tmp_path / "mask.png")[0].tolist()

    assert read([[0, 0, 0], [10, 200, 7], [10, 200, 7]]) == [0, 1, 1]
    assert read([[0, 0, 0], [0, 128, 0], [0, 0, 0]]) == [0, 1, 0]  # one colour: 1, whichever it is
    assert read([[0, 0, 0], [0, 0, 0], [0, 0, 0]]) == [0, 0, 0]
    assert read([[5, 5, 5], [5, 5, 5], [5, 5, 5]]) == [1, 1, 1]
    assert read([[0, 0, 0], [0, 128, 0], [128, 0, 0]]) == [0, 2, 1]
    assert read([[9, 9, 9, 255], [9, 9, 9, 0], [0, 0, 0, 255]]) == [1, 0, 0]  # transparent is black
    with pytest.raises(InputError, match=r"2 colours.*palette PNGs"):
        read([[0, 0, 0], [1, 2, 3], [4, 5, 6]])


def test_every_palette_colour(tmp_path: Path) -> None:
    Image.fromarray(davis_palette().numpy()[None]).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png")[0].tolist() == list(range(256))


def test_jpeg_is_thresholded(tmp_path: Path) -> None:
    values = np.zeros((32, 32), dtype=np.uint8)
    values[5:22, 3:23] = 255
    Image.fromarray(values).save(tmp_path / "mask.jpg", quality=60)
    assert len(np.unique(np.asarray(Image.open(tmp_path / "mask.jpg")))) > 2  # compression did blur it
    assert np.array_equal(read_mask(tmp_path / "mask.jpg").numpy(), values // 255)


def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to show
    Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).save(tmp_path / "mask.png", exif=exif)
    assert read_mask(tmp_path / "mask.png").tolist() == [[0], [1], [2]]


def test_unreadable_masks(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    write_mask(tmp_path / "cut.png", torch.randint(0, 256, (64, 64)))
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:2000])
    for name in ("text.png", "cut.png", "absent.png"):
        with pytest.raises(InputError, match=f"path: got '.*{name}'"):
            read_mask(tmp_path / name)


def test_folder_of_masks(tmp_path: Path) -> None:
    masks = torch.arange(12).view(3, 2, 2)
    write_masks(tmp_path / "numbered", masks)
    write_masks(tmp_path / "named", masks, ["a", "b.1", "c"])
    assert sorted(file.name for file in (tmp_path / "numbered").iterdir()) == [f"0000{n}.png" for n in range(3)]
    assert sorted(file.name for file in (tmp_path / "named").iterdir()) == ["a.png", "b.1.png", "c.png"]
    assert read_mask(tmp_path / "named" / "b.1.png").tolist() == [[4, 5], [6, 7]]
    with pytest.raises(InputError, match="not empty"):
        write_masks(tmp_path / "named", masks)
    write_masks(tmp_path / "named", masks[:1], ["z"], overwrite=True)
    assert [file.name for file in (tmp_path / "named").iterdir()] == ["z.png"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "names: got 1 names, wanted one for each of the 2"),
        (["a", "A"], "same name"),
        (["a", "../b"], "plain file names"),
        (["a", ""], "plain file names"),
    ],
)
def test_bad_names(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_masks(tmp_path / "out", torch.zeros(2, 2, 2, dtype=torch.bool), names)
    assert list(tmp_path.iterdir()) == []


def test_failure_in_the_middle_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, calls = Image.Image.save, []

    def save_two(self: Image.Image, *arguments: object, **options: object) -> None:
        calls.append(1)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        save(self, *arguments, **options)

    monkeypatch.setattr(Image.Image, "save", save_two)
    with pytest.raises(InputError, match=r"00002.png.*No space left on device.*make room"):
        write_masks(tmp_path / "out", torch.zeros(4, 2, 2, dtype=torch.bool))
    assert len(calls) == 3
    assert list(tmp_path.iterdir()) == []


def test_npz(tmp_path: Path) -> None:
    file = tmp_path / "new" / "result.npz"
    probability = torch.rand(2, 3, requires_grad=True)
    values = {"half": torch.rand(2).half(), "brain": torch.tensor([1.5], dtype=torch.bfloat16)}
    save_npz(file, probability=probability, mask=torch.eye(3) > 0, names=["a", "b"], rate=24.0, path=2, **values)
    with np.load(file, allow_pickle=False) as archive:
        assert sorted(archive) == ["brain", "half", "mask", "names", "path", "probability", "rate"]
        assert np.array_equal(archive["probability"], probability.detach().numpy())
        assert archive["mask"].dtype == bool
        assert np.array_equal(archive["mask"], np.eye(3, dtype=bool))
        assert archive["half"].dtype == np.float16
        assert archive["brain"].dtype == np.float32
        assert archive["brain"].tolist() == [1.5]
        assert archive["names"].tolist() == ["a", "b"]
        assert archive["rate"] == 24.0
    assert [entry.name for entry in file.parent.iterdir()] == ["result.npz"]
    save_npz(tmp_path / "zeros.npz", zeros=torch.zeros(10_000))
    assert (tmp_path / "zeros.npz").stat().st_size < 2_000  # compressed


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a", object(), "a: got object"),
        ("a", {"b": 1}, "a: got dict"),
        ("a", [[1], [1, 2]], "a: got"),
        ("file", torch.zeros(1), "file: got"),
        ("allow_pickle", torch.zeros(1), "allow_pickle: got"),
    ],
)
def test_bad_npz(tmp_path: Path, name: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        save_npz(tmp_path / "out.npz", **{name: value})
    with pytest.raises(InputError, match=r"ending in \.npz"):
        save_npz(tmp_path / "out.npy", a=torch.zeros(1))
    assert list(tmp_path.iterdir()) == []
