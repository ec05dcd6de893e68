"""Tables as Markdown, CSV and JSON, charts as PNG; every file whole or not there."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

from gpuvos.data.atomic import atomic_file
from gpuvos.paper.tables import Cell, Table
from gpuvos.viz.maps import save_png


def markdown(table: Table) -> str:
    """A table with its title and note.

    Example:
        >>> print(markdown(Table("t", "Title", ("what", "J"), [["a", 1.0], ["b", None]])))
        ### Title
        <BLANKLINE>
        | what | J |
        |---|---:|
        | a | 1.0 |
        | b | - |
    """
    lines = [f"### {table.title}", "", _line(table.columns)]
    lines.append("|---|" + "---:|" * (len(table.columns) - 1))
    lines += [
        _line([_shown(cell, column) for cell, column in zip(row, table.columns, strict=True)]) for row in table.rows
    ]
    return "\n".join(lines + (["", table.note] if table.note else []))


def write(folder: Path, tables: Sequence[Table], facts: dict[str, object]) -> None:
    """Writes ``report.md`` with all tables, and of every table ``NAME.csv``, ``NAME.json`` and its charts.

    Args:
        folder: where to.
        tables: what to write.
        facts: what the results were made with, for ``report.json``.
    """
    for table in tables:
        for name, chart in table.charts.items():
            save_png(folder / "plots" / f"{name}.png", chart)
        with (
            atomic_file(folder / f"{table.name}.csv") as path,
            path.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.writer(stream)
            writer.writerow(table.columns)
            writer.writerows([["" if _absent(cell) else cell for cell in row] for row in table.rows])
        _write_json(folder / f"{table.name}.json", _content(table))
    _write_json(folder / "report.json", {**facts, "tables": [_content(table) for table in tables]})
    with atomic_file(folder / "report.md") as path:
        parts = [markdown(table) + _images(table) for table in tables]
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _content(table: Table) -> dict[str, object]:
    return {
        "title": table.title,
        "note": table.note,
        "columns": list(table.columns),
        "rows": [[None if _absent(cell) else cell for cell in row] for row in table.rows],
    }


def _images(table: Table) -> str:
    return "".join(f"\n\n![{name}](plots/{name}.png)" for name in table.charts)


def _write_json(file: Path, content: object) -> None:
    with atomic_file(file) as path:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _absent(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, float) and not math.isfinite(cell))


def _shown(cell: Cell, column: str) -> str:
    """One digit after the point, and more where a column is no percentage."""
    if _absent(cell):
        return "-"
    fine = "distance" in column or "time" in column
    return cell if isinstance(cell, str) else f"{cell:.{2 if fine else 1}f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
