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
from typing import TYPE_CHECKING

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
from gpuvos.interactive.instances import instances
from gpuvos.paper import score_tables
from gpuvos.paper.datasets import Benchmark, LabelledVideo
from gpuvos.paper.predictions import Predictions, unpacked
from gpuvos.paper.scoring import Row, score, score_objects
from gpuvos.paper.variants import EXPERIMENTS, plan, seed_accuracy
from gpuvos.pipeline.segment import segment
from gpuvos.pipeline.video import VideoSegmenter
from gpuvos.types import Features, Segmentation
from gpuvos.viz.contact_sheet import contact_sheet
from gpuvos.viz.maps import save_png

if TYPE_CHECKING:
    from gpuvos.paper.runner import Processes

Rows = dict[tuple[str, str], list[Row]]  # by sequence and method


def run(arguments: Namespace) -> int:
    """Evaluates, prints the table, writes it where asked; returns the exit status."""
    split = arguments.split or {"fbms59": "test"}.get(arguments.dataset, "train")
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
            rows |= others
            methods = list(dict.fromkeys([*rules, *(method for _, method in others)]))
            ordered = [row for name in names for method in methods for row in rows[name, method]]
            by_method = [{name: rows[name, method] for name in names} for method in methods]
            text = _text(benchmark, ordered, by_method, len(rules))
            print(text)
            if arguments.output is not None:
                _write(arguments.output, ordered, text, str(device))
    return 0


def _text(benchmark: Benchmark, rows: list[Row], methods: list[dict[str, list[Row]]], own: int) -> str:
    """All that is printed: the table, those by attribute, and the first method against those of others."""
    parts = [score_tables.markdown(rows, dataset=benchmark.name)]
    if any(row.sequence in benchmark.attributes for row in rows):
        parts.append(score_tables.attribute_table(rows, benchmark.attributes))
    parts += [score_tables.difference(methods[0], other, dataset=benchmark.name) for other in methods[own:]]
    return "\n\n".join(parts)


def _others(arguments: Namespace, benchmark: Benchmark, names: list[str]) -> Rows:
    """Rows of the masks of other methods, by the names of their folders."""
    rows: Rows = {}
    stems = [*RULES, *(path.stem for path in arguments.predictions)]
    for stem in stems:
        if stems.count(stem) > 1:
            raise fail("--predictions", f"two methods named {stem}", "names that differ", "rename the folder")
    for path in arguments.predictions:
        with unpacked(path) as folder:
            masks = Predictions(folder, names)
            for name in names:
                rows[name, path.stem] = _score_files(benchmark[name], masks, path.stem, arguments.stability)
    return rows


def _score_files(video: LabelledVideo, masks: Predictions, method: str, temporal: bool) -> list[Row]:
    """The rows of masks on disk; only the frames that count are read."""
    stems = [video.names[number] for number in video.annotated[video.counted]]
    if video.ids is not None:
        return score_objects(video, method, masks.read_objects(video.name, stems, video.size))
    mask = torch.zeros_like(video.mask)
    mask[video.counted] = masks.read(video.name, stems, video.size)
    return [score(video, method, mask, temporal=temporal)]


def _rows(arguments: Namespace, benchmark: Benchmark, names: list[str], rules: list[str], among: Processes) -> Rows:
    """Measures the sequences of this process and draws their sheets."""
    from tqdm import tqdm

    segmenter, device = build_segmenter(arguments, RULES[0]), pick_device(arguments.device)
    rows: Rows = {}
    for name in tqdm(names[among.rank :: among.world], unit="sequence", disable=among.rank > 0 or None):
        video = _moved(benchmark[name], device)
        features, seconds = _features(segmenter, video.frames)
        for rule in rules:
            config = build_config(arguments, rule)
            rows[name, rule], result = _measure(segmenter, video, features, seconds, config, arguments)
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
    refinements = tuple(dict.fromkeys(arguments.refinements))
    variants = plan(chosen, rules, refinements=refinements)
    configs = {rule: build_config(arguments, rule) for rule in rules}
    with processes() as among:
        device = _pick_device(arguments, among)
        segmenter = build_segmenter(arguments, rules[0])
        cache = FeatureCache(arguments.cache or arguments.output / "features", _front_end(segmenter))
        runner = Runner(
            benchmark,
            segmenter,
            configs,
            folder=arguments.output / "sequences",
            cache=cache,
            device=device,
            stability=arguments.stability,
        )
        every = tuple(dict.fromkeys(variant for wanted in variants.values() for variant in wanted))
        results = runner.run(names, every, among)
        if among.rank == 0:
            context = tables.Context(results, benchmark.name, benchmark.split, rules, refinements)
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
    arguments: Namespace,
) -> tuple[list[Row], Segmentation]:
    begin = _synchronize(video.frames.device)
    result = segmenter.refine(segment(*features, config=config, size=video.size), video.frames)
    objects = None if video.ids is None else instances(result, num_instances=arguments.num_instances)
    seconds = (feature_seconds, _synchronize(video.frames.device) - begin)
    if objects is not None:
        return score_objects(video, config.rule, objects.mask[objects.present.any(1)], seconds=seconds), result
    annotated = torch.tensor(video.annotated, device=result.mask.device)
    seed, mask = seed_accuracy(result, video).item(), result.mask[annotated]
    return [score(video, config.rule, mask, seed=seed, seconds=seconds, temporal=arguments.stability)], result


def _write(folder: Path, rows: list[Row], table: str, device: str) -> None:
    with atomic_file(folder / "table.md") as path:
        path.write_text(table + "\n", encoding="utf-8")
    with atomic_file(folder / "results.csv") as path, path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(Row._fields)
        writer.writerows([["" if _absent(value) else value for value in row] for row in rows])
    with atomic_file(folder / "results.json") as path:
        report = {
            "gpuvos": gpuvos.__version__,
            "torch": torch.__version__,
            "device": device,
            "threads": torch.get_num_threads(),
            "rows": [
                {name: None if _absent(value) else value for name, value in row._asdict().items()} for row in rows
            ],
        }
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _absent(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
