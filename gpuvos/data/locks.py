"""Locks among processes: the kernel holds them, and lets go of them when a process ends, however it ends.

They are ``flock`` locks. A file system of the network passes them on as far as its locks go (NFS does); where there
are none, on such a file system or under Windows, a warning says so once and everything goes on without.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class NoLocksError(OSError):
    """The platform or the file system has no locks."""


def try_lock(descriptor: int, *, wait: bool = False) -> bool:
    """Locks an open file; False where another process, or another opening of the file, holds the lock.

    Args:
        descriptor: of the open file; the lock ends when it is closed.
        wait: wait for the lock in place of returning False.

    Raises:
        NoLocksError: there are none here.
    """
    if fcntl is None:
        raise NoLocksError("no file locks on this platform")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise NoLocksError(error.errno, error.strerror) from error
        raise
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file or folder is still what its path names."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


@contextmanager
def lock_file(path: Path, *, wait: bool = True, waiting: Callable[[], object] = lambda: None) -> Iterator[bool]:
    """Holds a lock by a file that is made for it and deleted after it.

    Args:
        path: of that file; its folder exists.
        wait: wait until whoever has the lock lets go.
        waiting: is called once before a wait.

    Yields:
        Whether the lock is held: with ``wait`` always, unless there are no locks here.

    Raises:
        OSError: the file cannot be made.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "lock"
        >>> with lock_file(path) as first, lock_file(path, wait=False) as second:
        ...     print(first, second)
        True False
        >>> path.exists()
        False
    """
    descriptor, held = _acquire(path, wait, waiting)
    if descriptor is None:
        yield False
        return
    try:
        yield held
    finally:
        try:
            _unlink(path)  # before others get the lock: they see that it is of no file, and try again
        except BaseException:  # an interrupt
            _unlink(path)
            raise
        finally:
            os.close(descriptor)


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _acquire(path: Path, wait: bool, waiting: Callable[[], object]) -> tuple[int | None, bool]:
    """The open lock file, None where another has it; and whether it is locked."""
    told = False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            held = try_lock(descriptor)
            if not held and not wait:
                os.close(descriptor)
                return None, False
            if not held and not told:
                told = True
                waiting()
            if (held or try_lock(descriptor, wait=True)) and is_at(descriptor, path):
                return descriptor, True
        except NoLocksError as error:
            warnings.warn(f"{error}: let no two runs write to one place at the same time", RuntimeWarning, stacklevel=4)
            return descriptor, False
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
