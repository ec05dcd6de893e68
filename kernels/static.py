"""Ahead-of-time compilation of the Triton kernels, with no GPU at hand: registers, spills, shared memory, code."""

from __future__ import annotations

import importlib
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gpuvos.errors import fail

ARCHITECTURES = (80, 90, 100)
# Integers that Triton compiles for a multiple of 16, as it does at the sizes that the aims are for.
_DIVISIBLE = frozenset({"D", "P", "stride_n", "stride_d", "stride_c"})
_TYPES = {
    torch.bool: "i1", torch.uint8: "u8", torch.int32: "i32", torch.int64: "i64", torch.bfloat16: "bf16",
    torch.float16: "fp16", torch.float32: "fp32", torch.float64: "fp64",
}  # fmt: skip
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


class Variant(NamedTuple):
    """One specialisation of a kernel; every ``kernel.py`` lists its own as ``VARIANTS``."""

    function: Any  # what @triton.jit made
    signature: dict[str, str]  # Triton's type of every argument: "*fp32", "i32", "constexpr", ...
    constants: dict[str, Any]  # values of the constexpr arguments
    num_warps: int = 4
    num_stages: int = 3
    note: str = ""  # what tells it from the others, as "bf16, D = 64"
    divisible: frozenset[str] | None = None  # arguments that 16 divides: of a call; else all pointers, and usual sizes


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
    return [usage(op, variant, architecture, compile_variant(variant, architecture)) for variant in module.VARIANTS]


def call_variant(kernel: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> Variant:
    """What Triton compiles for a call: sizes of 1 become constants, and 16 divides what it divides.

    Args:
        kernel: what ``@triton.jit`` made.
        arguments: by name; a tensor is anything with its ``dtype`` and the ``offset`` of its first byte in memory.
        options: ``num_warps``, ``num_stages``.
    """
    signature, constants, divisible = {}, {}, set()
    for parameter in kernel.params:
        name, value = parameter.name, arguments[parameter.name]
        kind = "constexpr"
        if hasattr(value, "dtype") and not parameter.is_constexpr:
            kind = f"*{_TYPES[value.dtype]}"
            divides = value.offset % 16 == 0
        elif parameter.is_constexpr or (value == 1 and not parameter.do_not_specialize):
            constants[name] = value
            divides = False
        else:
            kind = "fp32" if isinstance(value, float) else "i32" if -(1 << 31) <= value < 1 << 31 else "i64"
            divides = not isinstance(value, float) and not parameter.do_not_specialize and value % 16 == 0
        signature[name] = kind
        divisible |= {name} if divides else set()
    warps, stages = options.get("num_warps", 4), options.get("num_stages", 3)
    return Variant(kernel, signature, constants, warps, stages, divisible=frozenset(divisible))


def compile_variant(variant: Variant, architecture: int) -> Any:
    """What ``triton.compile`` makes of a variant for ``sm_<architecture>``."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if not isinstance(variant.function, triton.runtime.JITFunction):
        raise fail("TRITON_INTERPRET", "set", "unset", "kernels are compiled in a process that interprets none")
    source = ASTSource(
        fn=variant.function,
        signature=variant.signature,
        constexprs=variant.constants,
        attrs={(place,): [["tt.divisibility", 16]] for place in _divisible(variant)},
    )
    options = {"num_warps": variant.num_warps, "num_stages": variant.num_stages, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def usage(op: str, variant: Variant, architecture: int, compiled: Any) -> Usage:
    """What a compiled variant takes."""
    registers, stack, _, local = _resources(compiled.asm["cubin"])
    name = variant.function.__name__.lstrip("_")
    shared = int(compiled.metadata.shared)
    return Usage(op, name, variant.note, architecture, variant.num_warps, registers, stack + local, shared)


def disassembled(cubin: bytes) -> str:
    """The instructions of a compiled kernel, each after the line of the source that it is of."""
    return _tool("nvdisasm", cubin, "-g", "-c", "-ndf")  # without the analysis of branches, a quarter of its time


def _divisible(variant: Variant) -> list[int]:
    """Places of the arguments that 16 divides; torch allocates so."""
    if variant.divisible is not None:
        return [place for place, name in enumerate(variant.signature) if name in variant.divisible]
    single = {parameter.name for parameter in variant.function.params if parameter.do_not_specialize}
    return [
        place
        for place, (name, kind) in enumerate(variant.signature.items())
        if kind.startswith("*") or (name in _DIVISIBLE - single and kind in ("i32", "i64"))
    ]


def _resources(cubin: bytes) -> tuple[int, int, int, int]:
    """Registers, stack, shared and local memory, read by the tool that comes with Triton."""
    text = _tool("cuobjdump", cubin, "-res-usage")
    found = _USAGE.search(text)
    if found is None:
        raise RuntimeError(f"cuobjdump printed no usage: {text!r}")
    registers, stack, shared, local = (int(value) for value in found.groups())
    return registers, stack, shared, local


def _tool(name: str, cubin: bytes, *options: str) -> str:
    """What a tool that comes with Triton prints about a kernel."""
    import triton.backends.nvidia

    tool = Path(next(iter(triton.backends.nvidia.__path__))) / "bin" / name
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        return subprocess.run([str(tool), *options, str(path)], check=True, capture_output=True, text=True).stdout
