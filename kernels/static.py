"""Ahead-of-time compilation of the Triton kernels, with no GPU at hand: registers, spills and shared memory."""

from __future__ import annotations

import importlib
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from gpuvos.errors import fail

ARCHITECTURES = (80, 90, 100)
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


class Variant(NamedTuple):
    """One specialisation of a kernel; every ``kernel.py`` lists its own as ``VARIANTS``."""

    function: Any  # what @triton.jit made
    signature: dict[str, str]  # Triton's type of every argument: "*fp32", "i32", "constexpr", ...
    constants: dict[str, Any]  # values of the constexpr arguments
    num_warps: int = 4
    num_stages: int = 3
    note: str = ""  # what tells it from the others, as "bf16, D = 64"


class Usage(NamedTuple):
    """Resources of one compiled kernel."""

    op: str
    kernel: str
    note: str
    architecture: int  # 90 for sm_90
    num_warps: int
    registers: int  # of a thread
    spilled: int  # bytes of a thread
    shared: int  # bytes of a program


def kernel_names() -> list[str]:
    """Ops that have a Triton kernel."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/kernel.py"))


def compile_op(op: str, architecture: int) -> list[Usage]:
    """Compiles every variant of an op's kernels for ``sm_<architecture>``; needs no GPU.

    Raises:
        InputError: the process interprets kernels (TRITON_INTERPRET is set), so that there is nothing to compile.
    """
    module = importlib.import_module(f"gpuvos.kernels.{op}.kernel")
    return [_compile(op, variant, architecture) for variant in module.VARIANTS]


def _compile(op: str, variant: Variant, architecture: int) -> Usage:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if not isinstance(variant.function, triton.runtime.JITFunction):
        raise fail("TRITON_INTERPRET", "set", "unset", "kernels are compiled in a process that interprets none")
    pointers = [place for place, kind in enumerate(variant.signature.values()) if kind.startswith("*")]
    source = ASTSource(
        fn=variant.function,
        signature=variant.signature,
        constexprs=variant.constants,
        attrs={(place,): [["tt.divisibility", 16]] for place in pointers},  # as torch allocates
    )
    options = {"num_warps": variant.num_warps, "num_stages": variant.num_stages, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    registers, stack, _, local = _resources(compiled.asm["cubin"])
    name = variant.function.__name__.lstrip("_")
    shared = int(compiled.metadata.shared)
    return Usage(op, name, variant.note, architecture, variant.num_warps, registers, stack + local, shared)


def _resources(cubin: bytes) -> tuple[int, int, int, int]:
    """Registers, stack, shared and local memory, read by the tool that comes with Triton."""
    import triton.backends.nvidia

    tool = Path(next(iter(triton.backends.nvidia.__path__))) / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        text = subprocess.run([str(tool), "-res-usage", str(path)], check=True, capture_output=True, text=True).stdout
    found = _USAGE.search(text)
    if found is None:
        raise RuntimeError(f"cuobjdump printed no usage: {text!r}")
    registers, stack, shared, local = (int(value) for value in found.groups())
    return registers, stack, shared, local
