"""The one command for a machine with a GPU, as far as it goes without one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_checks.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module that sees a GPU."""
    specification = importlib.util.spec_from_file_location("gpu_checks", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    device = SimpleNamespace(name="a device", major=9, minor=0, total_memory=1 << 30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    return module


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(report)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("no CUDA device")
    assert not report.exists()


def test_report_of_checks_that_pass_fail_and_are_missing(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("GPUVOS_KERNELS", "reference")
    show = "import os; print([os.environ.get(n) for n in ('TRITON_INTERPRET', 'GPUVOS_KERNELS', 'SEEN')])"
    write = "import sys; open(sys.argv[1], 'w').write('{\"stage\": 1.5}')"

    def some(folder: Path) -> list[object]:
        return [
            script.Check("kernels", (sys.executable, "-c", show), (("SEEN", "yes"),)),
            script.Check("method", (sys.executable, "-c", "raise SystemExit('three failed')")),
            script.Check("racecheck", ("no-such-tool",), missing="no tool"),
            script.Check("bench", (sys.executable, "-c", write, str(folder / "bench.json"))),
        ]

    monkeypatch.setattr(script, "checks", some)
    file = tmp_path / "report.json"
    assert script.main([str(file)]) == 1
    report = json.loads(file.read_text())
    assert [row["status"] for row in report["checks"]] == ["passed", "failed", "skipped", "passed"]
    assert report["checks"][0]["output"].strip() == "[None, None, 'yes']"
    assert report["checks"][1]["output"].strip() == "three failed"
    assert report["checks"][2]["output"] == "no tool"
    assert report["bench"] == {"stage": 1.5}
    assert (report["device"], report["capability"]) == ("a device", "9.0")
    assert report["versions"]["torch"] == torch.__version__.split("+")[0]
    assert "three failed" in capsys.readouterr().out
    assert script.main([str(file), "--only", "kernels", "racecheck"]) == 0
    assert [row["name"] for row in json.loads(file.read_text())["checks"]] == ["kernels", "racecheck"]


def test_a_check_ends_with_its_share_of_the_time(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forever = "import time; print('begun', flush=True); time.sleep(600)"
    monkeypatch.setattr(script, "checks", lambda _: [script.Check("method", (sys.executable, "-c", forever))])
    file = tmp_path / "report.json"
    assert script.main([str(file), "--minutes", "0"]) == 1
    (row,) = json.loads(file.read_text())["checks"]
    assert row["status"] == "failed"
    assert row["output"].endswith("stopped after 1 s, its share of the time")


SANITIZERS = ["memcheck", "initcheck", "synccheck", "racecheck"]


def test_commands(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.shutil, "which", lambda *_, **__: None)
    absent = {check.name: check for check in script.checks(tmp_path)}
    assert list(absent) == ["kernels", "method", *SANITIZERS, "bench"]
    assert [name for name, check in absent.items() if check.missing] == SANITIZERS
    assert absent["bench"].command[1:] == ("-m", "gpuvos", "bench", "--json", str(tmp_path / "bench.json"))
    monkeypatch.setattr(script.shutil, "which", lambda name, **_: f"/opt/{name}")
    check = script.sanitizer_check("racecheck")
    assert not check.missing
    assert check.command[:5] == ("/opt/compute-sanitizer", "--tool", "racecheck", "--error-exitcode", "86")
    ops = {path.parent.name for path in (SCRIPT.parents[1] / "kernels").glob("*/kernel.py")}
    files = {Path(part).name for part in check.command if part.endswith(".py")}
    lattice = {"lattice_filter", "lattice_neighbors", "permutohedral_lattice"}  # have one file
    assert files == {f"test_{op}_kernel.py" for op in ops - lattice} | {"test_lattice_kernels.py"}
