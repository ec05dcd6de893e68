"""Runs variants over sequences: resumable at any point, shared among processes, with the time left."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

import gpuvos
from gpuvos.cli.progress import progress
from gpuvos.config import Config
from gpuvos.data.atomic import atomic_file
from gpuvos.data.side_files import read_json
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.paper.ablation import SemanticEmbedding
from gpuvos.paper.cache import FeatureCache
from gpuvos.paper.datasets import Benchmark, LabelledVideo
from gpuvos.paper.variants import Row, Workbench
from gpuvos.pipeline.video import VideoSegmenter

Result = TypeVar("Result")
Results = dict[str, dict[str, Row]]  # by variant, then by sequence


class Processes(NamedTuple):
    """This process among those that share the sequences."""

    rank: int
    world: int


@contextmanager
def processes() -> Iterator[Processes]:
    """The processes that ``torchrun`` started, connected by gloo; this one alone without it.

    Every process takes its share of the sequences; what they found is gathered at the end. Nothing else is sent, so
    they may wait for each other for days.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1)
        return
    torch.distributed.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        yield Processes(torch.distributed.get_rank(), count)
    finally:
        torch.distributed.destroy_process_group()


class Runner:
    """Measures variants of every sequence of a benchmark, one file of results each.

    A result is written when it is known, whole or not at all, under ``folder/SEQUENCE/VARIANT.json``, with a key of
    what it was made with: version, front end, parameters, benchmark, kind of device. A result that is there with the
    same key is not computed again. (The code itself is not part of the key: after changing it use another folder.)

    Args:
        benchmark: the sequences.
        segmenter: its front end gives the features.
        configs: parameters of the method by rule.
        folder: of the results.
        cache: of the features.
        device: where to compute.
        stability: whether T is measured.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        segmenter: VideoSegmenter,
        configs: Mapping[str, Config],
        *,
        folder: Path,
        cache: FeatureCache,
        device: torch.device,
        stability: bool = True,
    ) -> None:
        self.benchmark, self.segmenter, self.configs = benchmark, segmenter, configs
        self.folder, self.cache, self.device, self.stability = folder, cache, device, stability
        front_end = segmenter.front_end
        base = front_end.base if isinstance(front_end, SaliencyFeatures) else front_end
        self._semantic = SemanticEmbedding(base) if isinstance(base, LearnedFeatures) else None

    def run(self, names: Sequence[str], variants: Sequence[str], among: Processes) -> Results:
        """Results of all sequences, in the order of ``names``, in the first process; of its own in the others."""
        mine = names[among.rank :: among.world]
        missing = {name: [v for v in variants if self._stored(name, v) is None] for name in mine}
        todo = sum(len(wanted) for wanted in missing.values())
        done = len(mine) * len(variants) - todo
        with progress(todo, done, unit="result", visible=among.rank == 0) as advance:
            for name, wanted in missing.items():
                if wanted:
                    self._sequence(name, wanted, advance)
        rows = {(name, variant): self._stored(name, variant) for name in mine for variant in variants}
        merged = gather(rows, among)
        return {
            variant: {name: merged[name, variant] for name in names if (name, variant) in merged}
            for variant in variants
        }

    def _sequence(self, name: str, variants: list[str], advance: Callable[[str], None]) -> None:
        video = self.benchmark[name]
        video = video._replace(frames=video.frames.to(self.device), mask=video.mask.to(self.device))
        begin = self._now()
        features = self.cache(name, video.frames, self.segmenter.features)
        seconds = self._now() - begin
        bench = Workbench(video, features, self.configs, self._semantic, stability=self.stability)
        for variant in variants:
            begin = self._now()
            row = bench.measure(variant)
            times = {"feature_seconds": seconds, "seconds": self._now() - begin}
            self._write(name, variant, row, video, times)
            advance(f"{name} {variant}")

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def key(self, variant: str) -> str:
        """What a result depends on, apart from the sequence."""
        rule = variant.partition("/")[0]
        used = {rule: self.configs[rule]} if rule in self.configs else {}
        parts: dict[str, object] = {
            "gpuvos": gpuvos.__version__,
            "features": self.cache.key,
            "config": {name: asdict(config) for name, config in used.items()},
            "benchmark": [self.benchmark.name, self.device.type],
        }
        if not self.stability:
            parts["stability"] = False
        return json.dumps(parts, sort_keys=True)

    def file(self, name: str, variant: str) -> Path:
        """Where a result is kept."""
        return self.folder / name / f"{variant.replace('/', '-')}.json"

    def _stored(self, name: str, variant: str) -> Row | None:
        """A result that is there, whole and made with the same; None otherwise."""
        try:
            content: dict[str, Any] = read_json("folder", self.file(name, variant))
            return dict(content["row"]) if content["key"] == self.key(variant) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, name: str, variant: str, row: Row, video: LabelledVideo, times: Mapping[str, float]) -> None:
        content = {
            "key": self.key(variant),
            "row": row,
            "frames": len(video.frames),
            "times": dict(times),
            "threads": torch.get_num_threads(),
        }
        with atomic_file(self.file(name, variant)) as path:
            path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def gather(rows: Mapping[tuple[str, str], Result | None], among: Processes) -> dict[tuple[str, str], Result]:
    """The rows of all processes, in the first of them."""
    own = {key: row for key, row in rows.items() if row is not None}
    if among.world == 1:
        return own
    parts: list[Any] | None = [None] * among.world if among.rank == 0 else None
    torch.distributed.gather_object(own, parts)
    return own if parts is None else {key: row for part in parts for key, row in part.items()}
