"""DAVIS-2016 as its authors distribute it: sequences with the mask of the moving object in every frame."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, SupportsIndex

import torch
from torch import Tensor

from gpuvos.data.atomic import PathLike, as_path
from gpuvos.data.images import read_image
from gpuvos.data.masks import read_mask
from gpuvos.errors import check_choice, fail

_SPLITS = ("train", "val", "trainval")
_RESOLUTIONS = ("480p", "1080p")
_LINE = re.compile(
    r"/?(?P<image>JPEGImages/(?P<resolution>[^/\s]+)/(?P<name>[^/\s]+)/(?P<frame>[^/\s]+)\.jpg)\s+"
    r"/?(?P<annotation>Annotations/(?P=resolution)/(?P=name)/(?P=frame)\.png)"
)


class DavisSequence(NamedTuple):
    """One sequence."""

    name: str  # such as "bear"
    frames: Tensor  # [T, 3, H, W] uint8 RGB
    mask: Tensor  # [T, H, W] bool, True on the object; several objects are merged
    names: tuple[str, ...]  # T file names without suffix, such as "00000"


class _Frame(NamedTuple):
    image: Path
    annotation: Path


class Davis2016:
    """The sequences of DAVIS-2016, read from disk one at a time when they are asked for.

    The folder has the layout of the official archive::

        ROOT/JPEGImages/480p/bear/00000.jpg      a frame
        ROOT/Annotations/480p/bear/00000.png     its mask
        ROOT/ImageSets/480p/train.txt            one line a frame with both paths:
            /JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png

    That every frame and every mask of the split is there, and none that the split leaves out, is checked at
    once: numbers measured on half a data set would look like any others.

    Args:
        root: the folder with ``ImageSets``, ``JPEGImages`` and ``Annotations``.
        split: ``train`` (30 sequences), ``val`` (20) or ``trainval``.
        resolution: ``480p`` or ``1080p``.

    Raises:
        InputError: if a file or folder is missing or superfluous, or the split file is not as above; the
            message names it. Reading a sequence raises one if an image is damaged or differs in size.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> split = root / "ImageSets" / "480p" / "train.txt"
        >>> image = root / "JPEGImages" / "480p" / "bear" / "00000.jpg"
        >>> annotation = root / "Annotations" / "480p" / "bear" / "00000.png"
        >>> for path in (split, image, annotation):
        ...     path.parent.mkdir(parents=True)
        >>> Image.new("RGB", (8, 6)).save(image)
        >>> Image.new("L", (8, 6)).save(annotation)
        >>> lines = f"/{image.relative_to(root)} /{annotation.relative_to(root)}"
        >>> _ = split.write_text(lines)
        >>> davis = Davis2016(root, split="train")
        >>> davis.names
        ('bear',)
        >>> davis["bear"].frames.shape, davis[0].mask.shape
        (torch.Size([1, 3, 6, 8]), torch.Size([1, 6, 8]))
    """

    def __init__(self, root: PathLike, *, split: str = "train", resolution: str = "480p") -> None:
        check_choice("split", split, _SPLITS)
        check_choice("resolution", resolution, _RESOLUTIONS)
        self.root = as_path("root", root)
        self.split = split
        self.resolution = resolution
        self._sequences = _read_split(self.root, split, resolution)
        for frames in self._sequences.values():
            _check_folder([frame.image for frame in frames])
            _check_folder([frame.annotation for frame in frames])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sequences in the order of the split file."""
        return tuple(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[DavisSequence]:
        return (self[name] for name in self._sequences)

    def __getitem__(self, key: str | SupportsIndex) -> DavisSequence:
        """Reads the sequence of a name, or of a number from 0 (negative ones count from the end)."""
        name = key if isinstance(key, str) else self._name(key)
        if name not in self._sequences:
            raise fail("key", repr(key), f"a sequence of {self!r}: {', '.join(self._sequences)}")
        frames = self._sequences[name]
        images, masks = _read_frames(frames)
        return DavisSequence(name, images, masks, tuple(frame.image.stem for frame in frames))

    def __repr__(self) -> str:
        return f"Davis2016('{self.root}', split='{self.split}', resolution='{self.resolution}')"

    def _name(self, key: SupportsIndex) -> str:
        wanted = f"the name of a sequence or a number from 0 to {len(self) - 1}"
        try:
            number = operator.index(key)
        except TypeError:
            raise fail("key", type(key).__name__, wanted) from None
        if not -len(self) <= number < len(self):
            raise fail("key", str(number), wanted)
        return self.names[number]


def _read_split(root: Path, split: str, resolution: str) -> dict[str, list[_Frame]]:
    """The frames of every sequence, in the order of the split file."""
    file = root / "ImageSets" / resolution / f"{split}.txt"
    layout = "the folder of DAVIS-2016 with ImageSets, JPEGImages and Annotations"
    if not root.is_dir():
        raise fail("root", f"'{root}', which is no folder", layout)
    if not file.is_file():
        remedy = "the archives of other DAVIS editions name their splits differently"
        raise fail("root", f"'{root}' without the split file '{file}'", layout, remedy)
    sequences: dict[str, dict[str, _Frame]] = {}
    for number, line in enumerate(file.read_text("utf-8-sig", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or match["resolution"] != resolution:
            wanted = f"'/JPEGImages/{resolution}/NAME/00000.jpg /Annotations/{resolution}/NAME/00000.png'"
            raise fail("root", f"line {number} of '{file}', {line.strip()!r}", wanted)
        frames = sequences.setdefault(match["name"], {})
        if match["frame"] in frames:
            raise fail("root", f"line {number} of '{file}', {line.strip()!r} again", "every frame once")
        frames[match["frame"]] = _Frame(root / match["image"], root / match["annotation"])
    if not sequences:
        raise fail("root", f"'{file}', which is empty", "a split file with a line for every frame")
    return {name: list(frames.values()) for name, frames in sequences.items()}


def _check_folder(listed: list[Path]) -> None:
    """Raises InputError unless the folder of the listed files holds these and no others of their suffix."""
    folder, suffix = listed[0].parent, listed[0].suffix
    wanted = f"the {len(listed)} files that the split file lists for '{folder}'"
    if not folder.is_dir():
        raise fail("root", f"no folder '{folder}'", wanted, "unpack the archive completely")
    present = {path.name for path in folder.iterdir() if path.suffix == suffix and path.name[0] != "."}
    names = {path.name for path in listed}
    for files, state in ((names - present, "missing"), (present - names, "superfluous")):
        if files:
            got = f"{len(files)} {state}, first '{folder / min(files)}'"
            raise fail("root", got, wanted, "unpack the archive anew into an empty folder")


def _read_frames(frames: list[_Frame]) -> tuple[Tensor, Tensor]:
    """Images ``[T, 3, H, W]`` uint8 and masks ``[T, H, W]`` bool."""
    first, (height, width) = read_image(frames[0].image)
    images = first.new_empty(len(frames), 3, height, width)
    masks = torch.empty(len(frames), height, width, dtype=torch.bool)
    for number, frame in enumerate(frames):
        image = read_image(frame.image)[0] if number else first
        ids = read_mask(frame.annotation)
        for path, size in ((frame.image, image.shape[1:]), (frame.annotation, ids.shape)):
            if tuple(size) != (height, width):
                wanted = f"{height} x {width} like '{frames[0].image}'"
                raise fail("root", f"'{path}' of {size[0]} x {size[1]} pixels", wanted)
        images[number] = image
        masks[number] = ids != 0
    return images, masks
