"""The presets side by side: J and F on DAVIS-2016, milliseconds a frame on one core and on two.

Everything that is known is kept in ``OUT.json`` as soon as it is, with what it was measured with; a run that is stopped
goes on where it was. The table is written to ``OUT.md`` at the end. Times are of a quiet machine or of none: the load
before is kept beside them.

    python benchmarks/presets.py --root DAVIS --out benchmarks/results/presets
    python benchmarks/presets.py --root DAVIS --out quick --every 5 --threads
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gpuvos
from gpuvos.data import Davis2016
from gpuvos.data.atomic import atomic_file
from gpuvos.metrics import boundary_accuracy, region_similarity
from gpuvos.pipeline.presets import PRESETS, preset_segmenter
from gpuvos.pipeline.threads import in_threads

Record = dict[str, dict[str, Any]]


def made_with(name: str) -> str:
    """What a preset's numbers depend on besides the code: those of other options are measured anew."""
    return f"gpuvos {gpuvos.__version__}, torch {torch.__version__}, {dataclasses.asdict(PRESETS[name])}"


def keep(path: Path, record: Record) -> None:
    """Writes all that is known, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def score(found: Tensor, truth: Tensor) -> dict[str, float]:
    """J and F in percent; DAVIS leaves out the first and the last frame."""
    measures = {"J": region_similarity, "F": boundary_accuracy}
    return {name: 100 * float(measure(found, truth)[1:-1].mean()) for name, measure in measures.items()}


def measure_accuracy(record: Record, path: Path, arguments: argparse.Namespace) -> None:
    """Fills in the sequences that are missing."""
    dataset = Davis2016(arguments.root, split=arguments.split)
    names = dataset.names[:: arguments.every]
    for preset in arguments.presets:
        segmenter = preset_segmenter(preset).to(arguments.device)
        for name in names:
            if name in record[preset]["accuracy"]:
                continue
            video = dataset[name]
            result = segmenter(video.frames.to(arguments.device))
            record[preset]["accuracy"][name] = score(result.mask.cpu(), video.mask)
            keep(path, record)
            print(preset, name, record[preset]["accuracy"][name], flush=True)


def measure_time(record: Record, path: Path, arguments: argparse.Namespace) -> None:
    """Rounds of all presets in turn, so that they meet the same machine; in threads, as the command has them."""
    dataset = Davis2016(arguments.root, split=arguments.split)
    frames = dataset[dataset.names[0]].frames[: arguments.frames].to(arguments.device)
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        wanted = [name for name in arguments.presets if str(threads) not in record[name]["time"]]
        segmenters = {name: in_threads(preset_segmenter(name).to(arguments.device), threads) for name in wanted}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in wanted}
        for segmenter in segmenters.values():
            segmenter(frames[:2])
        load = os.getloadavg()[0]
        for _ in range(arguments.rounds):
            for name, segmenter in segmenters.items():
                begin = time.perf_counter(), time.process_time()
                segmenter(frames).mask.cpu()
                end = time.perf_counter(), time.process_time()
                times[name].append((end[0] - begin[0], end[1] - begin[1]))
        for name in wanted:
            clock, processor = (
                [1000 * seconds / len(frames) for seconds in column] for column in zip(*times[name], strict=True)
            )
            record[name]["time"][str(threads)] = {"clock": clock, "processor": processor, "load_before": load}
        keep(path, record)


def table(record: Record, presets: list[str]) -> str:
    """A row a preset; J and F are means over the sequences that all of them have."""
    shared = set.intersection(*(set(record[name]["accuracy"]) for name in presets))
    threads = sorted({count for name in presets for count in record[name]["time"]}, key=int)
    heads = [f"ms a frame, {count} thread{'s' if count != '1' else ''}" for count in threads]
    lines = [
        f"{len(shared)} sequences of DAVIS-2016; medians by the clock of calls on frames of 480 x 854.",
        "",
        "| " + " | ".join(["preset", "J", "F", *heads]) + " |",
        "|---" + "|---:" * (2 + len(heads)) + "|",
    ]
    for name in presets:
        scores = [record[name]["accuracy"][one] for one in sorted(shared)]
        cells = [f"{statistics.mean(row[key] for row in scores):.1f}" if scores else "-" for key in ("J", "F")]
        for count in threads:
            known = record[name]["time"].get(count)
            cells.append(f"{statistics.median(known['clock']):.0f}" if known else "-")
        lines.append("| " + " | ".join([name, *cells]) + " |")
    loads = {known["load_before"] for name in presets for known in record[name]["time"].values()}
    if loads:
        lines += ["", f"Load average before: {', '.join(f'{load:.1f}' for load in sorted(loads))}."]
    lines += ["", *(f"- {name}: {record[name]['made_with']}" for name in presets)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures what is missing and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="DAVIS-2016 in its official layout")
    parser.add_argument("--out", type=Path, required=True, help="OUT.json and OUT.md are written")
    parser.add_argument("--split", default="train", choices=("train", "val", "trainval"))
    parser.add_argument("--every", type=int, default=1, metavar="K", help="J and F of every K-th sequence; 0: of none")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2], help="times with so many; none: no times")
    parser.add_argument("--frames", type=int, default=24, help="of the timed clip")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    path = arguments.out.with_suffix(".json")
    record: Record = json.loads(path.read_text()) if path.exists() else {}
    for name in arguments.presets:
        if record.get(name, {}).get("made_with") != made_with(name):
            record[name] = {"made_with": made_with(name), "accuracy": {}, "time": {}}
    if arguments.threads:
        measure_time(record, path, arguments)
    if arguments.every:
        measure_accuracy(record, path, arguments)
    text = table(record, arguments.presets)
    path.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
