"""The code that kernels compile to, run thread by thread in random orders, gives the bits of the references."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

FOLDER = Path(__file__).parent


def in_a_process(*command: str) -> subprocess.CompletedProcess[str]:
    """One that interprets no kernels."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    given = [sys.executable, *command]
    return subprocess.run(given, cwd=FOLDER, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_compiled_kernels_equal_the_references(exhaustive: bool) -> None:
    done = in_a_process("ptx_cases.py", "full" if exhaustive else "lean")
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = dict(json.loads(line) for line in done.stdout.splitlines())
    # the emulator tells orders apart: without its barriers a kernel is wrong, or leaves its memory
    assert outcomes.pop("no barrier") != "same"
    mutated = {name: outcomes.pop(name) for name in list(outcomes) if " without barrier " in name}
    assert outcomes
    assert set(outcomes.values()) == {"same"}, outcomes
    if exhaustive:  # Triton has more barriers than there are races, so not every one is missed
        for name in {name.partition(" without")[0] for name in mutated}:
            assert any(value != "same" for one, value in mutated.items() if one.startswith(name)), name


def test_unknown_instructions_raise() -> None:
    text = ".entry some(\n)\n{\n\t.reg .b32 %r<3>;\n\tbrev.b32 \t%r1, %r2;\n}\n"
    code = f"import ptx_code; ptx_code.translate({text!r})"
    done = in_a_process("-c", code)
    assert "UnknownInstructionError: brev.b32 \t%r1, %r2;" in done.stderr


def test_arithmetic_of_float32() -> None:
    code = """
import numpy as np, ptx_code as p
f = p.bits_f32
assert p.fma_f32(f(1 + 2**-12), f(1 + 2**-12), f(-1)) == f(2**-11 + 2**-24)  # no rounding in between
assert p.fma_f32(f(1), f(1), f(2**-24 + 2**-47)) == f(1 + 2**-23)  # above the middle, though not in a double
assert p.min_f32(0x80000000, 0) == 0x80000000 == p.min_f32(0, 0x80000000)
assert p.min_f32(0x7FC00000, f(2.0)) == f(2.0)
assert p.floor_f32(0x80000001, False) == f(-1.0) and p.floor_f32(0x80000001, True) == 0x80000000
assert [p.quotient(a, b) for a, b in ((7, 2), (-7, 2), (7, -2))] == [3, -3, -3]
assert p.permuted(0x44332211, 0x88776655, 0x5410) == 0x66552211
"""
    done = in_a_process("-c", code)
    assert done.returncode == 0, done.stderr
