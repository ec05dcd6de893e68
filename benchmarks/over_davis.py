"""What the benchmarks over DAVIS-2016 share: their options, and a run that goes on where it was stopped."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gpuvos
from gpuvos.data import Davis2016
from gpuvos.data.atomic import atomic_file
from gpuvos.paper.cache import FeatureCache

Row = dict[str, float]
Measure = Callable[[gpuvos.Features, Tensor], Row]


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser that has the options of ``measure_all``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", type=Path, required=True, help="DAVIS-2016")
    parser.add_argument("--split", default="train")
    parser.add_argument("--sequences", nargs="*", help="all of the split where absent")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="folder of kept features, as of gpuvos evaluate")
    parser.add_argument("--keep", type=Path, help="JSON file, rewritten after every sequence")
    return parser


def measure_all(arguments: argparse.Namespace, measure: Measure, settings: dict[str, Any]) -> dict[str, Row]:
    """The rows of all sequences, of which those in ``--keep`` are not measured again.

    Args:
        arguments: of a parser of ``options``.
        measure: gives the row of a sequence from its features and its true masks ``[T, H, W]``.
        settings: what the rows depend on besides; a file of other settings is refused.
    """
    torch.set_num_threads(arguments.threads)
    segmenter = gpuvos.VideoSegmenter()
    assert isinstance(segmenter.front_end, nn.Module)
    cache = FeatureCache(arguments.cache, segmenter.front_end)
    made_with = {**settings, "features": cache.key, "gpuvos": gpuvos.__version__}
    kept: dict[str, Row] = {}
    if arguments.keep and arguments.keep.exists():
        stored = json.loads(arguments.keep.read_text())
        if stored["made_with"] != made_with:
            raise SystemExit(f"--keep: {arguments.keep} has rows of other settings: name another file")
        kept = stored["rows"]
    davis = Davis2016(arguments.root, split=arguments.split)
    for name in arguments.sequences or davis.names:
        if name in kept:
            continue
        sequence = davis[name]
        kept[name] = measure(cache(name, sequence.frames, segmenter.features), sequence.mask)
        print(name, {key: round(value, 1) for key, value in list(kept[name].items())[:8]}, flush=True)
        if arguments.keep:
            with atomic_file(arguments.keep) as file:
                file.write_text(json.dumps({"made_with": made_with, "rows": kept}, indent=1) + "\n")
    return kept
