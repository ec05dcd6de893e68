"""FBMS-59 as its authors distribute it: sequences with masks of all moving objects in some of the frames."""

from __future__ import annotations

import re
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from gpuvos.data.atomic import PathLike, as_path
from gpuvos.data.datasets.base import LabelledSequence, SequenceDataset, check_same_size
from gpuvos.data.images import load_image, natural_key, read_image
from gpuvos.errors import InputError, check_choice, fail

Split = Literal["train", "test"]
_FOLDERS = {"train": "Trainingset", "test": "Testset"}
_SUFFIXES = (".ppm", ".png", ".pgm")  # in this order: a pgm beside a ppm holds weights of its pixels
_COUNTS = {"train": 29, "test": 30}
_BMS_COUNT = 26
_FRAMES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp")
_WHITE = 0xFFFFFF


class _Annotation(NamedTuple):
    frame: int
    file: Path
    background: int  # colour 0xRRGGBB, or grey value of a grey image
    listed: tuple[int, ...] = ()  # all colours that the definition lists; none if nothing is known of them


class Fbms59(SequenceDataset):
    """The sequences of FBMS-59, read from disk one at a time when they are asked for.

    The folder has the layout of the official archives::

        ROOT/Testset/camel01/camel01_0001.jpg                       a frame
        ROOT/Testset/camel01/GroundTruth/camel01_0001_gt.ppm        masks of some frames, one colour a region,
        ROOT/Testset/cars1/GroundTruth/cars1_01.pgm                 or one grey value a region
        ROOT/Testset/camel01/GroundTruth/camel01Def.dat             which frames, and the colours of the regions

    BMS-26 is read as well: frames (jpg or ppm), masks (pgm) and ``Def.dat`` in one folder a sequence. A warning says
    where sequences of the archive are missing, and where a mask holds values that its ``Def.dat`` does not list.

    All objects are merged: what has not the colour of the background is the object. The background is region 0 of the
    ``Def.dat`` file; where there is none it is white in colour images and black in grey ones, and a mask belongs to
    the frame of its name (without ``_gt``). Of a mask in several formats the ppm counts; files with ``PROB`` in their
    names do not.

    Args:
        root: the folder with ``Trainingset`` and ``Testset``, one of these two, or that of BMS-26.
        split: ``train`` (29 sequences) or ``test`` (30).

    Raises:
        InputError: if the folder, a sequence's frames or its ground truth are missing, or they do not fit each other;
            the message names the file. Reading a sequence raises one if an image is damaged or differs in size.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp()) / "Testset" / "camel01"
        >>> (folder / "GroundTruth").mkdir(parents=True)
        >>> Image.new("RGB", (8, 6)).save(folder / "camel01_0001.jpg")
        >>> Image.new("RGB", (8, 6), "white").save(folder / "GroundTruth" / "camel01_0001_gt.ppm")
        >>> camel = Fbms59(folder.parents[1], split="test")["camel01"]
        >>> camel.annotated, camel.mask.any().item()
        ((0,), False)
    """

    def __init__(self, root: PathLike, *, split: Split = "test") -> None:
        check_choice("split", split, get_args(Split))
        self.root, self.split = as_path("root", root), split
        folder, count = _find(self.root, split)
        found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        if not found:
            raise fail("root", f"'{folder}', which holds no folder", "one folder a sequence")
        if len(found) < count:
            partial = f"'{folder}' holds {len(found)} of {count} sequences: a table of them is partial"
            warnings.warn(partial, stacklevel=2)
        self._frames: dict[str, list[Path]] = {}
        self._annotations: dict[str, list[_Annotation]] = {}
        for path in sorted(found, key=lambda path: natural_key(path.name)):
            frames = _frames(path)
            self._frames[path.name] = frames
            self._annotations[path.name] = _annotations(path, frames)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sequences, sorted."""
        return tuple(self._frames)

    def read(self, name: str) -> LabelledSequence:
        """Reads the sequence of a name that exists."""
        files, annotations = self._frames[name], self._annotations[name]
        frames = [read_image(file)[0] for file in files]
        masks = [_read(annotation) for annotation in annotations]
        masked = [annotation.file for annotation in annotations]
        sizes = [tuple(frame.shape[1:]) for frame in frames] + [tuple(mask.shape) for mask in masks]
        for file, size in zip(files + masked, sizes, strict=True):
            check_same_size(file, size, sizes[0], files[0])
        annotated = tuple(annotation.frame for annotation in annotations)
        names = tuple(file.stem for file in files)
        return LabelledSequence(name, torch.stack(frames), torch.stack(masks), annotated, names)

    def __repr__(self) -> str:
        return f"Fbms59('{self.root}', split='{self.split}')"


def _find(root: Path, split: str) -> tuple[Path, int]:
    """The folder of the sequences and how many the archive has: that of the split, or BMS-26 with all of them."""
    for folder in (root / _FOLDERS[split], root):
        if folder.is_dir() and folder.name == _FOLDERS[split]:
            return folder, _COUNTS[split]
    if next(root.glob("*/*Def.dat"), None) is not None:
        return root, _BMS_COUNT
    wanted = "the folder of FBMS-59 with Trainingset and Testset, or that of BMS-26"
    raise fail("root", f"'{root}' without '{_FOLDERS[split]}'", wanted)


def _frames(folder: Path) -> list[Path]:
    """The frames of a sequence in natural order. Masks that lie beside them, as in BMS-26, are none."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in _FRAMES and not file.name.startswith(".")]
    frames = [file for file in files if not file.stem.endswith("_gt") and "PROB" not in file.name]
    if not frames:
        raise fail(
            "root", f"'{folder}' without frames", f"images ({', '.join(_FRAMES)}) in it", "unpack the archive anew"
        )
    kinds = {file.suffix.lower() for file in frames}
    best = next(suffix for suffix in _FRAMES if suffix in kinds)  # a sequence unpacked twice is in two formats
    return sorted((file for file in frames if file.suffix.lower() == best), key=lambda file: natural_key(file.name))


def _annotations(sequence: Path, frames: list[Path]) -> list[_Annotation]:
    """Masks of a sequence, by ascending frame."""
    folder = sequence / "GroundTruth"
    suffixes: tuple[str, ...] = _SUFFIXES
    if not folder.is_dir():
        if next(sequence.glob("*Def.dat"), None) is None:
            raise fail("root", f"no folder '{folder}'", "GroundTruth in every sequence", "unpack the archive anew")
        folder, suffixes = sequence, (".pgm",)
    files = _masks(folder, suffixes)
    definitions = sorted(folder.glob("*Def.dat"))
    if definitions:
        found = _defined(definitions[0], files, frames)
    else:
        numbers = {frame.stem: number for number, frame in enumerate(frames)}
        odd = sorted(set(files) - set(numbers))
        if odd:
            raise fail("root", f"'{files[odd[0]]}' without a frame of its name", f"one of {len(frames)} frames")
        found = [_Annotation(numbers[stem], file, _background(file)) for stem, file in files.items()]
    if not found:
        raise fail("root", f"no mask in '{folder}'", "ppm, pgm or png files", "unpack the archive anew")
    return sorted(found)


def _masks(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Mask files by the names of their frames."""
    files: dict[str, Path] = {}
    for suffix in suffixes:
        for file in sorted(folder.glob(f"*{suffix}")):
            if "PROB" not in file.name and not file.name.startswith("."):
                files.setdefault(file.stem.removesuffix("_gt"), file)
    return files


def _defined(definition: Path, files: dict[str, Path], frames: list[Path]) -> list[_Annotation]:
    """What a Def.dat file lists: a value follows every line that ends in a colon."""
    entries = _entries(definition)
    colours = [int(value) for key, value in entries if key.startswith("scale of region")]
    numbers = [int(value) for key, value in entries if key == "frame number"]
    names = [value for key, value in entries if key == "file name"]
    if not colours or not names or len(numbers) != len(names):
        wanted = "'Scale of region 0', and 'Frame number' and 'File name' of every mask"
        raise fail("root", f"'{definition}'", wanted, "unpack the archive anew")
    found = []
    for number, name in zip(numbers, names, strict=True):
        file = files.get(Path(name).stem.removesuffix("_gt"))
        if file is None:
            raise fail("root", f"no mask '{definition.with_name(name)}'", f"what '{definition}' lists")
        if not 0 <= number < len(frames):
            raise fail("root", f"frame {number} in '{definition}'", f"numbers of the {len(frames)} frames")
        # The colours that are listed are those of the listed file, and a file of another format has its own.
        same = file.suffix == Path(name).suffix
        listed = tuple(colours) if same else ()
        found.append(_Annotation(number, file, colours[0] if same else _background(file), listed))
    return found


def _entries(definition: Path) -> list[tuple[str, str]]:
    """Pairs of a key, in lower case without its colon, and the value on the next line."""
    lines = [line.strip() for line in definition.read_text("utf-8", errors="replace").splitlines()]
    pairs = [(line[:-1].strip().lower(), value) for line, value in pairwise(lines) if line.endswith(":")]
    for key, value in pairs:
        if (key.startswith("scale of region") or key == "frame number") and not re.fullmatch(r"\d+", value):
            raise InputError(f"root: got {value!r} after '{key}' in '{definition}', wanted a number")
    return pairs


def _background(file: Path) -> int:
    return _WHITE if file.suffix == ".ppm" else 0


def _read(annotation: _Annotation) -> Tensor:
    """Mask ``[H, W]`` bool of everything that has not the colour of the background."""
    with load_image(annotation.file) as image:
        size = (image.height, image.width)
        if image.mode in ("L", "1", "P", "I", "I;16"):  # one value a pixel, a palette's or a grey one
            grey = image if image.mode == "P" else image.convert("L")
            values = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).view(size).long()
            background, listed = annotation.background & 255, {colour & 255 for colour in annotation.listed}
        else:
            pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).view(*size, 3)
            values = pixels.long() @ torch.tensor([1 << 16, 1 << 8, 1])
            background, listed = _colour(annotation.background), {_colour(code) for code in annotation.listed}
    _warn_of_unlisted(annotation.file, values, listed)
    return values != background


def _colour(code: int) -> int:
    """The colour 0xRRGGBB of a code, which below 256 is a grey value."""
    return code if code > 255 else code * 0x010101


def _warn_of_unlisted(file: Path, values: Tensor, listed: set[int]) -> None:
    """Warns of regions that the definition forgot (a whole person of marple7 among them); they count as object."""
    found, count = torch.unique(values, return_counts=True)
    odd = [f"{v} ({n} pixels)" for v, n in zip(found.tolist(), count.tolist(), strict=True) if v not in listed]
    if listed and odd:
        text = f"'{file}' holds values that its definition does not list, taken for the object: {', '.join(odd)}"
        warnings.warn(text, stacklevel=5)
