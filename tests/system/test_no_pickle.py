"""Weights, checkpoints and caches are numbers: nothing in a file is run, and damage is named."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpuvos import InputError
from gpuvos.features.adapters import SamFeatures
from gpuvos.features.bundled import BUNDLED, LearnedFeatures
from gpuvos.features.network.embedding import load_teacher
from gpuvos.features.network.weights import load_weights
from gpuvos.training.config import TrainingConfig
from gpuvos.training.loop import train

ROOT = Path(__file__).parents[2]
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def calls_that_unpickle(source: str) -> list[str]:
    """Imports of unpicklers, and calls of load functions that may unpickle."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            found += [name for name in names if name.split(".")[0] in UNPICKLERS]
        if isinstance(node, ast.Call):
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            name = ast.unparse(node.func)
            if name == "torch.load" and options.get("weights_only") != "True":
                found.append(ast.unparse(node))
            if options.get("allow_pickle", "False") != "False":
                found.append(ast.unparse(node))
    return found


@pytest.mark.slow
def test_no_code_that_unpickles() -> None:
    assert calls_that_unpickle("import pickle\ntorch.load(f)\nnp.load(f, allow_pickle=True)") == [
        "pickle",
        "torch.load(f)",
        "np.load(f, allow_pickle=True)",
    ]
    for folder in ("gpuvos", "kernels"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            assert calls_that_unpickle(file.read_text()) == [], file


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, (f"open({self.file!r}, 'w').close() or {{}}",))


class _Nothing:
    """Stills that are never asked for."""

    records: tuple[()] = ()

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> object:
        raise AssertionError(number)


def resume(file: Path) -> object:
    file.rename(file.with_name("checkpoint.pt"))
    config = TrainingConfig(steps=1, minutes=None)
    return train(torch.nn.Conv2d(3, 1, 1), _Nothing(), None, file.parent, config, distil=False, resume=True)


READERS: dict[str, Callable[[Path], object]] = {
    "resume": resume,
    "path": load_teacher,
    "checkpoint": lambda file: SamFeatures(checkpoint=file, size=64),
}


@pytest.mark.parametrize("name", READERS)
def test_code_in_a_file_is_not_run(name: str, tmp_path: Path) -> None:
    file, sprung = tmp_path / "weights.pth", tmp_path / "sprung"
    torch.save({"network": Trap(sprung)}, file)
    torch.load(file, weights_only=False)
    assert sprung.exists()  # the trap works
    sprung.unlink()
    with pytest.raises(InputError, match=rf"^{name}:"):
        READERS[name](file)
    assert not sprung.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not whole", b"\x80\x02}q\x00.", b"text"])
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(InputError, match=rf"^{name}:"):
        READERS[name](tmp_path / "weights.pth")


def test_bundled_weights_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(BUNDLED.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / BUNDLED.name
    damaged.write_bytes(content)
    damaged.with_suffix(".json").write_bytes(BUNDLED.with_suffix(".json").read_bytes())
    monkeypatch.setattr("gpuvos.features.bundled.BUNDLED", damaged)
    with pytest.raises(InputError, match=r"^path: got .*with SHA-256 .*, wanted .*which its card names"):
        LearnedFeatures()
    damaged.write_bytes(content[:1000])
    with pytest.raises(InputError, match="SHA-256"):
        load_weights(damaged)
