"""SegTrack-v2 as its authors distribute it: sequences with a mask of every object in every frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from gpuvos.data.atomic import PathLike, as_path
from gpuvos.data.images import list_images, load_image, natural_key, read_image
from gpuvos.errors import fail


class SegTrackSequence(NamedTuple):
    """One sequence."""

    name: str  # such as "birdfall"
    frames: Tensor  # [T, 3, H, W] uint8 RGB
    mask: Tensor  # [T, H, W] bool, True on any of the objects
    names: tuple[str, ...]  # T file names without suffix


class SegTrack2:
    """The sequences of SegTrack-v2, read from disk one at a time when they are asked for.

    The folder has the layout of the official archive; images are png, bmp or jpg, and the mask of a frame has its
    name (with any suffix)::

        ROOT/JPEGImages/birdfall/birdfall_00018.png       a frame
        ROOT/GroundTruth/birdfall/birdfall_00018.png      its mask, where there is one object
        ROOT/GroundTruth/bmx/1/bmx_06668.png              where there are several: one folder an object,
        ROOT/GroundTruth/bmx/2/bmx_06668.png              merged by logical or

    Mask values of 128 or more are the object. Where no mask has the name of a frame, masks and frames are paired in
    the order of their names; there must then be as many of them.

    Args:
        root: the folder with ``JPEGImages`` and ``GroundTruth``.

    Raises:
        InputError: if a folder or file is missing or superfluous; the message names it. Reading a sequence raises
            one if an image is damaged or differs in size.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for folder in ("JPEGImages/bmx", "GroundTruth/bmx/1", "GroundTruth/bmx/2"):
        ...     (root / folder).mkdir(parents=True)
        ...     Image.new("RGB", (8, 6)).save(root / folder / "bmx_0001.png")
        >>> SegTrack2(root)["bmx"].mask.shape
        torch.Size([1, 6, 8])
    """

    def __init__(self, root: PathLike) -> None:
        self.root = as_path("root", root)
        images, truth = self.root / "JPEGImages", self.root / "GroundTruth"
        for folder in (images, truth):
            if not folder.is_dir():
                layout = "the folder of SegTrack-v2 with JPEGImages and GroundTruth"
                raise fail("root", f"'{self.root}' without '{folder.name}'", layout)
        frames, masks = ({path.name for path in folder.iterdir() if _shown(path)} for folder in (images, truth))
        for names, state in ((frames - masks, "without ground truth"), (masks - frames, "without frames")):
            if names:
                raise fail(
                    "root",
                    f"sequences {state}: {', '.join(sorted(names))}",
                    f"the same folders in '{images}' and '{truth}'",
                    "unpack the archive anew",
                )
        if not frames:
            raise fail("root", f"'{images}', which holds no folder", "one folder a sequence")
        ordered = sorted(frames, key=natural_key)
        self._sequences = {name: _pair(images / name, truth / name) for name in ordered}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sequences, sorted."""
        return tuple(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[SegTrackSequence]:
        return (self[name] for name in self._sequences)

    def __getitem__(self, name: str) -> SegTrackSequence:
        """Reads the sequence of that name."""
        if name not in self._sequences:
            raise fail("name", repr(name), f"one of {', '.join(self._sequences)}")
        pairs = self._sequences[name]
        frames = [read_image(image)[0] for image, _ in pairs]
        size = (frames[0].shape[1], frames[0].shape[2])
        for (image, _), frame in zip(pairs, frames, strict=True):
            _check_size(image, (frame.shape[1], frame.shape[2]), size)
        masks = [torch.stack([_read(file, size) for file in files]).any(0) for _, files in pairs]
        return SegTrackSequence(name, torch.stack(frames), torch.stack(masks), tuple(image.stem for image, _ in pairs))

    def __repr__(self) -> str:
        return f"SegTrack2('{self.root}')"


def _shown(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _pair(images: Path, truth: Path) -> list[tuple[Path, list[Path]]]:
    """Every frame with its masks, one an object."""
    frames = list_images(images)
    objects = sorted((path for path in truth.iterdir() if _shown(path)), key=lambda path: natural_key(path.name))
    columns = [_match(frames, list_images(folder), folder) for folder in objects or [truth]]
    return [(frame, list(masks)) for frame, masks in zip(frames, zip(*columns, strict=True), strict=True)]


def _match(frames: list[Path], masks: list[Path], folder: Path) -> list[Path]:
    """The mask of every frame, by name or else by order."""
    by_name = {mask.stem: mask for mask in masks}
    stems = {frame.stem for frame in frames}
    if len(masks) == len(frames) and (stems == set(by_name) or not stems & set(by_name)):
        return [by_name.get(frame.stem, mask) for frame, mask in zip(frames, masks, strict=True)]
    wanted = f"a mask for each of the {len(frames)} frames in '{folder}'"
    odd = sorted(stems ^ set(by_name))
    got = f"{len(masks)} masks; without partner, for example: '{odd[0]}'"
    raise fail("root", got, wanted, "unpack the archive anew into an empty folder")


def _read(file: Path, size: tuple[int, int]) -> Tensor:
    """Mask ``[H, W]`` bool of one object."""
    with load_image(file) as image:
        _check_size(file, (image.height, image.width), size)
        grey = image.convert("L")
        return torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).view(size) >= 128


def _check_size(file: Path, got: tuple[int, int], wanted: tuple[int, int]) -> None:
    if got != wanted:
        first = f"{wanted[0]} x {wanted[1]} like the first frame of its sequence"
        raise fail("root", f"'{file}' of {got[0]} x {got[1]} pixels", first)
