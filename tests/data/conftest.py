"""Small videos to test with."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor


def _moving_square(count: int, height: int = 48, width: int = 64) -> Tensor:
    """Smooth colours with a bright square that moves: uint8 [T, 3, H, W]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frames = []
    for t in range(count):
        frame = torch.stack([60 + x, 40 + 2 * y, 90 + (x + y) // 2 + t])
        left = t % max(width // 2, 1)
        frame[:, height // 4 : height // 2, left : left + width // 4] = 210
        frames.append(frame)
    return torch.stack(frames).clamp(0, 255).to(torch.uint8)


def _psnr(first: Tensor, second: Tensor) -> float:
    error = (first.double() - second.double()).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _encode(
    file: Path,
    images: list[np.ndarray],
    codec: str,
    stored: str,
    *,
    given: str = "rgb24",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
) -> None:
    """Writes a file through PyAV alone, in formats that the library itself does not write."""
    with av.open(str(file), "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=24, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], stored
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format=given)))
        container.mux(stream.encode(None))


def _pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    return [frame.permute(1, 2, 0).contiguous().numpy() for frame in _moving_square(count, height, width)]


def _open_files() -> set[str]:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("needs /proc to see open files")
    return {str(entry.readlink()) for entry in folder.iterdir() if entry.is_symlink()}


@pytest.fixture(scope="session")
def moving_square() -> Callable:
    return _moving_square


@pytest.fixture(scope="session")
def psnr() -> Callable:
    return _psnr


@pytest.fixture(scope="session")
def encode() -> Callable:
    return _encode


@pytest.fixture(scope="session")
def pictures() -> Callable:
    return _pictures


@pytest.fixture(scope="session")
def open_files() -> Callable:
    return _open_files
