"""Prints a pytest-benchmark JSON file as a Markdown table in milliseconds a frame, and keeps its essence as JSON."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any


def essence(report: dict[str, Any]) -> dict[str, Any]:
    """Device, versions, commit, and median and quartiles of every stage in milliseconds a frame."""
    first = report["benchmarks"][0]["extra_info"]
    stages = {
        row["params"]["stage"]: {
            name: round(1e3 * row["stats"][name] / row["extra_info"]["frames"], 4)
            for name in ("median", "q1", "q3")
        }
        for row in report["benchmarks"]
    }
    return {
        "cpu": report["machine_info"]["cpu"].get("brand_raw", platform.machine()),
        "device": first["device"],
        "threads": first["threads"],
        "torch": first["torch"],
        "python": report["machine_info"]["python_version"],
        "commit": report["commit_info"]["id"] + ("+" if report["commit_info"]["dirty"] else ""),
        "date": report["datetime"][:10],
        "frames": first["frames"],
        "milliseconds_a_frame": stages,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="what --benchmark-json wrote")
    parser.add_argument("--keep", type=Path, help="JSON file for the essence")
    arguments = parser.parse_args()
    kept = essence(json.loads(arguments.results.read_text()))
    print(f"{kept['cpu']}, {kept['device']}, {kept['threads']} thread(s), torch {kept['torch']}, ", end="")
    print(f"commit {kept['commit'][:12]}, {kept['frames']} frames\n")
    print("| stage | ms a frame, median | quartiles |\n|---|---:|---:|")
    for stage, row in kept["milliseconds_a_frame"].items():
        print(f"| {stage} | {row['median']:.2f} | {row['q1']:.2f} - {row['q3']:.2f} |")
    if arguments.keep is not None:
        arguments.keep.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
