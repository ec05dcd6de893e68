"""Prints the results of a pytest-benchmark JSON file as a Markdown table, in milliseconds a frame."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    arguments = parser.parse_args()
    report = json.loads(arguments.results.read_text())
    info = report["benchmarks"][0]["extra_info"]
    commit = report["commit_info"]["id"][:12] + ("+" if report["commit_info"]["dirty"] else "")
    print(f"{report['machine_info']['cpu'].get('brand_raw', '?')}, {info['device']}, {info['threads']} thread(s), ", end="")
    print(f"torch {info['torch']}, commit {commit}, {info['frames']} frames\n")
    print("| stage | ms a frame, median | quartiles |\n|---|---:|---:|")
    for row in report["benchmarks"]:
        stats = {name: 1e3 * row["stats"][name] / row["extra_info"]["frames"] for name in ("median", "q1", "q3")}
        print(f"| {row['params']['stage']} | {stats['median']:.2f} | {stats['q1']:.2f}-{stats['q3']:.2f} |")


if __name__ == "__main__":
    main()
