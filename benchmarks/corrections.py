"""What a correction of a clip costs: processor time and multiplications, click by click, on one sequence of DAVIS-2016.

Each line is everything between a click in the app and its answer: the labels, the masks on the grid of all frames that
depend on them, and the timeline. Pictures are drawn frame by frame when they are looked at and are not part of it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from gpuvos.app.actions import act
from gpuvos.app.project import Project
from gpuvos.config import Config
from gpuvos.data import Clip, Davis2016
from gpuvos.paper.cache import FeatureCache
from gpuvos.pipeline.segment import segment
from gpuvos.pipeline.video import VideoSegmenter


def messages(mask: torch.Tensor) -> list[tuple[str, dict[str, object]]]:
    """What somebody does, who looks for the object in the middle of its own mask ``[h, w]`` of some frame."""
    rows, columns = mask.nonzero().double().mean(0).tolist()
    middle = {"kind": "click", "x": columns, "y": rows}
    stroke = {"kind": "paint", "radius": 40.0, "strokes": [[[columns - 60, rows], [columns + 60, rows]]], "owner": 1}
    return [
        ("Remove, the thing", middle | {"owner": 0, "reach": "thing"}),
        ("Undo", {"kind": "undo"}),
        ("Remove, a part", middle | {"owner": 0, "reach": "part"}),
        ("Add, a spot", middle | {"owner": 1, "reach": "spot"}),
        ("Paint", stroke),
        ("Paint all of it", stroke | {"whole": True}),
        ("Undo", {"kind": "undo"}),
    ]


@torch.no_grad()
def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="DAVIS-2016")
    parser.add_argument("--split", default="train")
    parser.add_argument("--sequence", default="bear")
    parser.add_argument("--frames", type=int, default=80)
    parser.add_argument("--adjacent-sets", type=int, default=0, help="as of gpuvos app; 0 is its default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="folder of kept features, as of gpuvos evaluate")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sequence = Davis2016(arguments.root, split=arguments.split)[arguments.sequence]
    segmenter = VideoSegmenter(config=Config(track_seeds=True, adjacent_sets=arguments.adjacent_sets))
    cache = FeatureCache(arguments.cache, segmenter.front_end)
    features = cache(arguments.sequence, sequence.frames, segmenter.features)
    features = type(features)(*(value[: arguments.frames] for value in features))
    frames, length = sequence.frames[: arguments.frames], len(features.flow)
    clip = Clip(frames, torch.arange(length) / 24, 24.0, tuple(f"{number:05d}" for number in range(length)))
    project = Project(clip, features, segment(*features, config=segmenter.config), name=arguments.sequence)
    middle = length // 2
    steps = messages(project.labels(middle).bool())
    times, counts = [], []
    for _, message in steps:
        begin = time.process_time()
        act(project, message | {"frame": middle})
        times.append(time.process_time() - begin)
    while project.undo():
        pass
    for _, message in steps:  # once more: counting takes time
        with FlopCounterMode(display=False) as counter:
            act(project, message | {"frame": middle})
        counts.append(counter.get_total_flops() / 2e9)
    print("| step | processor time, s | multiplications, billions |\n|---|---:|---:|")
    for (name, _), seconds, count in zip(steps, times, counts, strict=True):
        print(f"| {name} | {seconds:.2f} | {count:.1f} |")


if __name__ == "__main__":
    main()
