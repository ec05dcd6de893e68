"""Output that is either whole or absent: temporary names beside the target, renamed at the end.

A rename inside one folder is atomic, so a killed process leaves at most something called
``.NAME.partial-RANDOM`` beside the target, and the target itself is either the old one or the new one. What is being
written is locked (see ``gpuvos.data.locks``), so the next process that writes there knows what was left, and deletes
it.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from gpuvos.data.locks import NoLocksError, is_at, lock_file, try_lock
from gpuvos.errors import InputError, fail

PathLike = str | os.PathLike[str]

# What a disk answers that is full, over quota, read-only or broken.
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_LEFT = re.compile(r"\..+\.partial-[0-9a-f]{8}(\.[^.]*)?")


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
    created = _make_parents(target)
    sweep_once(str(target.parent))
    temporary = _beside(target, "partial", target.suffix)
    lock = -1
    try:
        try:
            # Made here rather than by the writer: an unwritable folder is known before any work is done.
            lock = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            with suppress(NoLocksError):
                try_lock(lock)
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
    finally:
        if lock >= 0:
            os.close(lock)


@lru_cache(maxsize=1024)
def sweep_once(folder: str) -> None:
    """Deletes the temporary files that killed processes left in a folder; looks there once in the life of a process."""
    with suppress(OSError), os.scandir(folder) as entries:
        left = [Path(entry.path) for entry in entries if _LEFT.fullmatch(entry.name) and entry.is_file()]
        for file in left:
            with suppress(OSError):  # one of another user, or none that locks are for
                descriptor = os.open(file, os.O_WRONLY | os.O_NOFOLLOW)
                try:
                    if try_lock(descriptor) and is_at(descriptor, file):
                        file.unlink()
                finally:
                    os.close(descriptor)


@contextmanager
def lock_target(path: PathLike, *, waiting: Callable[[], object] = lambda: None) -> Iterator[bool]:
    """Keeps other processes from writing a folder, and takes away what killed ones left of their attempts.

    Where one was killed between the two renames of an exchange, the old folder is put back. Missing parents are made,
    and stay if they are filled.

    Args:
        path: the folder that is to be written.
        waiting: is called once where another process is writing it, before the wait for its end.

    Yields:
        Whether there are locks here; if not, nothing is taken away.

    Raises:
        InputError: the folder that it lies in cannot be written to.
    """
    target = _resolve(path)
    created = _make_parents(target)
    try:
        with ExitStack() as stack:
            try:
                held = stack.enter_context(lock_file(lock_path(target), waiting=waiting))
            except OSError as error:
                raise _unwritable(target, error) from error
            if held:
                _recover(target)
            yield held
    finally:
        _remove_empty(created)


def lock_path(target: Path) -> Path:
    """The file by which ``lock_target`` locks a folder; it is there while somebody writes it, or was killed then."""
    return target.with_name(f".{_stem(target)}.lock")


@contextmanager
def atomic_folder(
    path: PathLike, *, overwrite: bool = False, work: PathLike | None = None, locked: bool = False
) -> Iterator[Path]:
    """Gives a work folder to fill, which becomes ``path`` when the block ends without an exception.

    On any exception, an interrupt included, the work folder is deleted and nothing else has changed. With ``overwrite``
    an older folder stays until the new one is complete; then the two change places, and the older one is deleted.
    Where the system can do that in one step (Linux, most local file systems) one of the two is there at every moment;
    elsewhere a process killed between two renames leaves the old one under a hidden name, from which the next call
    puts it back. Two processes write one folder one after the other.

    Args:
        path: the folder to write. Missing parents are created. It may exist if it is empty.
        overwrite: replace a folder that is not empty. Everything that was in it is deleted. A link is not followed.
        work: name of the work folder, which must not exist, for callers that look for what killed processes
            left; on the file system of ``path``. By default a new name beside ``path``.
        locked: whether the caller is inside of ``lock_target(path)``.

    Yields:
        The path of the work folder; it exists and is empty.

    Raises:
        InputError: if ``path`` is a file, or a folder that is not empty without ``overwrite`` or with the working
            directory in it, a link where it would be overwritten, or if its parent cannot be written to. All of this is
            checked before the block runs. And if the work folder was deleted by somebody else meanwhile.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "masks"
        >>> with atomic_folder(target) as work:
        ...     _ = (work / "00000.txt").write_text("0")
        >>> [entry.name for entry in target.iterdir()]
        ['00000.txt']
    """
    target = _resolve(path)
    if overwrite and Path(path).is_symlink() and _exists(target):
        remedy = "give the folder itself, or delete the link"
        raise fail("path", f"'{path}', a link to '{target}', which would be replaced", "a folder", remedy)
    _check_folder(target, overwrite)
    folder = _beside(target, "partial") if work is None else _resolve(work)
    with ExitStack() as stack:
        if not locked:
            stack.enter_context(lock_target(target))
            _check_folder(target, overwrite)
        seen = -1
        try:
            try:
                folder.mkdir(parents=work is not None)
                seen = os.open(folder, os.O_RDONLY)  # so that no other folder gets its number
            except OSError as error:
                raise _unwritable(target, error) from error
            with _refusals_explained(target):
                try:
                    yield folder
                except FileNotFoundError as error:
                    if is_at(seen, folder):
                        raise
                    raise _vanished(target, folder) from error
                if not is_at(seen, folder):
                    raise _vanished(target, folder)
                # The block may have taken hours: somebody else may have filled the target meanwhile.
                _check_folder(target, overwrite)
                _swap(folder, target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            if seen >= 0:
                os.close(seen)


def _vanished(target: Path, work: Path) -> InputError:
    got = f"'{target}', whose work folder '{work.name}' was deleted while it was filled"
    return fail("path", got, "a folder that nobody else touches", "run it again")


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
    if not target.exists():
        work.rename(target)
        return
    if _exchange(work, target):
        _remove(work)
        return
    old = _beside(target, "replaced")
    try:
        target.rename(old)
        work.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        if target.exists():
            _remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Lets two folders change places in one step; False where the system cannot."""
    if sys.platform != "linux":
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _recover(target: Path) -> None:
    """Takes away what killed processes left of a folder, which is locked; what was set aside goes back."""
    name = re.compile(rf"\.{re.escape(_stem(target))}\.(partial|replaced)-[0-9a-f]{{8}}")
    with suppress(OSError), os.scandir(target.parent) as entries:
        for left in [Path(entry.path) for entry in entries if name.fullmatch(entry.name) and entry.is_dir()]:
            if ".replaced-" in left.name and not target.exists():
                left.rename(target)
            else:
                _remove(left)


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
    return target.with_name(f".{_stem(target)}.{role}-{secrets.token_hex(4)}{suffix}")


def _stem(target: Path) -> str:
    """The name; of a long one the beginning and a hash, so that what is added stays below 255 bytes."""
    if len(os.fsencode(target.name)) <= 100:
        return target.name
    return f"{target.name[:20]}-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}"


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
