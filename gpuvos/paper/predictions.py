"""Masks that somebody else made, scored like gpuvos' own, and whether one method is better than another by chance."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from gpuvos.data.atomic import PathLike, as_path
from gpuvos.data.masks import read_ids, read_mask
from gpuvos.errors import fail

_MOST_PROPOSALS = 20  # of the unsupervised challenge of DAVIS-2017
_MOST_BYTES = 2**33  # of an archive, unpacked


class Predictions:
    """Masks of a method, one folder a sequence: ``FOLDER/bear/00000.png``, as DAVIS results are published.

    Args:
        folder: the folder of the sequences, or one that holds it somewhere below.
        names: sequences that must be there.

    Raises:
        InputError: if a sequence is missing, or several folders hold it. Reading raises one if a mask is missing or
            differs in size.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        if not folder.is_dir():
            raise fail("--predictions", f"'{folder}', which is no folder", "a folder or a zip archive of masks")
        places = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
        found = [place for place in places if (place / names[0]).is_dir() and "__MACOSX" not in place.parts]
        if len(found) > 1:
            several = ", ".join(f"'{place.relative_to(folder)}'" for place in found)
            raise fail("--predictions", f"'{folder}' with masks of {names[0]} in {several}", "one method", "name one")
        root = found[0] if found else folder
        missing = [name for name in names if not (root / name).is_dir()]
        if missing:
            raise fail("--predictions", f"'{root}' without {', '.join(missing)}", "a folder of masks a sequence")
        self.root = root

    def read(self, name: str, stems: Sequence[str], size: tuple[int, int]) -> Tensor:
        """Masks ``[A, H, W]`` bool of the frames of these names, all objects merged."""
        return self._stack(name, stems, size, read_mask) != 0

    def read_objects(self, name: str, stems: Sequence[str], size: tuple[int, int]) -> Tensor:
        """Masks ``[N, A, H, W]`` bool of the frames of these names, by the numbers 1 to N of the objects."""
        ids = self._stack(name, stems, size, read_ids)
        count = int(ids.max())
        if count > _MOST_PROPOSALS:
            got = f"object {count} in '{self.root / name}'"
            raise fail("--predictions", got, f"numbers up to {_MOST_PROPOSALS}, as the challenge has it")
        return ids == torch.arange(1, count + 1, dtype=torch.uint8)[:, None, None, None]

    def _stack(self, name: str, stems: Sequence[str], size: tuple[int, int], read: Callable[[Path], Tensor]) -> Tensor:
        masks = []
        for stem in stems:
            file = self.root / name / f"{stem}.png"
            mask = read(file)
            if tuple(mask.shape) != size:
                wanted = f"{size[0]} x {size[1]} like the truth"
                raise fail("--predictions", f"'{file}' of {mask.shape[0]} x {mask.shape[1]} pixels", wanted)
            masks.append(mask)
        return torch.stack(masks)


@contextmanager
def unpacked(path: PathLike) -> Iterator[Path]:
    """A folder as it is, a zip archive unpacked into a temporary folder."""
    source = as_path("--predictions", path)
    if source.suffix.lower() != ".zip":
        yield source
        return
    with TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(source) as archive:
                total = sum(entry.file_size for entry in archive.infolist())
                if total > _MOST_BYTES:
                    remedy = "unpack it and name the folder"
                    raise fail("--predictions", f"'{source}' of {total} bytes", f"at most {_MOST_BYTES}", remedy)
                archive.extractall(folder)
        except (OSError, zipfile.BadZipFile, RuntimeError) as error:  # RuntimeError: it has a password
            raise fail("--predictions", f"'{source}' ({error})", "a zip archive that can be read") from error
        yield Path(folder)


def sign_test(first: Sequence[float], second: Sequence[float]) -> tuple[int, int, float]:
    """Sequences on which the first is better, and the second, and the two-sided probability of that by chance.

    Ties are left out. The probability is that of at least so uneven a split of ``n`` throws of a coin.

    Example:
        >>> sign_test([0.9, 0.8, 0.7, 0.6], [0.5, 0.5, 0.5, 0.6])
        (3, 0, 0.25)
    """
    better = sum(one > other for one, other in zip(first, second, strict=True))
    worse = sum(one < other for one, other in zip(first, second, strict=True))
    count = better + worse
    tail = sum(math.comb(count, number) for number in range(min(better, worse) + 1)) / 2**count
    return better, worse, min(1.0, 2 * tail)
