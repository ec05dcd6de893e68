"""Output that is either whole or absent: temporary names beside the target, renamed at the end.

A rename inside one folder is atomic, so a killed process leaves at most something called
``.NAME.partial-RANDOM`` beside the target, and the target itself is either the old one or the new one.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpuvos.errors import InputError, fail

PathLike = str | os.PathLike[str]

# What a disk answers that is full, over quota, read-only or broken.
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def as_path(argument: str, value: object) -> Path:
    """Returns ``value`` as a Path; raises InputError where it is neither text nor a path, or empty."""
    if not isinstance(value, str | os.PathLike):
        raise fail(argument, type(value).__name__, "a path (str or pathlib.Path)")
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise fail(argument, repr(text), "a path (str or pathlib.Path)")
    return Path(text)


def kind_of_path(argument: str, path: Path) -> str:
    """``"file"`` or ``"folder"``; raises InputError for what is absent, out of reach, or would block a reader."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise fail(argument, f"'{path}', which does not exist", "an existing file or folder") from None
    except OSError as error:  # a name that is too long, a loop of links, a folder that may not be entered
        raise fail(argument, f"'{path}' ({error.strerror})", "a file or folder that can be read") from error
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        remedy = "save what it gives into a file first"
        raise fail(argument, f"'{path}', a pipe, socket or device", "a regular file or a folder", remedy)
    return "file"


@contextmanager
def atomic_file(path: PathLike) -> Iterator[Path]:
    """Gives a temporary file to write to, which becomes ``path`` when the block ends without an exception.

    The temporary file lies in the folder of the target and has its suffix. Missing parents are made. On any
    exception, an interrupt included, the temporary file is deleted, so are the folders created for it, and an
    older file at ``path`` stays as it was. A symbolic link is followed: the file it points to is replaced.

    Args:
        path: the file to write.

    Yields:
        The path of the temporary file; it exists and is empty.

    Raises:
        InputError: if ``path`` is a folder or a device, if its folder cannot be made or written to, or if the disk
            is full (also where that shows inside of the block).

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_file(folder / "notes.txt") as temporary:
        ...     _ = temporary.write_text("whole")
        >>> [entry.name for entry in folder.iterdir()]
        ['notes.txt']
    """
    target = _resolve(path)
    if _exists(target) and not target.is_file():
        raise fail("path", f"'{target}', which is not a regular file", "the name of a file to write")
    temporary = _beside(target, "partial", target.suffix)
    created = _make_parents(target)
    try:
        try:
            # Made here rather than by the writer: an unwritable folder is known before any work is done.
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            raise _unwritable(target, error) from error
        with _refusals_explained(target):
            yield temporary
            temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        _remove_empty(created)
        raise


@contextmanager
def atomic_folder(path: PathLike, *, overwrite: bool = False, work: PathLike | None = None) -> Iterator[Path]:
    """Gives a work folder to fill, which becomes ``path`` when the block ends without an exception.

    On any exception, an interrupt included, the work folder is deleted and nothing else has changed. With
    ``overwrite`` an older folder is set aside only once the new one is complete, and is deleted after the new
    one is in its place; should that last step fail it is put back. At every moment at least one of the two is
    whole on the disk.

    Args:
        path: the folder to write. Missing parents are created. It may exist if it is empty.
        overwrite: replace a folder that is not empty. Everything that was in it is deleted.
        work: name of the work folder, which must not exist, for callers that look for what killed processes
            left; on the file system of ``path``. By default a new name beside ``path``.

    Yields:
        The path of the work folder; it exists and is empty.

    Raises:
        InputError: if ``path`` is a file, or a folder that is not empty without ``overwrite`` or with the working
            directory in it, or if its parent cannot be written to. All of this is checked before the block runs.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "masks"
        >>> with atomic_folder(target) as work:
        ...     _ = (work / "00000.txt").write_text("0")
        >>> [entry.name for entry in target.iterdir()]
        ['00000.txt']
    """
    target = _resolve(path)
    _check_folder(target, overwrite)
    folder = _beside(target, "partial") if work is None else _resolve(work)
    created = _make_parents(target)
    try:
        try:
            folder.mkdir(parents=work is not None)
        except OSError as error:
            raise _unwritable(target, error) from error
        with _refusals_explained(target):
            yield folder
            # The block may have taken hours: somebody else may have filled the target meanwhile.
            _check_folder(target, overwrite)
            _swap(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(created)
        raise


@contextmanager
def _refusals_explained(target: Path) -> Iterator[None]:
    """Turns the disk's refusal to take more into an InputError that names the target."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        raise _unwritable(target, error, "make room, or choose another place") from error


def check_outside(argument: str, kept: Path, folder: Path) -> None:
    """Raises InputError where a folder that is to be replaced holds a file or folder that is to be kept."""
    if kept.resolve().is_relative_to(folder.resolve()):
        raise fail(argument, f"'{folder}', which would be deleted with '{kept}' in it", "another folder")


def _swap(work: Path, target: Path) -> None:
    """Puts ``work`` in the place of ``target``, and takes the old folder away only after that."""
    old = _beside(target, "replaced")
    try:
        if target.exists():
            target.rename(old)
        work.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        if target.exists():
            _remove(old)


def _remove(folder: Path) -> None:
    """Deletes a folder if it is there, to the end even where an interrupt comes meanwhile."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _resolve(path: PathLike) -> Path:
    return Path(os.path.realpath(as_path("path", path)))


def _exists(target: Path) -> bool:
    try:
        return target.exists()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise _unwritable(target, error) from error


def _check_folder(target: Path, overwrite: bool) -> None:
    if not _exists(target):
        return
    if not target.is_dir():
        raise fail("path", f"'{target}', which is a file", "a folder to write", "choose another name")
    try:
        filled = any(target.iterdir())
    except OSError as error:
        raise _unwritable(target, error) from error
    if filled and overwrite and Path.cwd().is_relative_to(target):
        raise fail("path", f"'{target}', where this process works", "another folder: it would be deleted")
    if filled and not overwrite:
        remedy = "choose another name or pass overwrite=True, which deletes what is in it"
        raise fail("path", f"'{target}', which is not empty", "a new or empty folder", remedy)


def _beside(target: Path, role: str, suffix: str = "") -> Path:
    # The name is cut so that a long one stays below the 255 bytes that file systems allow.
    return target.with_name(f".{target.name[:40]}.{role}-{secrets.token_hex(4)}{suffix}")


def _make_parents(target: Path) -> list[Path]:
    """Creates the missing parents of ``target`` and returns them, the deepest first."""
    missing = [parent for parent in target.parents if not _exists(parent)]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _remove_empty(missing)
        raise _unwritable(target, error) from error
    return missing


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _unwritable(target: Path, error: OSError, remedy: str = "") -> InputError:
    reason = error.strerror or type(error).__name__
    got = f"'{target}', which cannot be written ({reason})"
    return fail("path", got, "a place that can be written to", remedy)
