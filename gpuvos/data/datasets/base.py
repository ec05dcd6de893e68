"""What the datasets share: one type of a labelled sequence, and sequences by name or number."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, SupportsIndex

import torch
from torch import Tensor

from gpuvos.data.images import read_image
from gpuvos.errors import fail


class LabelledSequence(NamedTuple):
    """The frames of one sequence, and the true masks of some or all of them."""

    name: str  # such as "bear"
    frames: Tensor  # [T, 3, H, W] uint8 RGB
    mask: Tensor  # [A, H, W] bool, True on the object; several objects are merged
    annotated: tuple[int, ...]  # A numbers of the frames that have masks, ascending
    names: tuple[str, ...]  # T file names without suffix, such as "00000"
    ids: Tensor | None = None  # [A, H, W] uint8, 0 and the number of the object; None where a data set merges them


class SequenceDataset(ABC):
    """Sequences that are read from disk one at a time when they are asked for."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the sequences in the order of tables."""

    @abstractmethod
    def read(self, name: str) -> LabelledSequence:
        """Reads the sequence of a name that exists."""

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[LabelledSequence]:
        return (self[name] for name in self.names)

    def __getitem__(self, key: str | SupportsIndex) -> LabelledSequence:
        """Reads the sequence of a name, or of a number from 0 (negative ones count from the end)."""
        name = key if isinstance(key, str) else self._name(key)
        if name not in self.names:
            raise fail("key", repr(key), f"a sequence of {self!r}: {', '.join(self.names)}")
        return self.read(name)

    def _name(self, key: SupportsIndex) -> str:
        wanted = f"the name of a sequence or a number from 0 to {len(self) - 1}"
        try:
            number = operator.index(key)
        except TypeError:
            raise fail("key", type(key).__name__, wanted) from None
        if not -len(self) <= number < len(self):
            raise fail("key", str(number), wanted)
        return self.names[number]


def read_frames(files: Sequence[Path]) -> Tensor:
    """Frames ``[T, 3, H, W]`` of a sequence; raises InputError unless all are as large as the first one."""
    frames = [read_image(file)[0] for file in files]
    for file, frame in zip(files, frames, strict=True):
        check_same_size(file, tuple(frame.shape[1:]), tuple(frames[0].shape[1:]), files[0])
    return torch.stack(frames)


def check_same_size(file: object, got: tuple[int, ...], wanted: tuple[int, ...], first: object) -> None:
    """Raises InputError unless a file has the size (H, W) of the first one of its sequence."""
    if tuple(got) != tuple(wanted):
        size = f"{wanted[0]} x {wanted[1]} like '{first}'"
        raise fail("root", f"'{file}' of {got[0]} x {got[1]} pixels", size)
