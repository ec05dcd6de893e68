"""SegTrack-v2 as its authors distribute it: sequences with a mask of every object in every frame."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor

from gpuvos.data.atomic import PathLike, as_path
from gpuvos.data.datasets.base import LabelledSequence, SequenceDataset, check_same_size, read_frames
from gpuvos.data.images import list_images, load_image, natural_key
from gpuvos.errors import fail

# Objects of the sequences with several of them; the other eight have one.
_OBJECTS = {"bmx": 2, "cheetah": 2, "drift": 2, "hummingbird": 2, "monkeydog": 2, "penguin": 6}
_SEQUENCES = 14


class SegTrack2(SequenceDataset):
    """The sequences of SegTrack-v2, read from disk one at a time when they are asked for.

    The folder has the layout of the official archive; images are png, bmp or jpg, and the mask of a frame has its
    name (with any suffix)::

        ROOT/JPEGImages/birdfall/birdfall_00018.png       a frame
        ROOT/GroundTruth/birdfall/birdfall_00018.png      its mask, where there is one object
        ROOT/GroundTruth/bmx/1/bmx_06668.png              where there are several: one folder an object,
        ROOT/GroundTruth/bmx/2/bmx_06668.png              merged by logical or

    Mask values of 128 or more are the object. Where no mask has the name of a frame, masks and frames are paired in
    the order of their names; there must then be as many of them. A warning names a tree with fewer than the 14
    sequences, and one whose objects seem to be merged already.

    Args:
        root: the folder with ``JPEGImages`` and ``GroundTruth``.

    Raises:
        InputError: if a folder, a file or an object is missing, or a file superfluous; the message names it. Reading a
            sequence raises one if an image is damaged or differs in size.

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
        if len(frames) < _SEQUENCES:
            partial = (
                f"'{self.root}' holds {len(frames)} of the {_SEQUENCES} sequences of SegTrack-v2: a table is partial"
            )
            warnings.warn(partial, stacklevel=2)
        ordered = sorted(frames, key=natural_key)
        self._sequences = {name: _pair(images / name, truth / name) for name in ordered}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sequences, sorted."""
        return tuple(self._sequences)

    def read(self, name: str) -> LabelledSequence:
        """Reads the sequence of a name that exists."""
        pairs = self._sequences[name]
        frames = read_frames([image for image, _ in pairs])
        size, first = (frames.shape[2], frames.shape[3]), pairs[0][0]
        masks = [torch.stack([_read(file, size, first) for file in files]).any(0) for _, files in pairs]
        names = tuple(image.stem for image, _ in pairs)
        return LabelledSequence(name, frames, torch.stack(masks), tuple(range(len(pairs))), names)

    def __repr__(self) -> str:
        return f"SegTrack2('{self.root}')"


def _shown(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _pair(images: Path, truth: Path) -> list[tuple[Path, list[Path]]]:
    """Every frame with its masks, one an object."""
    frames = list_images(images)
    objects = sorted((path for path in truth.iterdir() if _shown(path)), key=lambda path: natural_key(path.name))
    _check_objects(truth, [path.name for path in objects])
    columns = [_match(frames, list_images(folder), folder) for folder in objects or [truth]]
    return [(frame, list(masks)) for frame, masks in zip(frames, zip(*columns, strict=True), strict=True)]


def _check_objects(truth: Path, found: list[str]) -> None:
    """Raises InputError if objects of a sequence of several are missing; warns where they look merged."""
    count = _OBJECTS.get(truth.name, 1)
    missing = [str(number) for number in range(1, count + 1) if str(number) not in found]
    if not found:
        if count == 1:
            return
        merged = (
            f"'{truth}' has no folder an object: its masks are taken for the {count} objects of SegTrack-v2, merged"
        )
        warnings.warn(merged, stacklevel=5)
    elif missing:
        got = f"'{truth}' with {count - len(missing)} of {count} objects, without {', '.join(missing)}"
        remedy = "unpack the archive anew: J over a part of the objects is no number of SegTrack-v2"
        raise fail("root", got, f"folders 1 to {count}, one an object", remedy)


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


def _read(file: Path, size: tuple[int, int], first: Path) -> Tensor:
    """Mask ``[H, W]`` bool of one object."""
    with load_image(file) as image:
        check_same_size(file, (image.height, image.width), size, first)
        grey = image.convert("L")
        return torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).view(size) >= 128
