"""Photographs with masks: which may be used, what their masks say, and all of them packed into one array.

A tree of stills holds ``index.csv`` (source, stem, width, height, mask_kind, licence) and, for every source, the
folder ``SOURCE`` with ``images/STEM.jpg`` and ``masks/STEM.png``. Kinds of mask:

==========  ===========================================================================================
 instance   0 background, 1..n objects
 binary     0 background, 1 the salient object
 segments   1..n regions; which of them are the object is known only from ``salient/STEM.png``, where there is one
 none       nothing is known
==========  ===========================================================================================
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from gpuvos.data.atomic import PathLike, as_path, atomic_folder
from gpuvos.data.images import load_image
from gpuvos.data.side_files import read_json
from gpuvos.errors import MOST_SIDE, check_choice, check_count, fail

Licences = Literal["free", "all"]
Split = Literal["train", "held-out"]

UNKNOWN = 255  # in packed masks; -1 in tensors
_MOST_OBJECTS = 250  # leaves numbers for objects that are pasted into the still
# Only some kinds of object are labelled in these: everything else may be an object too.
_PARTLY_LABELLED = {
    "coco_traffic",
    "coco_person100",
    "coco_oneperson",
    "via_wastebottles",
    "via_firetruck",
    "via_leaves",
}
_PARTS_OF_ONE = {"ccp"}  # segments are the parts of one object, and 0 is the background
# Every object of a source is of one class, so two of its photographs give two objects of a class.
ONE_CLASS = {
    "coco_oneperson",
    "coco_person100",
    "via_pigs",
    "via_coolfish",
    "via_leaves",
    "via_mugs",
    "via_wastebottles",
    "via_firetruck",
    "weizmann_horse",
    "human_vshenoy",
    "ccp",
}
_FREE = re.compile(
    r"cc0|public domain|no known copyright|free for any purpose|\bmit\b|\bapache\b"
    r"|cc by(-sa)?( \d\.\d)?\s*$|attribution(-sharealike)? license",
    re.IGNORECASE,
)
_NOT_FREE = re.compile(r"non-?commercial|\bnc\b|noderiv|\bnd\b|research", re.IGNORECASE)


class Still(NamedTuple):
    """A photograph and what is known of it."""

    image: Tensor  # [3, h, w] uint8
    instance: Tensor  # [h, w] uint8: UNKNOWN, 0 the rest, 1..250 objects or segments
    objectness: Tensor  # [h, w] uint8: UNKNOWN, 0 the rest, 1 object


class StillRecord(NamedTuple):
    """A row of the index."""

    source: str
    stem: str
    width: int
    height: int
    mask_kind: str
    licence: str

    @property
    def free(self) -> bool:
        """Whether the licence allows the weights any use."""
        return is_free(self.licence)

    @property
    def held_out(self) -> bool:
        """Whether the still is of the tenth that is never trained on: by a hash of its name, so for good."""
        digest = hashlib.sha256(f"{self.source}/{self.stem}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % 10 == 0


class StillSource(Protocol):
    """Anything that photographs come from."""

    @property
    def records(self) -> Sequence[StillRecord]:
        """Where the stills are from, in their order."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Still: ...


class StillsDataset:
    """The stills of a tree, or of a pack of one, that a licence and a split leave.

    Args:
        root: a tree as in the module's text, or a folder that ``pack`` wrote (much faster).
        licences: "free": rows whose licence lets the weights be used freely (CC BY, CC BY-SA, CC0, public domain,
            MIT, Apache, no known restrictions; for COCO it is the licence of the single photograph); "all".
        split: "train", or "held-out", a tenth of the stills.
        size: longer side to which stills read from a tree are reduced; those of a pack have theirs.

    Raises:
        InputError: a root that is neither, an unknown option, or nothing left.
    """

    def __init__(self, root: PathLike, *, licences: Licences = "all", split: Split = "train", size: int = 288) -> None:
        check_choice("licences", licences, get_args(Licences))
        check_choice("split", split, get_args(Split))
        check_count("size", size)
        self.root, self.size = as_path("root", root), size
        self._pixels: NDArray[np.uint8] | None = None
        if (self.root / "pixels.npy").is_file():
            records, offsets = _read_pack(self.root)
            self._pixels = _open_pixels(self.root / "pixels.npy", records)
        else:
            records = read_index(self.root)
            offsets = [0] * len(records)
        chosen = [
            (record, offset)
            for record, offset in zip(records, offsets, strict=True)
            if record.held_out == (split == "held-out") and (licences == "all" or record.free)
        ]
        if not chosen:
            raise fail("root", f"'{self.root}' without such stills", f"{licences} stills of the split {split}")
        self.records: list[StillRecord] = [record for record, _ in chosen]
        self._offsets = [offset for _, offset in chosen]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> Still:
        record = self.records[number]
        if self._pixels is None:
            planes = _decode(self.root, record, self.size)
        else:
            start, length = self._offsets[number], 5 * record.height * record.width
            planes = np.array(self._pixels[start : start + length]).reshape(5, record.height, record.width)
        tensor = torch.from_numpy(planes)
        return Still(tensor[:3], tensor[3], tensor[4])


def read_index(root: PathLike) -> list[StillRecord]:
    """The rows of ``index.csv``; the licence of a COCO row is that of its photograph.

    Raises:
        InputError: no such file, columns missing, or rows that are no stills.
    """
    folder = as_path("root", root)
    photographs = {
        (row["source"], row["stem"]): row["image_licence"]
        for row in _rows(folder / "COCO_ATTRIBUTIONS.csv", {"source", "stem", "image_licence"}, optional=True)
    }
    wanted = set(StillRecord._fields)
    return [
        _record(row, photographs.get((row["source"], row["stem"]), row["licence"]))
        for row in _rows(folder / "index.csv", wanted)
    ]


def is_free(licence: str) -> bool:
    """Whether a licence, as it is written in the index, lets weights trained on the still be used freely.

    Example:
        >>> is_free("CC BY-SA 2.0"), is_free("CC BY-NC 2.0"), is_free("no licence; image rights unknown")
        (True, False, False)
    """
    return bool(_FREE.search(licence)) and not _NOT_FREE.search(licence.replace("-", " ").replace("_", " "))


def licence_counts(records: Sequence[StillRecord]) -> dict[str, dict[str, int]]:
    """How many stills of every source have which licence."""
    counts = Counter((record.source, record.licence) for record in records)
    table: dict[str, dict[str, int]] = {}
    for (source, licence), count in sorted(counts.items()):
        table.setdefault(source, {})[licence] = count
    return table


def source_weights(records: Sequence[StillRecord]) -> Tensor:
    """Chance of every still ``[n]``: that of a source grows with the root of its size, so that none drowns the rest."""
    counts = Counter(record.source for record in records)
    weight = torch.tensor([counts[record.source] ** -0.5 for record in records])
    return weight / weight.sum()


def pack(
    root: PathLike, output: PathLike, *, size: int = 288, licences: Licences = "all", progress: bool = False
) -> int:
    """Decodes and reduces every still once: ``pixels.npy``, one array of bytes, and ``index.json``.

    Training reads the array through a memory map, so it takes neither decoding nor memory.

    Args:
        root: a tree as in the module's text.
        output: folder to write; it appears when everything is in it.
        size: longer side; smaller stills stay as they are.
        licences: "free" or "all", see ``StillsDataset``.
        progress: show a bar.

    Returns:
        The number of stills.

    Raises:
        InputError: a tree or an image that cannot be read, or an output folder that is not empty.
    """
    check_choice("licences", licences, get_args(Licences))
    check_count("size", size)
    folder = as_path("root", root)
    records = [record for record in read_index(folder) if licences == "all" or record.free]
    if not records:
        raise fail("root", f"'{folder}' without {licences} stills", "stills to pack")
    small = [_reduced(record, size) for record in records]
    total = sum(5 * record.width * record.height for record in small)
    with atomic_folder(output) as work:
        pixels = np.lib.format.open_memmap(work / "pixels.npy", mode="w+", dtype=np.uint8, shape=(total,))
        offset = 0
        for record in tqdm(records, desc="pack", disable=not progress):
            planes = _decode(folder, record, size)
            pixels[offset : offset + planes.size] = planes.ravel()
            offset += planes.size
        pixels.flush()
        (work / "index.json").write_text(json.dumps([list(record) for record in small]))
    return len(records)


def _read_pack(folder: Path) -> tuple[list[StillRecord], list[int]]:
    wanted, remedy = "a folder that pack wrote", "pack again"
    rows = read_json("root", folder / "index.json", wanted)
    kinds = (str, str, int, int, str, str)
    whole = isinstance(rows, list) and all(isinstance(row, list) and tuple(map(type, row)) == kinds for row in rows)
    if not whole or not all(0 < side < MOST_SIDE for row in rows for side in row[2:4]):
        raise fail("root", f"'{folder}' with a broken index.json", wanted, remedy)
    records = [StillRecord(*row) for row in rows]
    ends = np.cumsum([5 * record.width * record.height for record in records]).tolist()
    return records, [0, *ends[:-1]]


def _open_pixels(file: Path, records: Sequence[StillRecord]) -> NDArray[np.uint8]:
    """The array of a pack as a memory map; InputError where it is not that of the records."""
    wanted = sum(5 * record.width * record.height for record in records)
    try:
        pixels = np.load(file, mmap_mode="r")
    except Exception as error:  # a damaged header makes NumPy raise almost anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise fail("root", f"'{file}' ({reason})", "the array of a pack", "pack again") from error
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (wanted,):
        raise fail("root", f"'{file}'", f"an array of {wanted} bytes, as index.json says", "pack again")
    return pixels


def _rows(file: Path, columns: set[str], *, optional: bool = False) -> Iterator[dict[str, str]]:
    if optional and not file.is_file():
        return
    if not file.is_file():
        raise fail("root", f"'{file.parent}' without {file.name}", "a tree of stills or a folder that pack wrote")
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing, rows = columns - set(reader.fieldnames or ()), list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise fail("root", f"'{file}' ({error})", "a table in UTF-8") from error
    if missing:
        raise fail("root", f"'{file}' without {', '.join(sorted(missing))}", "all columns of the index")
    yield from rows


def _record(row: Mapping[str, str], licence: str) -> StillRecord:
    names, sides = (row["source"], row["stem"]), (row["width"], row["height"])
    if not all(side.isdecimal() and int(side) for side in sides):
        raise fail("root", f"{' x '.join(sides)} as the size of '{'/'.join(names)}'", "two whole numbers")
    if any(".." in PurePosixPath(name).parts or name.startswith("/") for name in names):
        raise fail("root", f"the still '{'/'.join(names)}'", "names below the root")
    return StillRecord(*names, int(sides[0]), int(sides[1]), row["mask_kind"], licence)


def _reduced(record: StillRecord, size: int) -> StillRecord:
    """The record with the size that the still is reduced to."""
    scale = min(1.0, size / max(record.width, record.height))
    return record._replace(width=max(1, round(scale * record.width)), height=max(1, round(scale * record.height)))


def _decode(root: Path, record: StillRecord, size: int) -> NDArray[np.uint8]:
    """Red, green, blue, instance, objectness ``[5, h, w]``."""
    from PIL import Image

    small = _reduced(record, size)
    shape = (small.width, small.height)
    folder = root / record.source
    planes = np.full((5, small.height, small.width), UNKNOWN, dtype=np.uint8)
    with load_image(folder / "images" / f"{record.stem}.jpg") as image:
        planes[:3] = np.asarray(image.convert("RGB").resize(shape, Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    if record.mask_kind == "none":
        return planes
    mask = _read_mask(folder / "masks" / f"{record.stem}.png", shape)
    salient = folder / "salient" / f"{record.stem}.png"
    if record.mask_kind == "segments" and record.source not in _PARTS_OF_ONE:
        planes[3] = np.where(mask > 0, mask, UNKNOWN)
        if salient.is_file():
            planes[4] = _read_mask(salient, shape) > 0
        return planes
    unmarked = UNKNOWN if record.source in _PARTLY_LABELLED else 0
    planes[3] = np.where(mask > 0, mask if record.mask_kind == "instance" else 1, unmarked)
    planes[4] = np.where(mask > 0, 1, unmarked)
    return planes


def _read_mask(file: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    with load_image(file) as mask:
        if mask.mode not in ("L", "P"):
            raise fail("root", f"'{file}' of mode {mask.mode}", "a mask of one 8-bit channel")
        labels = np.asarray(mask.resize(shape, Image.Resampling.NEAREST), dtype=np.uint8)
    if labels.max() > _MOST_OBJECTS:
        raise fail("root", f"'{file}' with the label {labels.max()}", f"labels up to {_MOST_OBJECTS}")
    return labels
