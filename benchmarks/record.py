"""Records what docs/performance.md says about the stages: ``python benchmarks/record.py``.

Runs ``gpuvos bench`` at 480 x 854 (stages and peers; the forests at full resolution as well; cost curves), leaves JSON,
Markdown, CSV and plots in ``benchmarks/results``, and writes the table of that page between its markers. On a GPU the
files are called ``*-cuda*`` and the table is left alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gpuvos.bench.environment import read_record
from gpuvos.bench.table import heading, number, table
from gpuvos.cli.common import pick_device
from gpuvos.cli.main import main as gpuvos
from gpuvos.data.atomic import atomic_file

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).parents[1] / "docs/performance.md"
BEGIN, END = "<!-- speed -->\n", "<!-- end of speed -->\n"


def best_peer(measurement: dict[str, Any], stage: str) -> str:
    """The quickest package for a stage and its time, as a cell."""
    found = [peer for peer in measurement["peers"] if peer["stage"] == stage and peer["median"]]
    quickest = min(found, key=lambda peer: peer["median"], default=None)
    return "" if quickest is None else f"{quickest['name']} {number(quickest['median'])}"


def page_table(records: list[dict[str, Any]]) -> str:
    """Time, floor and the quickest peer of every stage."""
    lines = [heading(records[0]), ""]
    lines += [
        "| stage | ms a frame, median | quartiles | floor | quickest peer |",
        "|---|---:|---:|---:|---:|",
    ]
    for number_of, record in enumerate(records):
        for measurement in record["measurements"]:
            for row in measurement["rows"]:
                name = row["stage"] + (", full resolution" if number_of else "")
                cells = [name, number(row["median"]), f"{number(row['q1'])} - {number(row['q3'])}"]
                cells += [number(row["floor"]), best_peer(measurement, row["stage"])]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_page(text: str) -> None:
    """Puts the table between the markers of the page."""
    whole = PAGE.read_text(encoding="utf-8")
    before, begin, rest = whole.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE} has no markers {BEGIN.strip()} and {END.strip()}")
    with atomic_file(PAGE) as path:
        path.write_text(before + BEGIN + text + END + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", default="processor", help="as in gpuvos bench")
    parser.add_argument("--max-seconds", type=float, default=15.0, help="of a stage")
    parser.add_argument("--curve-seconds", type=float, default=33.0, help="of a point of a curve")
    parser.add_argument("--page-only", action="store_true", help="tables from the records that are there")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    files = [RESULTS / f"bench-{device.type}.json"]
    common = ["--device", str(device), "--threads", str(arguments.threads), "--clock", arguments.clock]
    limit = ["--max-seconds", str(arguments.max_seconds)]
    runs = [["bench", *common, *limit, "--json", str(files[0])]]
    if device.type == "cpu":  # a GPU's run has both resolutions
        files.append(RESULTS / "bench-cpu-full.json")
        full = ["--stride", "1", "--frames", "2", "--stages", "forest"]
        runs.append(["bench", *common, *limit, *full, "--json", str(files[1])])
    curves = ["--curves", str(RESULTS), "--max-seconds", str(arguments.curve_seconds)]
    runs.append(["bench", *common, *curves])
    if not arguments.page_only:
        for words in runs:
            if gpuvos(words):
                raise SystemExit(f"gpuvos {' '.join(words)} failed")
    records = [read_record(file) for file in files if file.exists()]
    with atomic_file(RESULTS / f"bench-{device.type}.md") as path:
        path.write_text("\n\n".join(map(table, records)) + "\n", encoding="utf-8")
    if device.type == "cpu":
        write_page(page_table(records))


if __name__ == "__main__":
    main()
