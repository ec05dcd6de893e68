"""``gpuvos bench``: what the kernels cost."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from gpuvos.data.files import atomic_file
from gpuvos.errors import fail
from gpuvos.kernels.static import ARCHITECTURES, Usage, compile_op, kernel_names


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "--static",
        action="store_true",
        required=True,
        help="compile every Triton kernel ahead of time (no GPU needed) and print registers, spills, shared memory",
    )
    parser.add_argument("--ops", nargs="+", metavar="OP", help="only these")
    parser.add_argument(
        "--architectures", nargs="+", type=int, default=list(ARCHITECTURES), metavar="SM", help="80 90 100"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")


def run(arguments: Namespace) -> int:
    """Prints the table; returns 1 if a kernel spills, else 0."""
    known = kernel_names()
    unknown = sorted(set(arguments.ops or ()) - set(known))
    if unknown:
        raise fail("--ops", ", ".join(unknown), f"some of {', '.join(known)}")
    ops = arguments.ops or known
    rows = [
        row
        for op in tqdm(ops, disable=None, unit="op", leave=False)
        for architecture in arguments.architectures
        for row in compile_op(op, architecture)
    ]
    print(table(rows))
    if arguments.json is not None:
        report = {
            "triton": version("triton"),
            "torch": version("torch"),
            "kernels": [row._asdict() for row in rows],
        }
        with atomic_file(arguments.json) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")
    return int(any(row.spilled for row in rows))


def table(rows: Sequence[Usage]) -> str:
    """A Markdown table, one row a kernel and variant, its architectures side by side."""
    architectures = sorted({row.architecture for row in rows})
    heads = " | ".join(f"sm_{number}" for number in architectures)
    lines = [
        f"triton {version('triton')}; registers of a thread / bytes spilled / bytes of shared memory",
        "",
        f"| op | kernel | variant | warps | {heads} |",
        f"|---|---|---|---:|{'---:|' * len(architectures)}",
    ]
    together: dict[tuple[str, str, str, int], dict[int, Usage]] = {}
    for row in rows:
        together.setdefault((row.op, row.kernel, row.note, row.num_warps), {})[row.architecture] = row
    for (op, kernel, note, warps), found in together.items():
        cells = " | ".join(
            f"{found[number].registers} / {found[number].spilled} / {found[number].shared}"
            for number in architectures
        )
        lines.append(f"| {op} | {kernel} | {note} | {warps} | {cells} |")
    return "\n".join(lines)
