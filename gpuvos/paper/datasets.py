"""Labelled videos of any benchmark in one form, and the frames that its protocol counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from gpuvos.data.atomic import PathLike
from gpuvos.data.datasets.base import SequenceDataset
from gpuvos.data.datasets.davis import Davis2016
from gpuvos.data.datasets.davis2017 import Davis2017
from gpuvos.data.datasets.davis_attributes import read_attributes
from gpuvos.data.datasets.fbms import Fbms59
from gpuvos.data.datasets.folders import FolderPairs
from gpuvos.data.datasets.segtrack import SegTrack2
from gpuvos.errors import check_choice, fail
from gpuvos.metrics import davis2016_frames

DATASETS = ("davis2016", "davis2017", "fbms59", "segtrack2")
SPLITS = ("train", "val", "test", "trainval")


class LabelledVideo(NamedTuple):
    """A video and the true masks of some of its frames."""

    name: str
    frames: Tensor  # [T, 3, H, W] uint8
    mask: Tensor  # [A, H, W] bool, True on the object; several objects are merged
    annotated: tuple[int, ...]  # A frame numbers, ascending
    counted: slice  # of the A masks, those that the benchmark's protocol counts
    names: tuple[str, ...] = ()  # of the frames, T file names without suffix
    ids: Tensor | None = None  # [A, H, W] uint8, 0 and the number of the object, of DAVIS-2017

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return (self.frames.shape[-2], self.frames.shape[-1])


class Dataset(Protocol):
    """What the runner needs of a dataset."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sequences."""
        ...

    def __getitem__(self, name: str) -> LabelledVideo:
        """Reads one sequence."""
        ...


class Benchmark:
    """A dataset by its name, its sequences as ``LabelledVideo``.

    Args:
        name: ``davis2016``, ``davis2017``, ``fbms59`` or ``segtrack2``.
        root: its folder in the official layout.
        split: of DAVIS ``train`` or ``val``, of DAVIS-2016 also ``trainval``; of FBMS-59 ``train`` or
            ``test``; SegTrack-v2 has none.

    Raises:
        InputError: a name or split that does not exist, or a folder that is not complete.
    """

    def __init__(self, name: str, root: PathLike, *, split: str = "train") -> None:
        check_choice("dataset", name, DATASETS)
        self.name, self.split = name, split
        self.attributes: dict[str, tuple[str, ...]] = {}  # of the sequences, where the folder of DAVIS tells them
        self._data: SequenceDataset
        chosen: Any = split  # every dataset checks its own
        if name in ("davis2016", "davis2017"):
            self._data = (Davis2016 if name == "davis2016" else Davis2017)(root, split=chosen)
            self.attributes = read_attributes(root)
        elif name == "fbms59":
            self._data = Fbms59(root, split=chosen)
        else:
            self._data = SegTrack2(root)
            self.split = "all"

    @classmethod
    def of_folders(cls, frames: PathLike, masks: PathLike) -> Benchmark:
        """Anybody's videos: a folder of frames and one of masks, see ``FolderPairs``; every mask counts."""
        made = cls.__new__(cls)
        made.name, made.split, made.attributes = "folders", "all", {}
        made._data = FolderPairs(frames, masks)
        return made

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sequences in the order of the tables."""
        return self._data.names

    def __iter__(self) -> Iterator[LabelledVideo]:
        return (self[name] for name in self.names)

    def __getitem__(self, name: str) -> LabelledVideo:
        """Reads the sequence of that name."""
        sequence = self._data[name]
        count = len(sequence.frames)
        if self.name == "davis2016" and count < 3:
            wanted = "at least three: the first and the last are not counted"
            raise fail("root", f"{count} frames in '{name}'", wanted)
        counted = davis2016_frames(count) if self.name == "davis2016" else slice(0, len(sequence.annotated))
        return LabelledVideo(*sequence[:4], counted, sequence.names, sequence.ids)
