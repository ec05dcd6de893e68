"""``gpuvos evaluate``: J, F and T of every sequence of a dataset, or the paper's experiments."""

from __future__ import annotations

import csv
import json
import math
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
from gpuvos.metrics import DAVIS2016_OCCLUDED, boundary_accuracy, foreground_score, region_similarity
from gpuvos.paper.datasets import Benchmark, LabelledVideo
from gpuvos.paper.predictions import Predictions, sign_test, unpacked
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
    scored: int  # frames whose masks count
    j: float
    f: float
    t: float | None  # None if no two successive frames are annotated and have an outline
    seed_accuracy: float  # share of frames whose foreground seed lies on the object
    feature_seconds: float
    method_seconds: float
    precision: float  # of FBMS, over all scored frames of the sequence together
    recall: float
    f_measure: float


def run(arguments: Namespace) -> int:
    """Evaluates, prints the table, writes it where asked; returns the exit status."""
    split = arguments.split or {"davis2016": "train", "fbms59": "test"}.get(arguments.dataset, "train")
    benchmark = _benchmark(arguments, split)
    names = arguments.sequences or list(benchmark.names)
    for name in names:
        if name not in benchmark.names:
            raise fail("--sequences", name, "sequences of the split: " + ", ".join(benchmark.names))
    if arguments.experiment is None:
        return _run_table(arguments, benchmark, names)
    return _run_experiments(arguments, benchmark, names)


def _benchmark(arguments: Namespace, split: str) -> Benchmark:
    """The dataset under --root, or the folders of --frames and --masks."""
    own = (arguments.frames, arguments.masks)
    if arguments.root is not None and own == (None, None):
        return Benchmark(arguments.dataset, arguments.root, split=split)
    if arguments.root is not None or None in own:
        raise fail("--root", "a part of it", "either --root of a dataset, or --frames and --masks of your own videos")
    return Benchmark.of_folders(*own)


def _run_table(arguments: Namespace, benchmark: Benchmark, names: list[str]) -> int:
    """J, F, T and speed of every sequence, in one process or those of torchrun."""
    from gpuvos.paper.runner import gather, processes

    rules = arguments.rule or [RULES[0]]
    with processes() as among:
        device = _pick_device(arguments, among)
        rows = gather(_rows(arguments, benchmark, names, rules, among), among)
        if among.rank == 0:
            others = _others(arguments, benchmark, names)
            methods = [*rules, *others]
            rows |= {(row.sequence, row.rule): row for found in others.values() for row in found}
            ordered = [rows[name, method] for name in names for method in methods]
            table = markdown(ordered, dataset=benchmark.name)
            for method in others:
                table += "\n" + _difference([rows[name, rules[0]] for name in names], others[method])
            print(table)
            if arguments.output is not None:
                _write(arguments.output, ordered, table, str(device))
    return 0


def _others(arguments: Namespace, benchmark: Benchmark, names: list[str]) -> dict[str, list[Row]]:
    """Rows of the masks of other methods, by the names of their folders."""
    found: dict[str, list[Row]] = {}
    for path in arguments.predictions:
        with unpacked(path) as folder:
            masks = Predictions(folder, names)
            found[path.stem] = [_score_files(benchmark[name], masks, path.stem) for name in names]
    return found


def _score_files(video: LabelledVideo, masks: Predictions, method: str) -> Row:
    """The row of masks on disk; only the frames that count are read."""
    numbers = video.annotated[video.counted]
    mask = torch.zeros_like(video.mask)
    mask[video.counted] = masks.read(video.name, [video.names[number] for number in numbers], video.size)
    return _score(video, method, mask, math.nan, 0.0, 0.0)


def _difference(ours: list[Row], theirs: list[Row]) -> str:
    """How J of gpuvos differs from another method's, sequence by sequence, and how likely by chance."""
    first, second = [row.j for row in ours], [row.j for row in theirs]
    better, worse, chance = sign_test(first, second)
    mean = 100 * (sum(first) - sum(second)) / len(first)
    each = ", ".join(f"{row.sequence} {100 * (row.j - other.j):+.1f}" for row, other in zip(ours, theirs, strict=True))
    text = (
        f"J of {ours[0].rule} less that of {theirs[0].rule}: {mean:+.1f} ({each}); better on {better}, worse on {worse}"
    )
    return f"\n{text}; sign test p = {chance:.3f}"


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
    seed = seed_accuracy(result, video).item()
    return _score(video, config.rule, result.mask[annotated], seed, feature_seconds, method_seconds), result


def _score(
    video: LabelledVideo, method: str, annotated: Tensor, seed: float, feature_seconds: float, method_seconds: float
) -> Row:
    """The row of masks ``[A, H, W]`` of the annotated frames."""
    mask, truth = annotated[video.counted], video.mask[video.counted]
    score = foreground_score(mask, truth)
    return Row(
        video.name,
        method,
        len(video.frames),
        len(truth),
        region_similarity(mask, truth).mean().item(),
        boundary_accuracy(mask, truth).mean().item(),
        mean_of(stability(annotated, video)),
        seed,
        feature_seconds,
        method_seconds,
        score.precision.item(),
        score.recall.item(),
        score.f_measure.item(),
    )


def markdown(rows: list[Row], *, dataset: str = "davis2016") -> str:
    """Table of all rows, and the mean over sequences of each method.

    Of DAVIS J, F and T, the last without its occluded sequences; of FBMS J, precision, recall and the F-measure, which
    is that of the means of both. A method whose masks were read from files has no speed and no seeds.
    """
    measures = ("J", "precision", "recall", "F-measure") if dataset == "fbms59" else ("J", "F", "T")
    columns = ("sequence", "method", "scored", *measures, "seed accuracy", "features, frames/s", "method, frames/s")
    lines = ["| " + " | ".join(columns) + " |", "|---|---|" + "---:|" * (len(columns) - 2)]
    lines.extend(_line(row.sequence, row.rule, [row], dataset, frozenset()) for row in rows)
    left_out = DAVIS2016_OCCLUDED if dataset == "davis2016" else frozenset()
    rules = dict.fromkeys(row.rule for row in rows)
    lines.extend(_line("**mean**", rule, [r for r in rows if r.rule == rule], dataset, left_out) for rule in rules)
    return "\n".join(lines)


def _line(name: str, rule: str, rows: list[Row], dataset: str, left_out: frozenset[str]) -> str:
    j, f, precision, recall, seed = (
        100 * sum(values) / len(rows)
        for values in zip(*((r.j, r.f, r.precision, r.recall, r.seed_accuracy) for r in rows), strict=True)
    )
    known = [row.t for row in rows if row.t is not None and row.sequence not in left_out]
    t = 100 * sum(known) / len(known) if known else math.nan
    harmonic = 2 * precision * recall / max(precision + recall, 1e-12)
    values = (j, precision, recall, harmonic) if dataset == "fbms59" else (j, f, t)
    seconds = (sum(row.feature_seconds for row in rows), sum(row.method_seconds for row in rows))
    speeds = (sum(row.frames for row in rows) / spent if spent else math.nan for spent in seconds)
    numbers = ["-" if math.isnan(value) else f"{value:.1f}" for value in (*values, seed, *speeds)]
    return "| " + " | ".join((name, rule, str(sum(row.scored for row in rows)), *numbers)) + " |"


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
