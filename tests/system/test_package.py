"""The wheel holds what the tree holds, and importing it needs what it says."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, so that the checkout stays free of build output
    source.mkdir()
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: the tree to compare with is unknown")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_wheel_holds_exactly_the_tree(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "gpuvos", "kernels"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    wanted = {"gpuvos/" + name if name.startswith("kernels/") else name for name in tracked if (ROOT / name).is_file()}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == wanted
    assert "gpuvos/py.typed" in held
    assert "gpuvos/kernels/minimax_forest/reference.py" in held


@pytest.mark.slow
def test_no_top_level_name_but_ours(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"gpuvos"}


@pytest.mark.slow
def test_wheel_holds_the_licence_and_the_notices_of_the_weights(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    notices = {"gpuvos/features/network/NOTICE", "gpuvos/flow/NOTICE"}
    assert set(metadata.get_all("License-File", [])) == {"LICENSE", *notices}
    assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    for notice in notices:
        assert archive.read(notice) == (ROOT / notice).read_bytes()


@pytest.mark.slow
def test_wheel_says_whose_it_is_and_what_it_is_for(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (file,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(archive.read(file))
    assert metadata["Author"] == "The gpuvos authors"
    kinds = {value.split(" :: ")[0] for value in metadata.get_all("Classifier", [])}
    assert kinds >= {"Development Status", "Intended Audience", "Programming Language", "Topic", "Typing"}
    assert {"hub", "onnx"} <= set(metadata.get_all("Provides-Extra", []))
    assert metadata["Home-page"] is metadata["Project-URL"] is None  # nobody knows where it will be published


def test_every_file_of_weights_has_a_notice_and_all_are_small() -> None:
    weights = [path for path in (ROOT / "gpuvos").rglob("*") if path.suffix in (".safetensors", ".pt", ".onnx")]
    assert len(weights) == 3
    for path in weights:
        assert path.name in path.with_name("NOTICE").read_text().splitlines()
        assert "sha256" in json.loads(path.with_suffix(".json").read_text())
    assert sum(path.stat().st_size for path in weights) < 8_000_000


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f'__version__ = "{version}"' in (ROOT / "gpuvos/__init__.py").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_bare_kernels_is_not_importable(tmp_path: Path) -> None:
    outcome = subprocess.run([sys.executable, "-c", "import kernels"], cwd=tmp_path, capture_output=True, check=False)
    assert outcome.returncode != 0


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = set()
    for folder, prefix in (("gpuvos", ""), ("kernels", "gpuvos.")):
        for path in (ROOT / folder).rglob("__init__.py"):
            found.add(prefix + ".".join(path.parent.relative_to(ROOT).parts))
    assert set(listed) == found


def test_files_stay_small() -> None:
    sizes = {path: len(path.read_text().splitlines()) for path in ROOT.glob("**/*.py") if ".venv" not in path.parts}
    assert {str(path): size for path, size in sizes.items() if size > 400} == {}
