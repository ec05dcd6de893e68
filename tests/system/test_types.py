"""What a type checker knows of calls, and of options that are one of a few words."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gpuvos

PACKAGE = Path(gpuvos.__file__).parent
APPLICATIONS = {"app", "batch", "bench", "cli", "paper"}
# other packages take mypy most of its time, and no call of ours has their types
SETTINGS = """[mypy]
strict = true
follow_imports = silent
ignore_missing_imports = true
[mypy-IPython.*,PIL.*,av.*,numpy.*,safetensors.*,torch.*,tqdm.*]
follow_imports = skip
[mypy-torch,torch.nn]
follow_imports = silent
"""
# in place of torch, which takes minutes
TORCH = """from typing import Any
from . import nn as nn
class Tensor: ...
class device: ...
class dtype: ...
def __getattr__(name: str) -> Any: ...
"""
MODULE = """from typing import Any, Callable
class Module:
    __call__: Callable[..., Any]
    def __getattr__(self, name: str) -> Any: ...
def __getattr__(name: str) -> Any: ...
"""


@pytest.mark.slow
def test_calls_have_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "torch" / "nn").mkdir(parents=True)
    (tmp_path / "torch" / "__init__.pyi").write_text(TORCH)
    (tmp_path / "torch" / "nn" / "__init__.pyi").write_text(MODULE)
    (tmp_path / "settings.ini").write_text(SETTINGS)
    calls = Path(__file__).with_name("typed_calls.py")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "settings.ini", calls],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": os.pathsep.join((str(tmp_path), str(PACKAGE.parent)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def annotations(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Arguments and fields that are checked to be one of a few words, and what their annotations are."""
    for owner in ast.walk(tree):
        if isinstance(owner, ast.FunctionDef):
            given = {argument.arg: argument.annotation for argument in (*owner.args.args, *owner.args.kwonlyargs)}
        elif isinstance(owner, ast.ClassDef):
            fields = (node for node in owner.body if isinstance(node, ast.AnnAssign))
            given = {f"self.{ast.unparse(node.target)}": node.annotation for node in fields}
        else:
            continue
        for node in ast.walk(owner):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "check_choice":
                name = ast.unparse(node.args[1])
                if given.get(name) is not None:
                    yield name, ast.unparse(given[name])


def test_options_of_a_few_words_are_not_any_string() -> None:
    found = [
        (str(file.relative_to(PACKAGE)), name, annotation)
        for file in sorted(PACKAGE.rglob("*.py"))
        if file.relative_to(PACKAGE).parts[0] not in APPLICATIONS | {"errors.py"}
        for name, annotation in annotations(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert len(found) > 20
    assert not [one for one in found if "str" in one[2].replace("|", " ").split()]
