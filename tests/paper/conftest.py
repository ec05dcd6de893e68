"""A small tree of DAVIS-2016 with rendered sequences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def davis(tmp_path_factory: pytest.TempPathFactory, write_davis: Callable[..., Path]) -> Path:
    """Three sequences of five frames in the official layout."""
    names = ("one", "two", "three")
    return write_davis(tmp_path_factory.mktemp("davis"), names, num_frames=5, height=64, width=96)
