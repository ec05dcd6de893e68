"""Anybody's videos: a folder of frames and a folder of masks, or one of each a sequence."""

from __future__ import annotations

from pathlib import Path

import torch

from gpuvos.data.atomic import PathLike, as_path
from gpuvos.data.datasets.base import LabelledSequence, SequenceDataset, check_same_size
from gpuvos.data.images import list_images, natural_key, read_image
from gpuvos.data.masks import read_mask
from gpuvos.errors import fail


class FolderPairs(SequenceDataset):
    """Sequences of any folder pair: ``FRAMES/*.jpg`` with ``MASKS/*.png``, or ``FRAMES/NAME/*`` with ``MASKS/NAME/*``.

    A mask belongs to the frame of its name without suffix. Frames without a mask are not scored. Masks are read as
    ``gpuvos.data.read_mask`` reads them, and all objects are merged.

    Args:
        frames: folder of images, or of one folder a sequence.
        masks: folder of masks in the same arrangement; folders of frames without one of masks are left out.

    Raises:
        InputError: if a folder or a frame is missing, or nothing has a mask. Reading a sequence raises one if an image
            is damaged or differs in size.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for kind, name in (("frames", "1.png"), ("frames", "2.png"), ("masks", "2.png")):
        ...     (root / kind).mkdir(exist_ok=True)
        ...     Image.new("L", (8, 6)).save(root / kind / name)
        >>> FolderPairs(root / "frames", root / "masks")["frames"].annotated
        (1,)
    """

    def __init__(self, frames: PathLike, masks: PathLike) -> None:
        images, truth = as_path("frames", frames), as_path("masks", masks)
        for argument, folder in (("frames", images), ("masks", truth)):
            if not folder.is_dir():
                raise fail(argument, f"'{folder}', which is no folder", "a folder of images, or of folders of images")
        folders = [path for path in images.iterdir() if path.is_dir() and (truth / path.name).is_dir()]
        pairs = [(path, truth / path.name) for path in sorted(folders, key=lambda path: natural_key(path.name))]
        self._sequences = {one.name: _match(one, other) for one, other in pairs or [(images, truth)]}
        self.root = images

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sequences, sorted."""
        return tuple(self._sequences)

    def read(self, name: str) -> LabelledSequence:
        """Reads the sequence of a name that exists."""
        files, masks = self._sequences[name]
        frames = [read_image(file)[0] for file in files]
        truth = [read_mask(mask) != 0 for mask in masks.values()]
        size = tuple(frames[0].shape[1:])
        for file, frame in zip(files, frames, strict=True):
            check_same_size(file, tuple(frame.shape[1:]), size, files[0])
        for file, mask in zip(masks.values(), truth, strict=True):
            check_same_size(file, tuple(mask.shape), size, files[0])
        names = tuple(file.stem for file in files)
        return LabelledSequence(name, torch.stack(frames), torch.stack(truth), tuple(masks), names)

    def __repr__(self) -> str:
        return f"FolderPairs('{self.root}')"


def _match(images: Path, truth: Path) -> tuple[list[Path], dict[int, Path]]:
    """Frames, and masks by the numbers of their frames, ascending."""
    frames = list_images(images)
    numbers = {frame.stem: number for number, frame in enumerate(frames)}
    masks = list_images(truth)
    odd = [mask for mask in masks if mask.stem not in numbers]
    if odd:
        raise fail(
            "masks", f"'{odd[0]}' without a frame of its name", f"names of the {len(frames)} frames in '{images}'"
        )
    return frames, dict(sorted((numbers[mask.stem], mask) for mask in masks))
