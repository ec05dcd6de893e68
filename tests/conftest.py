"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

# Without a GPU the kernels' tests run Triton's interpreter; it reads this when a kernel is defined.
KERNEL_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if KERNEL_DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"

# Whether the tests that take minutes more than they are worth in every run are asked for.
EXHAUSTIVE = os.environ.get("GPUVOS_EXHAUSTIVE") == "1"

# Workers of pytest-xdist share the cores, and so do the processes that their tests start: a thread each, or they fight.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a GPU or to be asked for; all but the first case of a sampled test are slow."""
    seen = set()
    for item in items:
        if KERNEL_DEVICE == "cpu" and item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if not EXHAUSTIVE and item.get_closest_marker("exhaustive"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: set GPUVOS_EXHAUSTIVE=1"))
        if item.get_closest_marker("sampled"):
            function = item.nodeid.partition("[")[0]
            if function in seen:
                item.add_marker(pytest.mark.slow)
            seen.add(function)


def pytest_collection_finish() -> None:
    """Takes all that is there from the garbage collector, which goes through it again whenever a test calls it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def development_data() -> Path:
    """Folder of the development data (DAVIS-2016 train, stills, flow); the test skips where it is absent."""
    root = Path(os.environ.get("GPUVOS_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not root.is_dir():
        pytest.skip("development data not found; set GPUVOS_DATA to its folder")
    return root


@pytest.fixture(scope="session")
def exhaustive() -> bool:
    """Whether to look at every case, where a test otherwise looks at some."""
    return EXHAUSTIVE


@pytest.fixture(scope="session")
def write_davis() -> Callable[..., Path]:
    """Writes rendered sequences as DAVIS-2016 in its official layout."""
    from PIL import Image

    from gpuvos.data import render_clip, write_mask

    def write(root: Path, names: Sequence[str], **size: int) -> Path:
        lines = []
        for seed, name in enumerate(names):
            rendered = render_clip("single", seed=seed, **size)
            images, masks = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
            images.mkdir(parents=True)
            for number, frame in enumerate(rendered.frames):
                Image.fromarray(frame.permute(1, 2, 0).numpy()).save(images / f"{number:05d}.jpg")
                write_mask(masks / f"{number:05d}.png", rendered.mask[number])
                stem = f"480p/{name}/{number:05d}"
                lines.append(f"/JPEGImages/{stem}.jpg /Annotations/{stem}.png\n")
        (root / "ImageSets/480p").mkdir(parents=True)
        (root / "ImageSets/480p/train.txt").write_text("".join(lines))
        return root

    return write


@pytest.fixture
def small_saliency(monkeypatch: pytest.MonkeyPatch) -> None:
    """U2NetP sees 96 x 96 pixels where nothing else is asked for, in a tenth of the time that 320 x 320 take.

    For tests of what is around it: its own are in tests/features, with the sizes that the library has.
    """
    from gpuvos.features.network.weights import load_saliency
    from gpuvos.pipeline.presets import PRESETS
    from gpuvos.pipeline.refinement import RoiRefinement, ZoomRefinement, refinement

    for function in (load_saliency, ZoomRefinement.__init__, RoiRefinement.__init__, refinement):
        assert function.__kwdefaults__["size"] > 96
        monkeypatch.setitem(function.__kwdefaults__, "size", 96)
    for name, preset in PRESETS.items():
        monkeypatch.setitem(PRESETS, name, replace(preset, saliency=96, zoom=96))


@pytest.fixture
def generator() -> torch.Generator:
    """A random generator with a fixed seed, so that a failure repeats."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def kernel_device() -> str:
    """Where the Triton kernels run in this process: on "cuda", or interpreted on "cpu"."""
    if KERNEL_DEVICE == "cpu" and not _interpreter_works():
        pytest.skip(
            f"the interpreter of triton {version('triton')} does not run with numpy {version('numpy')}: "
            "pip install 'numpy<2.4', or a newer torch"
        )
    return KERNEL_DEVICE


def _interpreter_works() -> bool:
    """Whether a loop can be interpreted; triton 3.6 makes an int of an array for it, which numpy 2.4 refuses."""
    triton = pytest.importorskip("triton")

    @triton.jit
    def loop(end):
        for _ in range(end):
            pass

    try:
        loop[(1,)](2)
    except Exception as error:
        if isinstance(error.__cause__ or error, TypeError):
            return False
        raise
    return True


@pytest.fixture(scope="session")
def davis(tmp_path_factory: pytest.TempPathFactory, write_davis: Callable[..., Path]) -> Path:
    """Three sequences of five frames in the official layout."""
    names = ("one", "two", "three")
    return write_davis(tmp_path_factory.mktemp("davis"), names, num_frames=5, height=64, width=96)
