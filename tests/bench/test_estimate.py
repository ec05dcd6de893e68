"""Estimates from compiled code, on code written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from gpuvos.bench import factors, sass, static_table
from gpuvos.bench.estimate import Compiled, Cost, cost
from gpuvos.bench.launches import Given, Launch
from gpuvos.kernels.static import Usage, Variant, call_variant

SOURCE = """def kernel(x):
    for i in range(9):
        for j in range(3):
            x += 1
    for k in tl.static_range(2):
        x += 1
    while x:
        x -= 1
"""


def code(file: Path) -> sass.Code:
    return sass.parse(
        f"""
	//## File "{file}", line 1
        /*0000*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
.L_x_1:
	//## File "{file}", line 2
        /*0010*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
.L_x_2:
	//## File "{file}", line 4
        /*0020*/              @!P0 HGMMA.64x64x16.F32.BF16 R24, gdesc[UR8], R24 ;
        /*0030*/               @P0 BRA `(.L_x_2) ;
	//## File "{file}", line 2
        /*0040*/               @P1 BRA `(.L_x_1) ;
        /*0050*/                   NOP ;
        /*0058*/                   BRA.DIV UR13, `(.L_x_4) ;
	//## File "{file}", line 7
        /*0060*/                   REDG.E.MIN.S64 desc[UR4][R2.64], R4 ;
        /*0068*/                   EXIT ;
.L_x_4:
        /*0070*/                   WARPSYNC.COLLECTIVE R4, `(.L_x_5) ;
.L_x_5:
        /*0080*/                   BRA `(.L_x_1) ;
.L_x_3:
        /*0090*/                   BRA `(.L_x_3);
"""
    )


@pytest.fixture
def written(tmp_path: Path) -> sass.Code:
    file = tmp_path / "kernel.py"
    file.write_text(SOURCE)
    return code(file)


def test_code_is_read_with_its_loops(written: sass.Code) -> None:
    assert [one.name.partition(".")[0] for one in written.instructions] == [
        "LDG", "BAR", "HGMMA", "BRA", "BRA", "BRA", "REDG", "EXIT"
    ]  # fmt: skip
    assert written.loops == [sass.Loop(2, 3, "kernel#1"), sass.Loop(1, 4, "kernel#0")]
    turns = {"kernel#0": 9.0, "kernel#1": 3.0}
    assert written.executed(turns.__getitem__) == [1, 9, 27, 27, 9, 1, 1, 1]
    assert written.count("REDG") == 1
    assert sass.flops(written.instructions[2]) == 2 * 64 * 64 * 16 / 4


def test_two_ways_back_are_one_loop_whose_name_no_inner_loop_has(tmp_path: Path) -> None:
    """As where a condition at the end of a body is taken apart, and lines of the inner loop stand around it."""
    file = tmp_path / "kernel.py"
    file.write_text(SOURCE)
    written = sass.parse(
        f"""
.L_x_1:
	//## File "{file}", line 2
        /*0000*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
.L_x_2:
	//## File "{file}", line 4
        /*0010*/                   FADD R0, R0, R1 ;
        /*0020*/               @P0 BRA `(.L_x_2) ;
        /*0030*/                   FADD R0, R0, R1 ;
        /*0040*/               @P1 BRA `(.L_x_1) ;
        /*0050*/               @P2 BRA `(.L_x_1) ;
        /*0060*/                   EXIT ;
"""
    )
    assert written.loops == [sass.Loop(1, 2, "kernel#1"), sass.Loop(0, 5, "kernel#0")]
    assert written.executed({"kernel#0": 9.0, "kernel#1": 3.0}.__getitem__) == [9, 27, 27, 9, 9, 9, 1]


def test_flops_of_other_products() -> None:
    assert sass.flops(sass.Instruction("HMMA.16816.F32.BF16", "", "", 0)) == 2 * 16 * 8 * 16
    assert sass.flops(sass.Instruction("HGMMA.64x32x8.F32.TF32", "", "", 0)) == 2 * 2 * 64 * 32 * 8 / 4
    assert sass.flops(sass.Instruction("FFMA", "", "", 0)) == 0


def test_cost_by_hand(written: sass.Code, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factors, "TURNS", {"kernel#0": lambda _, a: a["N"], "kernel#1": lambda case, _: case.frames})
    variant = Variant(None, {}, {}, num_warps=4)
    compiled = Compiled(Usage("op", "kernel", "", 90, 4, registers=128, spilled=0, shared=100 << 10), variant, written)
    launch = Launch(
        "kernel", "op", 1, 0, object(), 264, {"N": 9, "x": Given(torch.float32, 43 << 20, 0), "flag": "no number"}
    )
    found = cost(launch, compiled, factors.Case(3, 1, 1, 1, 1))
    assert found.instructions == 1 + 9 + 27 + 27 + 9 + 3
    assert found.issue == pytest.approx(264 * 4 * 76 / (132 * 4 * factors.CLOCK * factors.ISSUED))
    assert found.products == pytest.approx(264 * 4 * 27 * 32768 / factors.TENSOR)
    assert found.memory == pytest.approx((43 << 22) / factors.BANDWIDTH)
    waits = factors.AWAY + 9 * factors.BARRIER  # two programs share a multiprocessor, so there is one wave
    assert found.alone == pytest.approx((76 * factors.ALONE + waits) / factors.CLOCK)
    assert found.bound == "bytes"
    assert found.seconds == found.memory + factors.LAUNCH
    assert Cost("", 1, 1, 4, 3, 2, 1).bound == "instructions"


def test_what_a_call_compiles() -> None:
    import triton
    import triton.language as tl

    @triton.jit(do_not_specialize=["n"])
    def kernel(x, y, n, m, one, scale, BLOCK: tl.constexpr):
        pass

    if not isinstance(kernel, triton.runtime.JITFunction):
        kernel = triton.runtime.JITFunction(kernel.fn, do_not_specialize=["n"])
    given = {
        "x": Given(torch.bfloat16, 9, 64), "y": Given(torch.int64, 9, 8), "n": 32, "m": 32, "one": 1, "scale": 0.5,
        "BLOCK": 16,
    }  # fmt: skip
    found = call_variant(kernel, given, {"num_warps": 8})
    assert found.signature == {
        "x": "*bf16", "y": "*i64", "n": "i32", "m": "i32", "one": "constexpr", "scale": "fp32", "BLOCK": "constexpr",
    }  # fmt: skip
    assert found.constants == {"one": 1, "BLOCK": 16}
    assert found.divisible == {"x", "m"}
    assert (found.num_warps, found.num_stages) == (8, 3)


def test_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_table, "_STOPS", {"seeds": "K steps, one after another."})
    rows = [
        static_table.Estimate(300, 480, 854, "seeds", 9, 0.02, 3.0, 1.5, "sample: latency"),
        static_table.Estimate(300, 120, 214, "seeds", 9, None, 0.3, 0.3, "sample: latency"),
    ]
    text = static_table.estimate_table(rows)
    assert "| seeds | 300 | 9 | 0.02 | **3** | 1.5 | - | 0.3 | 0.3 | sample: latency |" in text
    assert text.endswith("- seeds: K steps, one after another.")
    assert "nothing of it is measured" in text
    assert "stops" not in static_table.estimate_table(rows[1:])


def test_turns_are_of_loops_that_there_are() -> None:
    from gpuvos.kernels import static

    folder = Path(static.__file__).parent
    known = {name for file in folder.glob("*/*.py") for name in sass.statements(str(file))}
    assert set(factors.TURNS) <= known, set(factors.TURNS) - known
