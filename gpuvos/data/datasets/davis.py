"""DAVIS-2016 as its authors distribute it: sequences with the mask of the moving object in every frame."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from gpuvos.data.atomic import PathLike, as_path
from gpuvos.data.datasets.base import LabelledSequence, SequenceDataset, check_same_size
from gpuvos.data.images import read_image
from gpuvos.data.masks import read_mask
from gpuvos.errors import check_choice, fail

Split = Literal["train", "val", "trainval"]
Resolution = Literal["480p", "1080p"]
_LINE = re.compile(
    r"/?(?P<image>JPEGImages/(?P<resolution>[^/\s]+)/(?P<name>[^/\s]+)/(?P<frame>[^/\s]+)\.jpg)\s+"
    r"/?(?P<annotation>Annotations/(?P=resolution)/(?P=name)/(?P=frame)\.png)"
)


class _Frame(NamedTuple):
    image: Path
    annotation: Path


class Davis2016(SequenceDataset):
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

    def __init__(self, root: PathLike, *, split: Split = "train", resolution: Resolution = "480p") -> None:
        check_choice("split", split, get_args(Split))
        check_choice("resolution", resolution, get_args(Resolution))
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

    def read(self, name: str) -> LabelledSequence:
        """Reads the sequence of a name that exists."""
        frames = self._sequences[name]
        images, masks = _read_frames(frames)
        names = tuple(frame.image.stem for frame in frames)
        return LabelledSequence(name, images, masks, tuple(range(len(frames))), names)

    def __repr__(self) -> str:
        return f"Davis2016('{self.root}', split='{self.split}', resolution='{self.resolution}')"


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
            check_same_size(path, tuple(size), (height, width), frames[0].image)
        images[number] = image
        masks[number] = ids != 0
    return images, masks
