"""``gpuvos evaluate``: J, F and T of every sequence of a dataset, or the paper's experiments."""

from __future__ import annotations

import csv
import json
import os
import time
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

import gpuvos
from gpuvos.cli.common import (
    build_config,
    build_segmenter,
    pick_device,
)
from gpuvos.cli.options.common import RULES
from gpuvos.data.atomic import atomic_file
from gpuvos.errors import fail
from gpuvos.metrics import DAVIS2016_OCCLUDED, boundary_accuracy, region_similarity
from gpuvos.paper.datasets import Benchmark, LabelledVideo
from gpuvos.paper.variants import EXPERIMENTS, mean_of, plan, seed_accuracy, stability
from gpuvos.pipeline.segment import segment
from gpuvos.pipeline.video import VideoSegmenter
from gpuvos.types import Features, Segmentation
from gpuvos.viz.contact_sheet import contact_sheet
from gpuvos.viz.maps import save_png

if TYPE_CHECKING:
    from gpuvos.paper.runner import Processes


class Row(NamedTuple):
    """Result of one sequence under one rule."""

    sequence: str
    rule: str
    frames: int
    j: float
    f: float
    t: float | None  # None if no two successive frames are annotated and have an outline
    seed_accuracy: float  # share of frames whose foreground seed lies on the object
    feature_seconds: float
    method_seconds: float


def run(arguments: Namespace) -> int:
    """Evaluates, prints the table, writes it where asked; returns the exit status."""
    split = arguments.split or {"davis2016": "train", "fbms59": "test"}.get(arguments.dataset, "train")
    benchmark = Benchmark(arguments.dataset, arguments.root, split=split)
    names = arguments.sequences or list(benchmark.names)
    for name in names:
        if name not in benchmark.names:
            raise fail("--sequences", name, "sequences of the split: " + ", ".join(benchmark.names))
    if arguments.experiment is None:
        return _run_table(arguments, benchmark, names)
    return _run_experiments(arguments, benchmark, names)


def _run_table(arguments: Namespace, benchmark: Benchmark, names: list[str]) -> int:
    """J, F, T and speed of every sequence, in one process or those of torchrun."""
    from gpuvos.paper.runner import gather, processes

    rules = arguments.rule or [RULES[0]]
    with processes() as among:
        device = _pick_device(arguments, among)
        rows = gather(_rows(arguments, benchmark, names, rules, among), among)
        if among.rank == 0:
            ordered = [rows[name, rule] for name in names for rule in rules]
            table = markdown(ordered, dataset=benchmark.name)
            print(table)
            if arguments.output is not None:
                _write(arguments.output, ordered, table, str(device))
    return 0


def _rows(
    arguments: Namespace, benchmark: Benchmark, names: list[str], rules: list[str], among: Processes
) -> dict[tuple[str, str], Row]:
    """Measures the sequences of this process and draws their sheets."""
    from tqdm import tqdm

    segmenter, device = build_segmenter(arguments, RULES[0]), pick_device(arguments.device)
    rows: dict[tuple[str, str], Row] = {}
    for name in tqdm(names[among.rank :: among.world], unit="sequence", disable=among.rank > 0 or None):
        video = _moved(benchmark[name], device)
        features, seconds = _features(segmenter, video.frames)
        for rule in rules:
            config = build_config(arguments, rule)
            rows[name, rule], result = _measure(segmenter, video, features, seconds, config)
            if arguments.output is not None:
                path = arguments.output / "sheets" / f"{name}-{rule}.png"
                _write_sheet(path, video, features, result, config)
    return rows


def _pick_device(arguments: Namespace, among: Processes) -> torch.device:
    """The device of this process: with several and no choice, the GPUs in turn."""
    if among.world > 1 and arguments.device == "auto" and torch.cuda.is_available():
        arguments.device = f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return pick_device(arguments.device)


def _run_experiments(arguments: Namespace, benchmark: Benchmark, names: list[str]) -> int:
    """The paper's tables, in one process or those of torchrun."""
    from gpuvos.paper import report, tables
    from gpuvos.paper.cache import FeatureCache
    from gpuvos.paper.runner import Runner, processes

    if arguments.output is None:
        raise fail("--output", "nothing", "a folder for results", "an experiment resumes what is in it")
    chosen = EXPERIMENTS if "all" in arguments.experiment else tuple(dict.fromkeys(arguments.experiment))
    rules = tuple(dict.fromkeys(arguments.rule or RULES))
    variants = plan(chosen, rules, crf=not arguments.no_crf)
    configs = {rule: build_config(arguments, rule) for rule in rules}
    with processes() as among:
        device = _pick_device(arguments, among)
        segmenter = build_segmenter(arguments, rules[0])
        cache = FeatureCache(arguments.cache or arguments.output / "features", _front_end(segmenter))
        runner = Runner(
            benchmark, segmenter, configs, folder=arguments.output / "sequences", cache=cache, device=device
        )
        every = tuple(dict.fromkeys(variant for wanted in variants.values() for variant in wanted))
        results = runner.run(names, every, among)
        if among.rank == 0:
            context = tables.Context(results, benchmark.name, benchmark.split, rules, not arguments.no_crf)
            built = [tables.build(name, context) for name in chosen]
            facts: dict[str, object] = {
                "gpuvos": gpuvos.__version__,
                "torch": torch.__version__,
                "device": device.type,
            }
            facts |= {
                "front_end": cache.key,
                "configs": {rule: asdict(config) for rule, config in configs.items()},
            }
            report.write(arguments.output, built, facts)
            print("\n\n".join(report.markdown(table) for table in built))
    return 0


def _front_end(segmenter: VideoSegmenter) -> nn.Module:
    assert isinstance(segmenter.front_end, nn.Module)
    return segmenter.front_end


def _moved(video: LabelledVideo, device: torch.device) -> LabelledVideo:
    return video._replace(frames=video.frames.to(device), mask=video.mask.to(device))


def _write_sheet(
    path: Path, video: LabelledVideo, features: Features, result: Segmentation, config: gpuvos.Config
) -> None:
    """Every step at three annotated frames, with the truth."""
    count = len(video.annotated)
    picked = sorted({0, count // 2, count - 1})
    truth = video.mask.new_zeros((len(video.frames), *video.size))
    truth[list(video.annotated)] = video.mask
    times = [video.annotated[number] for number in picked]
    sheet = contact_sheet(video.frames, features, result, times=times, truth=truth, panel_width=240, config=config)
    save_png(path, sheet)


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
    segmenter: VideoSegmenter,
    video: LabelledVideo,
    features: Features,
    feature_seconds: float,
    config: gpuvos.Config,
) -> tuple[Row, Segmentation]:
    begin = _synchronize(video.frames.device)
    result = segmenter.refine(segment(*features, config=config, size=video.size), video.frames)
    method_seconds = _synchronize(video.frames.device) - begin
    annotated = torch.tensor(video.annotated, device=result.mask.device)
    mask, truth = result.mask[annotated][video.counted], video.mask[video.counted]
    row = Row(
        video.name,
        config.rule,
        len(video.frames),
        region_similarity(mask, truth).mean().item(),
        boundary_accuracy(mask, truth).mean().item(),
        mean_of(stability(result.mask[annotated], video)),
        seed_accuracy(result, video).item(),
        feature_seconds,
        method_seconds,
    )
    return row, result


def markdown(rows: list[Row], *, dataset: str = "davis2016") -> str:
    """Table of all rows, and the mean over sequences of each rule; of T without DAVIS's occluded sequences."""
    lines = [
        "| sequence | rule | frames | J | F | T | seed accuracy | features, frames/s | method, frames/s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines.extend(_line(row.sequence, row.rule, [row], frozenset()) for row in rows)
    left_out = DAVIS2016_OCCLUDED if dataset == "davis2016" else frozenset()
    rules = dict.fromkeys(row.rule for row in rows)
    lines.extend(_line("**mean**", rule, [row for row in rows if row.rule == rule], left_out) for rule in rules)
    return "\n".join(lines)


def _line(name: str, rule: str, rows: list[Row], left_out: frozenset[str]) -> str:
    frames = sum(row.frames for row in rows)
    j, f, seed = (
        100 * sum(values) / len(rows) for values in zip(*((r.j, r.f, r.seed_accuracy) for r in rows), strict=True)
    )
    known = [row.t for row in rows if row.t is not None and row.sequence not in left_out]
    t = f"{100 * sum(known) / len(known):.1f}" if known else "-"
    features = frames / sum(row.feature_seconds for row in rows)
    method = frames / sum(row.method_seconds for row in rows)
    cells = (name, rule, str(frames), *(f"{value:.1f}" for value in (j, f)), t)
    return "| " + " | ".join((*cells, *(f"{value:.1f}" for value in (seed, features, method)))) + " |"


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
