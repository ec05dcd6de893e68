"""PTX of a kernel as a Python function: one generator a thread, registers as local variables.

A generator stops (``yield``) before every access of memory, at barriers, and where lanes of a warp exchange values; in
between it runs alone, which nobody can tell, for registers are its own. Registers hold bits as unsigned integers, and
begin with a pattern, so that what is used before it is set shows. An instruction that is not known here raises.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

POISON = 0x5CA1AB1E5CA1AB1E
WIDTHS = {"r": 32, "rd": 64, "rs": 16, "p": 1}
_INSTRUCTION = re.compile(r"^(?:@(!?)%(p\d+)\s+)?([a-z][\w.:]*)\s*(.*);$")
_COMPARE = {
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<=", "hi": ">", "hs": ">=",
}  # fmt: skip
_BITWISE = {"and": "&", "or": "|", "xor": "^"}


class UnknownInstructionError(Exception):
    """The emulator has no meaning for an instruction."""


def translate(ptx: str) -> Callable[..., Iterator[Any]]:
    """The generator function of a kernel's thread: of its memories, parameters, thread and program."""
    name, body = _entry(ptx)
    declared = [(kind, int(count)) for kind, count in re.findall(r"\.reg \.\w+\s+%([a-z]+)<(\d+)>", body)]
    lines = [line.split("//")[0].strip() for line in body.splitlines()]
    lines = [line for line in lines if line and not line.startswith(".")]
    targets = set(re.findall(r"\bbra(?:\.uni)?\s+(\$\w+);", body))
    blocks: list[list[str]] = [[]]
    number: dict[str, int] = {}
    for line in lines:
        if line.endswith(":"):
            if line[:-1] in targets:
                blocks.append([])
                number[line[:-1]] = len(blocks) - 1
        else:
            blocks[-1].append(line)
    text = ["def thread(load, store, atomic, load_shared, store_shared, param, tid, ctaid):"]
    for kind, count in declared:
        first = POISON & (1 << WIDTHS[kind]) - 1 if kind in WIDTHS else _unknown(f"registers %{kind}")
        text += [f" {kind}{register} = {first}" for register in range(1, count)]
    text += [" at = 0", " while True:", *_choose(blocks, number, 0, len(blocks), "  ")]
    space: dict[str, Any] = dict(_FUNCTIONS)
    exec(compile("\n".join(text), f"<{name}>", "exec"), space)
    found: Callable[..., Iterator[Any]] = space["thread"]
    return found


def _entry(ptx: str) -> tuple[str, str]:
    found = re.search(r"\.entry (\w+)\(.*?\n\{\n(.*?)\n\}", ptx, re.DOTALL)
    if found is None:
        raise ValueError("no kernel in this text")
    return found[1], found[2]


def _unknown(line: str) -> Any:
    raise UnknownInstructionError(line)


def _choose(blocks: list[list[str]], number: dict[str, int], first: int, end: int, space: str) -> Iterator[str]:
    """Statements that run block number ``at``, found by halves."""
    if end - first > 1:
        middle = (first + end) // 2
        yield f"{space}if at < {middle}:"
        yield from _choose(blocks, number, first, middle, space + " ")
        yield f"{space}else:"
        yield from _choose(blocks, number, middle, end, space + " ")
        return
    for place, line in enumerate(blocks[first]):
        found = _INSTRUCTION.match(line) or _unknown(line)
        negated, predicate, name, rest = found.groups()
        inner = space
        if predicate:
            yield f"{space}if {'not ' * bool(negated)}{predicate}:"
            inner += " "
        operands = _operands(rest)
        try:
            statements = list(_statements(name, operands, number, f"{first}.{place}"))
        except (KeyError, IndexError, ValueError) as error:
            raise UnknownInstructionError(line) from error
        if predicate and any(" = yield (" in one or one == "yield 'bar'" for one in statements):
            _unknown(line)  # lanes that meet under a condition
        yield from (inner + one for one in statements)
    yield f"{space}at = {first + 1}"
    yield f"{space}continue"


def _operands(text: str) -> list[str]:
    return [part.strip() for part in re.findall(r"\s*(\{[^}]*\}|\[[^\]]*\]|[^,]+)", text) if part.strip()]


def _register(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"%(([a-z]+)\d+)", text)
    if found is None:
        raise ValueError(text)
    return found[1], WIDTHS[found[2]]


def _value(text: str, width: int) -> str:
    """An operand as an expression of ``width`` bits."""
    special = {"%tid.x": "tid", "%ctaid.x": "ctaid", "global_smem": "0"}
    if text in special:
        return special[text]
    if text.startswith("%"):
        name, bits = _register(text)
        return name if bits <= width else f"({name} & {(1 << width) - 1})"
    if text.startswith("0f"):
        return str(int(text[2:], 16))
    return str(int(text.rstrip("U"), 0) & (1 << width) - 1)


def _signed(value: str, width: int) -> str:
    return f"(({value} ^ {1 << width - 1}) - {1 << width - 1})"


def _typed(text: str, kind: str, width: int) -> str:
    value = _value(text, width)
    return _signed(value, width) if kind == "s" else value


def _type(name: str) -> tuple[str, int]:
    if name in ("pred", "bf16"):
        return ("p", 1) if name == "pred" else ("bf", 16)
    found = re.fullmatch(r"([busf])(\d+)", name)
    if found is None:
        raise ValueError(name)
    return found[1], int(found[2])


def _address(text: str) -> str:
    found = re.fullmatch(r"\[\s*(%?\w+)\s*(?:\+\s*(-?\d+)\s*)?\]", text)
    if found is None:
        raise ValueError(text)
    return f"{_value(found[1], 64)} + {found[2] or 0}"


def _statements(name: str, given: list[str], number: dict[str, int], place: str) -> Iterator[str]:
    base, *suffixes = name.replace("::cta", "").split(".")
    if base in ("bra", "ret"):
        yield "return" if base == "ret" else f"at = {number[given[0]]}"
        if base == "bra":
            yield "continue"
    elif name == "bar.sync" and given == ["0"]:
        yield "yield 'bar'"
    elif base in ("ld", "st", "atom", "red"):
        yield from _memory(base, suffixes, given)
    elif base in ("shfl", "redux") and suffixes[0] == "sync":
        yield from _exchange(base, suffixes[1:], given, place)
    elif base == "mov" and "{" in "".join(given[:2]):
        yield from _pieces(given)
    else:
        target, width = _register(given[0])
        yield f"{target} = {_expression(base, suffixes, given[1:], width)}"


def _memory(base: str, suffixes: list[str], given: list[str]) -> Iterator[str]:
    space = suffixes[0]
    _, width = _type(suffixes[-1])
    size, rest = width // 8, suffixes[1:-1]
    if base == "ld" and space == "param":
        target, wide = _register(given[0])
        value = f"param[{int(given[1].rstrip(']').rsplit('_', 1)[1])}] & {(1 << width) - 1}"
        yield f"{target} = {_wrap(value, *_type(suffixes[-1]), wide)}"
        return
    where = {"global": "", "shared": "_shared"}[space]
    yield "yield"
    if base in ("ld", "st"):
        if not set(rest) <= {"cg", "v2", "v4"}:
            raise ValueError(rest)
        group, address = given if base == "ld" else given[::-1]
        for part, register in enumerate(one.strip() for one in group.strip("{}").split(",")):
            if part:
                yield "yield"  # words of a vector come one by one
            if base == "ld":
                yield f"{_register(register)[0]} = load{where}({_address(address)} + {part * size}, {size})"
            else:
                yield f"store{where}({_address(address)} + {part * size}, {size}, {_value(register, width)})"
    else:
        if space != "global" or rest[:2] != ["gpu", "relaxed"]:
            raise ValueError(rest)
        address, value = given[-2:]
        old = f"{_register(given[0])[0]} = " if base == "atom" else ""
        yield f"{old}atomic({_address(address)}, {size}, {_value(value, width)}, '{rest[2]}', '{suffixes[-1][0]}')"


def _exchange(base: str, suffixes: list[str], given: list[str], place: str) -> Iterator[str]:
    """Lanes meet: the thread says what it brings, and is sent what it gets."""
    target, _ = _register(given[0])
    value = _value(given[1], 32)
    if base == "redux":
        if suffixes not in (["add", "s32"], ["max", "s32"], ["min", "s32"]):
            raise ValueError(suffixes)
        yield f"{target} = yield ('{suffixes[0]}', '{place}', {value}, 0, {_value(given[2], 32)})"
    else:
        if suffixes not in (["bfly", "b32"], ["up", "b32"], ["idx", "b32"]):
            raise ValueError(suffixes)
        if int(given[3], 0) != (0 if suffixes[0] == "up" else 31):
            raise ValueError(given[3])
        yield f"{target} = yield ('{suffixes[0]}', '{place}', {value}, {_value(given[2], 32)}, {_value(given[4], 32)})"


def _pieces(given: list[str]) -> Iterator[str]:
    """Moves between a register and its parts."""
    if given[0].startswith("{"):
        names = [one.strip() for one in given[0].strip("{}").split(",")]
        whole, width = _register(given[1])
        part = width // len(names)
        for place, one in enumerate(names):
            if one != "_":
                yield f"{_register(one)[0]} = {whole} >> {place * part} & {(1 << part) - 1}"
        return
    target, width = _register(given[0])
    names = [one.strip() for one in given[1].strip("{}").split(",")]
    part = width // len(names)
    yield f"{target} = " + " | ".join(f"{_value(one, part)} << {place * part}" for place, one in enumerate(names))


def _wrap(value: str, kind: str, width: int, register: int) -> str:
    """Bits of a number of a type in a register that may be wider."""
    if kind == "s" and register > width:
        return f"{_signed(f'({value} & {(1 << width) - 1})', width)} & {(1 << register) - 1}"
    return f"({value}) & {(1 << min(width, register)) - 1}"


def _expression(base: str, suffixes: list[str], given: list[str], register: int) -> str:
    """The right side of an instruction without effects."""
    kind, width = _type(suffixes[-1])
    if base == "cvt":
        return _convert(suffixes, given[0], register)
    if base == "setp":
        compare = _COMPARE[suffixes[0]]
        if kind in ("f", "bf"):
            one, two = (f"number_{suffixes[-1]}({_value(value, width)})" for value in given)
        else:
            one, two = (_typed(value, kind, width) for value in given)
        return f"{one} {compare} {two}"
    if kind == "f" and base != "selp":
        if suffixes[:-1] != (["rn"] if base in ("fma", "div") else []) or width != 32:
            raise ValueError(suffixes)
        return f"{base}_f32({', '.join(_value(value, 32) for value in given)})"
    return _integer(base, suffixes, given, kind, width)


def _integer(base: str, suffixes: list[str], given: list[str], kind: str, width: int) -> str:
    plain = [_value(value, width) for value in given if not value.startswith("%p")]
    typed = [_typed(value, kind, width) for value in given if not value.startswith("%p")]
    mask = (1 << width) - 1
    if base == "mov":
        return f"bool({given[0]})" if kind == "p" and not given[0].startswith("%") else _value(given[0], width)
    if base in _BITWISE:
        return f" {_BITWISE[base]} ".join(_value(value, width) for value in given)
    if base == "not":
        return f"not {_value(given[0], 1)}" if kind == "p" else f"{plain[0]} ^ {mask}"
    if base == "selp":
        return f"{plain[0]} if {_value(given[2], 1)} else {plain[1]}"
    if base in ("mul", "mad"):
        form = suffixes[0]
        product = f"{typed[0]} * {typed[1]}"
        if form == "hi":
            return f"{product} >> {width} & {mask}"
        wide = {"lo": width, "wide": 2 * width}[form]
        more = f" + {_value(given[2], wide)}" if base == "mad" else ""
        return f"{product}{more} & {(1 << wide) - 1}"
    expressions = {
        "add": lambda: f"{plain[0]} + {plain[1]} & {mask}",
        "sub": lambda: f"{plain[0]} - {plain[1]} & {mask}",
        "neg": lambda: f"-{plain[0]} & {mask}",
        "min": lambda: f"min({typed[0]}, {typed[1]}) & {mask}",
        "max": lambda: f"max({typed[0]}, {typed[1]}) & {mask}",
        "div": lambda: f"quotient({typed[0]}, {typed[1]}) & {mask}",
        "rem": lambda: f"{typed[0]} - quotient({typed[0]}, {typed[1]}) * {typed[1]} & {mask}",
        "shl": lambda: f"{plain[0]} << min({_value(given[1], 32)}, {width}) & {mask}",
        "shr": lambda: f"{typed[0]} >> min({_value(given[1], 32)}, {width}) & {mask}",
        "bfe": lambda: f"{plain[0]} >> {int(given[1])} & {(1 << int(given[2])) - 1}",
        "popc": lambda: f"{plain[0]}.bit_count()",
        "prmt": lambda: f"permuted({', '.join(plain)})",
    }
    if base == "bfe" and kind != "u":
        raise ValueError(base)
    return expressions[base]()


def _convert(suffixes: list[str], given: str, register: int) -> str:
    to, source = suffixes[-2], suffixes[-1]
    if to == "f32" and source in ("f16", "bf16") and len(suffixes) == 2:
        return f"bits_f32(number_{source}({_value(given, 16)}))"
    if suffixes[:-2] in (["rmi"], ["rmi", "ftz"]) and to == source == "f32":
        return f"floor_f32({_value(given, 32)}, {'ftz' in suffixes})"
    if len(suffixes) != 2 or "f" in to + source:
        raise ValueError(suffixes)
    kind, width = _type(source)
    return _wrap(_typed(given, kind, width), *_type(to), register)


# Arithmetic. Sums, differences and products of two float32 are exact enough in a double to be rounded once more.


def number_f32(bits: int) -> float:
    return float(struct.unpack("f", struct.pack("I", bits))[0])


def number_f16(bits: int) -> float:
    return float(struct.unpack("e", struct.pack("H", bits))[0])


def number_bf16(bits: int) -> float:
    return number_f32(bits << 16)


def bits_f32(value: float) -> int:
    if value != value:
        return 0x7FFFFFFF
    try:
        return int(struct.unpack("I", struct.pack("f", value))[0])
    except OverflowError:
        return 0x7F800000 if value > 0 else 0xFF800000


def fma_f32(a: int, b: int, c: int) -> int:
    product, addend = number_f32(a) * number_f32(b), number_f32(c)  # exact: 48 digits
    total = product + addend
    if math.isfinite(total):
        back = total - product
        error = (product - (total - back)) + (addend - back)
        if error and not struct.unpack("Q", struct.pack("d", total))[0] & 1:  # to odd: rounding once more is then right
            total = math.nextafter(total, math.inf if error > 0 else -math.inf)
    return bits_f32(total)


def min_f32(a: int, b: int) -> int:
    one, two = number_f32(a), number_f32(b)
    if one != one or two != two:
        return b if one != one else a
    if one == two:
        return a | b if one == 0 else a
    return a if one < two else b


def floor_f32(bits: int, flush: bool) -> int:
    if flush and bits & 0x7F800000 == 0:
        return bits & 0x80000000
    value = number_f32(bits)
    return bits if not math.isfinite(value) or value == 0 else bits_f32(math.floor(value))


def quotient(a: int, b: int) -> int:
    if b == 0:
        raise ZeroDivisionError("division by zero in a kernel")
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def permuted(a: int, b: int, selector: int) -> int:
    both = (a | b << 32).to_bytes(8, "little")
    if selector & 0x8888:
        raise UnknownInstructionError("prmt that copies signs")
    return int.from_bytes(bytes(both[selector >> 4 * i & 7] for i in range(4)), "little")


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "number_f32": number_f32, "number_f16": number_f16, "number_bf16": number_bf16, "bits_f32": bits_f32,
    "fma_f32": fma_f32, "min_f32": min_f32, "floor_f32": floor_f32, "quotient": quotient, "permuted": permuted,
    "add_f32": lambda a, b: bits_f32(number_f32(a) + number_f32(b)),
    "sub_f32": lambda a, b: bits_f32(number_f32(a) - number_f32(b)),
    "mul_f32": lambda a, b: bits_f32(number_f32(a) * number_f32(b)),
}  # fmt: skip
