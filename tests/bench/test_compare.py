"""Two commits in one run, on a checkout made for the purpose."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gpuvos
from gpuvos import InputError
from gpuvos.bench import compare as module
from gpuvos.bench.compare import compare, verdict
from gpuvos.bench.workload import Workload

TINY = Workload(height=48, width=64, frames=2, channels=4, seeds=5, robust_seeds=6)
STAGES = ["minimax forest", "region means", "tracks"]
_PACKAGE = Path(gpuvos.__file__).parent


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose second-last commit gives other region means and has no ``link_tracks``."""
    root = tmp_path_factory.mktemp("checkout")
    kernels = Path(next(iter(sys.modules["gpuvos.kernels"].__path__)))
    skip = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(_PACKAGE, root / "gpuvos", ignore=skip)
    shutil.copytree(kernels, root / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    for words in (("init", "-q"), ("config", "user.email", "a@b.c"), ("config", "user.name", "a")):
        git(root, *words)
    regions, tracks = root / "gpuvos/functional/regions.py", root / "gpuvos/functional/tracks.py"
    sound = {file: file.read_text() for file in (regions, tracks)}
    regions.write_text(sound[regions].replace("total / count", "1.5 * total / count"))
    tracks.write_text(sound[tracks] + "\n\ndef link_tracks(seeds):\n    raise KeyError('not yet')\n")
    shutil.rmtree(root / "gpuvos/bench")  # an old commit has none
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "old")
    for file, text in sound.items():
        file.write_text(text)
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "new")
    return root


@pytest.mark.slow
def test_equal_outputs_give_a_ratio_and_different_ones_none(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.gpuvos, "__file__", str(checkout / "gpuvos" / "__init__.py"))
    threads = torch.get_num_threads()
    found = compare("HEAD~1", TINY, STAGES, rounds=2)
    assert torch.get_num_threads() == threads
    assert found["base_commit"] == git(checkout, "rev-parse", "HEAD~1")
    same, differs, absent = found["rows"]
    assert same["same_output"] is True
    assert same["speed_up"] > 0
    assert same["q1"] <= same["speed_up"] <= same["q3"]
    assert differs["same_output"] is False
    assert differs["speed_up"] is None
    assert differs["verdict"] == "refused: the outputs differ, so this is no speed-up"
    assert differs["head"] > 0
    assert differs["base"] > 0
    assert absent["verdict"] == "no comparison: the base fails with KeyError: 'not yet'"
    assert absent["rounds"] == 0
    assert git(checkout, "worktree", "list").count("\n") == 0  # the base's is gone


def test_a_commit_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "-c", "user.email=a@b.c", "-c", "user.name=a", "commit", "-q", "--allow-empty", "-m", "only")
    monkeypatch.setattr(module.gpuvos, "__file__", str(tmp_path / "gpuvos" / "__init__.py"))
    for base in ("no-such-branch", "HEAD~9", "--help"):
        with pytest.raises(InputError, match="--base"):
            compare(base, TINY, STAGES)


def test_outside_of_a_checkout_there_is_nothing_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.gpuvos, "__file__", str(tmp_path / "gpuvos" / "__init__.py"))
    with pytest.raises(InputError, match="install with pip install -e"):
        compare("HEAD", TINY, STAGES)


def test_a_verdict_needs_both_quartiles_on_one_side() -> None:
    assert verdict(1.01, 2.0) == "quicker, same outputs"
    assert verdict(0.2, 0.99) == "slower, same outputs"
    assert verdict(0.9, 3.0) == "no difference beyond the spread"
