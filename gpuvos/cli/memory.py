"""How the process of the command handles memory that it frees. The library never touches this."""

from __future__ import annotations

import ctypes
import os

# Numbers of mallopt(3)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 32 << 20  # bytes; glibc takes no more
_MOST_KEPT = 512 << 20


def keep_freed_memory() -> bool:
    """Lets glibc keep freed blocks of up to 32 MiB, at most 512 MiB together, instead of returning each to the kernel.

    Maps of a network are freed and wanted again within milliseconds; else the kernel clears every page of them anew.
    Settings of the user's own (``MALLOC_...`` or ``GLIBC_TUNABLES`` in the environment) go first.

    Returns:
        Whether anything was set: False without glibc, or where the user has settings.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018, mallopt of another library has other numbers
        mallopt = library.mallopt
    except (OSError, TypeError, AttributeError):  # TypeError: on Windows
        return False
    kept = mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
    return bool(mallopt(_TRIM_THRESHOLD, _MOST_KEPT) and kept)
