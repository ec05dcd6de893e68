"""``gpuvos info`` says what runs where, and why."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from gpuvos import kernels
from gpuvos.cli import info


def folders() -> list[Path]:
    return sorted(path.parent for path in Path(kernels.__path__[0]).glob("*/op.py"))


def test_every_op_on_every_device() -> None:
    lines = {line.split(":")[2]: line for line in info.describe_ops(["cpu"])}
    assert sorted(lines) == [folder.name for folder in folders()]
    for folder in folders():
        line = lines[folder.name]
        assert "reference on cpu (cpu tensors)" in line
        assert "on cuda, were it there (" in line
        if not (folder / "kernel.py").exists():
            assert "reference on cuda, were it there (it has no kernel)" in line


def test_choice_on_a_device_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuvos.kernels.backend._triton_there", lambda: True)
    monkeypatch.delenv("GPUVOS_KERNELS", raising=False)
    name = next(folder.name for folder in folders() if (folder / "kernel.py").exists())
    (line,) = [line for line in info.describe_ops(["cpu", "cuda:0"]) if f"::{name}:" in line]
    assert line.endswith("kernel on cuda:0 (CUDA tensors)")
    monkeypatch.setenv("GPUVOS_KERNELS", "reference")
    (line,) = [line for line in info.describe_ops(["cpu", "cuda:0"]) if f"::{name}:" in line]
    assert line.endswith("reference on cuda:0 (GPUVOS_KERNELS=reference)")


def test_report(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "_PACKAGES", ("torch", "no-such-package"))
    assert info.run(Namespace()) == 0
    out = capsys.readouterr().out
    assert "no-such-package not installed" in out
    assert "devices: cpu (" in out
    assert "gpuvos::minimax_forest: reference on cpu (cpu tensors)" in out
