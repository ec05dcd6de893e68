"""DAVIS-2017 as its authors distribute it: sequences with the masks of several objects in every frame."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Literal, get_args

import torch

from gpuvos.data.atomic import PathLike, as_path
from gpuvos.data.datasets.base import LabelledSequence, SequenceDataset, check_same_size, read_frames
from gpuvos.data.images import list_images
from gpuvos.data.masks import read_ids
from gpuvos.errors import check_choice, fail

Split = Literal["train", "val"]
Resolution = Literal["480p", "Full-Resolution"]
_UNSUPERVISED, _SEMISUPERVISED = "Annotations_unsupervised", "Annotations"
_VOID = 255


class Davis2017(SequenceDataset):
    """The sequences of DAVIS-2017, read from disk one at a time when they are asked for.

    The folder has the layout of the official archives::

        ROOT/JPEGImages/480p/judo/00000.jpg                    a frame
        ROOT/Annotations_unsupervised/480p/judo/00000.png      its mask, a palette image: 0, or the object's number
        ROOT/ImageSets/2017/val.txt                            one sequence a line

    ``Annotations_unsupervised`` holds the objects that the unsupervised challenge asks for. Where only ``Annotations``
    is there, those of the semi-supervised challenge are taken, with a warning: they are others.

    ``ids`` of a sequence holds the numbers, ``mask`` all objects together. As in the official toolkit the first frame
    says how many objects there are, higher numbers are left out (with a warning), and void pixels (255) are background.

    Args:
        root: the folder with ``ImageSets``, ``JPEGImages`` and the annotations.
        split: ``train`` (60 sequences) or ``val`` (30). The truth of the others is not published.
        resolution: ``480p`` or ``Full-Resolution``.

    Raises:
        InputError: if a file or folder is missing or superfluous; the message names it. Reading a sequence raises one
            if an image is damaged or differs in size.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from gpuvos.data.masks import write_mask
        >>> root = Path(tempfile.mkdtemp())
        >>> write_mask(root / "Annotations_unsupervised/480p/judo/00000.png", torch.tensor([[0, 1], [2, 2]]))
        >>> for folder in ("JPEGImages/480p/judo", "ImageSets/2017"):
        ...     (root / folder).mkdir(parents=True)
        >>> Image.new("RGB", (2, 2)).save(root / "JPEGImages/480p/judo/00000.jpg")
        >>> _ = (root / "ImageSets/2017/val.txt").write_text("judo")
        >>> Davis2017(root, split="val")["judo"].ids.tolist()
        [[[0, 1], [2, 2]]]
    """

    def __init__(self, root: PathLike, *, split: Split = "train", resolution: Resolution = "480p") -> None:
        check_choice("split", split, get_args(Split))
        check_choice("resolution", resolution, get_args(Resolution))
        self.root, self.split, self.resolution = as_path("root", root), split, resolution
        images = self.root / "JPEGImages" / resolution
        truth = _annotations(self.root, resolution)
        self._sequences = {name: _pairs(images / name, truth / name) for name in _read_split(self.root, split)}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sequences in the order of the split file."""
        return tuple(self._sequences)

    def read(self, name: str) -> LabelledSequence:
        """Reads the sequence of a name that exists."""
        pairs = self._sequences[name]
        frames = read_frames([image for image, _ in pairs])
        ids = [read_ids(mask) for _, mask in pairs]
        for (_, mask), numbers in zip(pairs, ids, strict=True):
            check_same_size(mask, tuple(numbers.shape), tuple(frames.shape[2:]), pairs[0][0])
        number = torch.stack(ids)
        number[number == _VOID] = 0
        count = int(number[0].max())
        late = number > count
        if late.any():
            place = int(late.flatten(1).any(1).int().argmax())
            text = f"'{pairs[place][1]}' shows object {int(number[place].max())}, the first frame {count}: left out"
            warnings.warn(text, stacklevel=2)
            number[late] = 0
        names = tuple(image.stem for image, _ in pairs)
        return LabelledSequence(name, frames, number != 0, tuple(range(len(pairs))), names, number)

    def __repr__(self) -> str:
        return f"Davis2017('{self.root}', split='{self.split}', resolution='{self.resolution}')"


def _annotations(root: Path, resolution: str) -> Path:
    """The folder of the masks."""
    if not root.is_dir():
        raise fail("root", f"'{root}', which is no folder", "the folder of DAVIS-2017 with ImageSets and JPEGImages")
    for name in (_UNSUPERVISED, _SEMISUPERVISED):
        folder = root / name / resolution
        if folder.is_dir():
            if name == _SEMISUPERVISED:
                text = f"'{root}' has no {_UNSUPERVISED}: the objects are those of the semi-supervised challenge"
                warnings.warn(text, stacklevel=3)
            return folder
    raise fail(
        "root", f"no folder '{root / _UNSUPERVISED / resolution}'", "the masks of DAVIS-2017", "unpack them there"
    )


def _read_split(root: Path, split: str) -> list[str]:
    """Names of sequences, in the order of the split file."""
    file = root / "ImageSets" / "2017" / f"{split}.txt"
    if not file.is_file():
        raise fail("root", f"'{root}' without the split file '{file}'", "a name of a sequence a line in it")
    names = file.read_text("utf-8-sig", errors="replace").split()
    if not names:
        raise fail("root", f"'{file}', which is empty", "a name of a sequence a line in it")
    for name in names:
        if not re.fullmatch(r"[\w-]+", name):
            raise fail("root", f"{name!r} in '{file}'", "a name of a sequence a line")
        if names.count(name) > 1:
            raise fail("root", f"{name!r} more than once in '{file}'", "every sequence once")
    return names


def _pairs(images: Path, truth: Path) -> list[tuple[Path, Path]]:
    """Every frame of a sequence with its mask."""
    for folder in (images, truth):
        if not folder.is_dir():
            raise fail(
                "root", f"no folder '{folder}'", "frames and masks of every listed sequence", "unpack them there"
            )
    frames, masks = ({file.stem: file for file in list_images(folder)} for folder in (images, truth))
    for one, other, state in ((frames, masks, "without a mask"), (masks, frames, "without a frame")):
        odd = sorted(set(one) - set(other))
        if odd:
            got = f"'{one[odd[0]]}' {state}"
            raise fail("root", got, "a mask for every frame", "unpack the archive anew into an empty folder")
    return [(frame, masks[stem]) for stem, frame in frames.items()]
