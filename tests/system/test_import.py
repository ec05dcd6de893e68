"""What an import costs, which names there are, and that every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import gpuvos
from gpuvos.data import render_clip, write_video

MODULES = [
    "gpuvos",
    *(m.name for m in pkgutil.walk_packages(gpuvos.__path__, "gpuvos.") if "__main__" not in m.name),
]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_importing_the_package_loads_torch_alone_and_touches_no_device() -> None:
    extra = run(
        "import sys, torch; before = set(sys.modules); import gpuvos; gpuvos.Config, gpuvos.segment\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "print(sorted(new - {'gpuvos', 'torch'}), torch.cuda.is_initialized())"
    )
    assert extra == "[] False"


def test_importing_starts_no_heavy_module() -> None:
    loaded = run(
        "import gpuvos, sys; print('torch' in sys.modules, [m for m in sys.modules if m.startswith('gpuvos.')])"
    )
    assert loaded == "False []"


@pytest.mark.slow
def test_a_command_that_compiles_nothing_loads_no_compiler(tmp_path: Path) -> None:
    """They take seconds, more than the frames of a short clip."""
    video = tmp_path / "clip.mp4"
    write_video(video, render_clip("single", num_frames=2, height=48, width=80, seed=0).frames)
    words = ["segment", str(video), "-o", str(tmp_path / "out"), "--device", "cpu"]
    heavy = ("torch._dynamo", "torch._inductor", "triton", "sympy", "torchvision", "kornia", "scipy", "matplotlib")
    loaded = run(
        f"import sys; from gpuvos.cli.main import main; assert main({words}) == 0\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert loaded.splitlines()[-1] == "[]"
    assert (tmp_path / "out/masks").is_dir()


def test_every_public_name_resolves() -> None:
    for name in gpuvos.__all__:
        assert getattr(gpuvos, name).__name__ == name
    for name in ("data", "features", "functional", "kernels", "metrics", "viz"):
        assert getattr(gpuvos, name).__name__ == f"gpuvos.{name}"
    for name in gpuvos.functional.__all__:
        assert callable(getattr(gpuvos.functional, name))
    assert set(gpuvos.__all__) <= set(dir(gpuvos))
    assert {"functional", "metrics", "viz"} <= set(dir(gpuvos))
    names: dict[str, object] = {}
    exec("from gpuvos import *", names)
    assert set(gpuvos.__all__) <= set(names)


def test_unknown_names_raise() -> None:
    with pytest.raises(AttributeError, match="'gpuvos' has no attribute 'segmnt'"):
        _ = gpuvos.segmnt
    with pytest.raises(ImportError):
        exec("from gpuvos import segmnt")


@pytest.mark.sampled
@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, request: pytest.FixtureRequest) -> None:
    if name not in ("gpuvos.features.saliency", "gpuvos.pipeline.presets"):  # which print the sizes
        request.getfixturevalue("small_saliency")
    module = importlib.import_module(name)
    outcome = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.failed == 0
