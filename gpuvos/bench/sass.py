"""Machine code of a kernel as the estimates read it: instructions, their lines in the source, loops."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

_LINE = re.compile(r'^\s*//## File "(.+?)", line (\d+)')
_LABEL = re.compile(r"^(\.L_x_\d+):")
_CODE = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[0-9T]\s+)?(\S+)\s*(.*?)\s*;")
_TARGET = re.compile(r"`\((\.L_x_\d+)\)")
_PRODUCT = re.compile(r"^HGMMA\.64x(\d+)x(\d+)")
_WARP_PRODUCT = re.compile(r"^HMMA\.16(\d+?)(\d\d?)\.F")


class Instruction(NamedTuple):
    """One of a thread."""

    name: str  # with its suffixes, as LDG.E.128
    operands: str
    file: str
    line: int


class Loop(NamedTuple):
    """Instructions first to last, both inside, and the statement that they are of: its function and number there."""

    first: int
    last: int
    statement: str  # as "_walk#1"


class Code(NamedTuple):
    """A kernel."""

    instructions: list[Instruction]
    loops: list[Loop]

    def count(self, pattern: str) -> int:
        """Instructions whose name begins with a regular expression."""
        return sum(bool(re.match(pattern, instruction.name)) for instruction in self.instructions)

    def barriers_asked(self) -> int:
        """Lines with ``tl.debug_barrier()`` in the functions that some instruction is of."""
        lines: dict[str, set[int]] = {}
        for one in self.instructions:
            lines.setdefault(one.file, set()).add(one.line)
        return sum(
            sum(begin <= line <= end for line in _barriers(file))
            for file, some in lines.items()
            for begin, end in _functions(file)
            if any(begin <= line <= end for line in some)
        )

    def executed(self, trips: Callable[[str], float]) -> list[float]:
        """How often a warp comes by each instruction, given the turns of every loop and all branches taken."""
        times = [1.0] * len(self.instructions)
        for loop in self.loops:
            turns = trips(loop.statement)
            for place in range(loop.first, loop.last + 1):
                times[place] *= turns
        return times


def parse(text: str) -> Code:
    """Reads what ``nvdisasm -g -c`` prints of one kernel."""
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    file, line = "", 0
    for row in text.splitlines():
        if found := _LINE.match(row):
            file, line = found[1], int(found[2])
        elif found := _LABEL.match(row):
            labels[found[1]] = len(instructions)
        elif (found := _CODE.match(row)) and found[1] != "NOP":
            instructions.append(Instruction(found[1], found[2], file, line))
    # Where warps may be divided there is code for that, after all other code; they are not.
    apart = [labels[_TARGET.findall(one.operands)[0]] for one in instructions if one.name.startswith("BRA.DIV")]
    instructions = instructions[: min(apart, default=None)]
    return Code(instructions, _loops(instructions, labels))


def _loops(instructions: Sequence[Instruction], labels: dict[str, int]) -> list[Loop]:
    """Loops, inner ones first. All ways back to one instruction are of one loop, as where its body ends twice."""
    ends: dict[int, int] = {}
    for place, instruction in enumerate(instructions):
        target = _TARGET.search(instruction.operands) if instruction.name.startswith("BRA") else None
        if target is not None and labels.get(target[1], place) < place:  # else ahead, or the end of the code
            ends[labels[target[1]]] = place
    found: list[Loop] = []
    for first, last in sorted(ends.items(), key=lambda ends: ends[1] - ends[0]):
        inner = [loop for loop in found if first <= loop.first and loop.last <= last]
        own = [*range(last, first - 1, -1)]
        for loop in inner:
            own = [place for place in own if not loop.first <= place <= loop.last]
        names = [_statement(instructions[place].file, instructions[place].line) for place in own]
        # lines of an inner loop may come before and after it, where the compiler took its first or last turn apart
        known = {"", *(loop.statement for loop in inner)}
        found.append(Loop(first, last, next((name for name in names if name not in known), "")))
    return found


def statements(file: str) -> list[str]:
    """The loops of a file, as ``Loop.statement`` names them."""
    return [name for _, _, name in _statements(file)]


@cache
def _source(file: str) -> str:
    """Of a file of the package, else nothing."""
    path = Path(file)
    return path.read_text(encoding="utf-8") if path.is_file() and "triton" not in path.parts else ""


@cache
def _barriers(file: str) -> list[int]:
    return [number for number, line in enumerate(_source(file).splitlines(), 1) if "tl.debug_barrier()" in line]


@cache
def _functions(file: str) -> list[tuple[int, int]]:
    nodes = [node for node in ast.walk(ast.parse(_source(file))) if isinstance(node, ast.FunctionDef)]
    return [(node.lineno, node.end_lineno or node.lineno) for node in nodes]


@cache
def _statements(file: str) -> list[tuple[int, int, str]]:
    """First and last line of the loops of a file, outer ones first, with function and number."""
    found = []
    for function in ast.walk(ast.parse(_source(file))):
        if isinstance(function, ast.FunctionDef):
            nodes = [node for node in ast.walk(function) if isinstance(node, ast.For | ast.While)]
            static = [isinstance(node, ast.For) and "static_range" in ast.unparse(node.iter) for node in nodes]
            nodes = sorted((node for node, no in zip(nodes, static, strict=True) if not no), key=lambda n: n.lineno)
            found += [
                (node.lineno, node.end_lineno or node.lineno, f"{function.name}#{number}")
                for number, node in enumerate(nodes)
            ]
    return found


def _statement(file: str, line: int) -> str:
    """The innermost loop around a line of the source."""
    around = [(last - first, name) for first, last, name in _statements(file) if first <= line <= last]
    return min(around)[1] if around else ""


def flops(instruction: Instruction) -> float:
    """Operations that a warp has tensor cores do; those of TF32, at half the speed, count twice.

    Example:
        >>> flops(Instruction("HGMMA.64x64x16.F32.BF16", "", "", 0)) == 2 * 64 * 64 * 16 / 4
        True
    """
    rate = 2 if "TF32" in instruction.name else 1
    if found := _PRODUCT.match(instruction.name):  # by four warps together
        return rate * 2 * 64 * int(found[1]) * int(found[2]) / 4
    if found := _WARP_PRODUCT.match(instruction.name):
        return rate * 2 * 16 * int(found[1]) * int(found[2])
    return 0.0
