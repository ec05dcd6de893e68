"""A disk that takes no more: an error by name, and nothing that looks whole."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image

from gpuvos import Features, InputError
from gpuvos.cli.main import main
from gpuvos.data import save_npz, write_masks, write_video
from gpuvos.data.atomic import atomic_file, atomic_folder
from gpuvos.features.network.embedding import EmbeddingNetwork
from gpuvos.features.network.weights import save_weights
from gpuvos.paper.cache import FeatureCache
from gpuvos.viz.maps import save_png

NOISE = torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@contextmanager
def almost_full() -> Iterator[None]:
    """No file of this process may grow beyond a kilobyte: no fixture, or it would hold for pytest's own output."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def features(frames: torch.Tensor) -> Features:
    values = frames.float() / 255
    return Features(values, values[:, 0], values[:, :2])


WRITERS: dict[str, Callable[[Path], object]] = {
    "clip.mp4": lambda file: write_video(file, NOISE),
    "clip.gif": lambda file: write_video(file, NOISE),
    "a.npz": lambda file: save_npz(file, noise=NOISE),
    "a.png": lambda file: save_png(file, NOISE[0]),
    "masks": lambda file: write_masks(file, NOISE[:, 0]),
    "w.safetensors": lambda file: save_weights(EmbeddingNetwork(dimensions=8), file),
    "cache": lambda file: FeatureCache(file, torch.nn.Identity())("noise", NOISE, features),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    message = rf"^path: got .*{name[:2]}.*cannot be written \(File too large\).*; make room"
    with almost_full(), pytest.raises(InputError, match=message):
        WRITERS[name](tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_stays(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("old")
    with almost_full(), pytest.raises(InputError, match="cannot be written"):
        save_npz(tmp_path / "a.npz", noise=NOISE)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.npz", "old")]


def test_other_errors_pass(tmp_path: Path) -> None:
    for context in (atomic_file, atomic_folder):
        with pytest.raises(FileNotFoundError), context(tmp_path / "x"):
            (tmp_path / "absent").read_text()


def test_a_full_disk_ends_a_command_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames").mkdir()
    for number in range(2):
        Image.new("RGB", (32, 24)).save(tmp_path / "frames" / f"{number}.png")
    before = signal.getsignal(signal.SIGTERM)
    with almost_full():
        status = main(["segment", "frames", "-o", "out", "--front-end", "appearance", "--device", "cpu"])
    assert status == 2
    assert signal.getsignal(signal.SIGTERM) is before
    assert "cannot be written (File too large)" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["frames"]
