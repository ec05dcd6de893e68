"""``gpuvos evaluate``: J and F of every sequence of a dataset, with the time it took."""

from __future__ import annotations

import csv
import json
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import gpuvos
from gpuvos.commands.common import RULES, add_method_arguments, build_config, build_segmenter, pick_device
from gpuvos.data.davis import Davis2016, DavisSequence
from gpuvos.data.files import atomic_file
from gpuvos.errors import fail
from gpuvos.metrics import boundary_accuracy, davis2016_frames, region_similarity
from gpuvos.segmenter import VideoSegmenter, segment
from gpuvos.sheet import contact_sheet
from gpuvos.types import Features, Segmentation
from gpuvos.viz import save_png


class Row(NamedTuple):
    """Result of one sequence under one rule."""

    sequence: str
    rule: str
    frames: int
    j: float
    f: float
    seed_accuracy: float  # share of frames whose foreground seed lies on the object
    feature_seconds: float
    method_seconds: float


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``gpuvos evaluate``."""
    parser.add_argument("--dataset", default="davis2016", choices=("davis2016",))
    parser.add_argument("--split", default="train", choices=("train", "val", "trainval"))
    parser.add_argument(
        "--root", type=Path, required=True, help="folder of the dataset in its official layout"
    )
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these")
    parser.add_argument(
        "--rule", nargs="+", default=[RULES[0]], choices=RULES, help="one or both, on one run of features"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="folder for results.json, results.csv, table.md and sheets"
    )
    add_method_arguments(parser)


def run(arguments: Namespace) -> int:
    """Evaluates, prints the table, writes it where asked; returns the exit status."""
    from tqdm import tqdm

    dataset = Davis2016(arguments.root, split=arguments.split)
    names = arguments.sequences or list(dataset.names)
    for name in names:
        if name not in dataset.names:
            raise fail("--sequences", name, "sequences of the split: " + ", ".join(dataset.names))
    device = pick_device(arguments.device)
    segmenter = build_segmenter(arguments, RULES[0])
    rows: list[Row] = []
    for name in tqdm(names, unit="sequence", disable=None):
        sequence = dataset[name]
        features, seconds = _features(segmenter, sequence.frames.to(device))
        for rule in arguments.rule:
            row, result = _measure(sequence, features, seconds, build_config(arguments, rule))
            rows.append(row)
            if arguments.output is not None:
                sheet = contact_sheet(
                    sequence.frames.to(device), features, result, truth=sequence.mask.to(device), panel_width=240,
                    config=build_config(arguments, rule),
                )  # fmt: skip
                save_png(arguments.output / "sheets" / f"{name}-{rule}.png", sheet)
    table = markdown(rows)
    print(table)
    if arguments.output is not None:
        _write(arguments.output, rows, table, str(device))
    return 0


def _synchronize(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _features(segmenter: VideoSegmenter, frames: Tensor) -> tuple[Features, float]:
    begin = _synchronize(frames.device)
    with torch.no_grad():
        features = segmenter.features(frames)
    return features, _synchronize(frames.device) - begin


def _measure(
    sequence: DavisSequence, features: Features, feature_seconds: float, config: gpuvos.Config
) -> tuple[Row, Segmentation]:
    truth = sequence.mask.to(features.flow.device)
    begin = _synchronize(truth.device)
    result = segment(*features, config=config, size=(truth.shape[-2], truth.shape[-1]))
    method_seconds = _synchronize(truth.device) - begin
    counted = davis2016_frames(len(truth))
    similarity = region_similarity(result.mask, truth)[counted].mean()
    accuracy = boundary_accuracy(result.mask, truth)[counted].mean()
    row = Row(
        sequence.name, config.rule, len(truth), similarity.item(), accuracy.item(),
        _seed_accuracy(result, truth).item(), feature_seconds, method_seconds,
    )  # fmt: skip
    return row, result


def _seed_accuracy(result: Segmentation, truth: Tensor) -> Tensor:
    """Share of frames whose foreground seed lies on the object, at the resolution of the grid."""
    h, w = result.initial.shape[-2:]
    index = result.seeds.index.gather(1, result.foreground_seed.clamp(min=0)[:, None])[:, 0].clamp(min=0)
    row = ((index // w).float() + 0.5) * truth.shape[1] / h
    column = ((index % w).float() + 0.5) * truth.shape[2] / w
    frame = torch.arange(len(truth), device=truth.device)
    return truth[frame, row.long(), column.long()].float().mean()


def markdown(rows: list[Row]) -> str:
    """Table of all rows, and the mean over sequences of each rule."""
    lines = [
        "| sequence | rule | frames | J | F | seed accuracy | features, frames/s | method, frames/s |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines.extend(_line(row.sequence, row.rule, [row]) for row in rows)
    rules = dict.fromkeys(row.rule for row in rows)
    lines.extend(_line("**mean**", rule, [row for row in rows if row.rule == rule]) for rule in rules)
    return "\n".join(lines)


def _line(name: str, rule: str, rows: list[Row]) -> str:
    frames = sum(row.frames for row in rows)
    j, f, seed = (
        100 * sum(values) / len(rows)
        for values in zip(*((r.j, r.f, r.seed_accuracy) for r in rows), strict=True)
    )
    features = frames / sum(row.feature_seconds for row in rows)
    method = frames / sum(row.method_seconds for row in rows)
    return f"| {name} | {rule} | {frames} | {j:.1f} | {f:.1f} | {seed:.1f} | {features:.1f} | {method:.1f} |"


def _write(folder: Path, rows: list[Row], table: str, device: str) -> None:
    with atomic_file(folder / "table.md") as path:
        path.write_text(table + "\n", encoding="utf-8")
    with atomic_file(folder / "results.csv") as path, path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(Row._fields)
        writer.writerows(rows)
    with atomic_file(folder / "results.json") as path:
        report = {
            "gpuvos": gpuvos.__version__,
            "torch": torch.__version__,
            "device": device,
            "threads": torch.get_num_threads(),
            "rows": [row._asdict() for row in rows],
        }
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
