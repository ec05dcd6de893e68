"""Memory that the command keeps."""

from __future__ import annotations

import ctypes
import os
import sys

import pytest

from gpuvos.cli.memory import keep_freed_memory


class Library:
    """A C library that notes what it is asked."""

    def __init__(self, *, glibc: bool) -> None:
        self.asked: list[tuple[int, int]] = []
        if glibc:
            self.gnu_get_libc_version = lambda: b"2.36"

    def mallopt(self, name: int, value: int) -> int:
        self.asked.append((name, value))
        return 1


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES":
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_settings")
def test_thresholds_are_set_where_glibc_is(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(glibc=True)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    assert keep_freed_memory()
    assert library.asked == [(-3, 32 * 1024 * 1024), (-1, 512 * 1024 * 1024)]


@pytest.mark.usefixtures("no_settings")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is a library of Linux")
def test_glibc_takes_them() -> None:
    if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        pytest.skip("another C library")
    code = "from gpuvos.cli.memory import keep_freed_memory as f; raise SystemExit(not f())"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


@pytest.mark.usefixtures("no_settings")
def test_nothing_elsewhere_or_against_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in (Library(glibc=False), Library(glibc=True)):
        monkeypatch.setattr(ctypes, "CDLL", lambda _, library=library: library)
        if hasattr(library, "gnu_get_libc_version"):
            monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
        assert not keep_freed_memory()
        assert library.asked == []
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    monkeypatch.setattr(ctypes, "CDLL", Library)  # raises TypeError, as on Windows
    assert not keep_freed_memory()
