"""A stream of as many frames as wanted: resident memory of the process and processor time of a frame as it goes on.

The default is an hour of video at 24 frames/s, a patch of noise that circles over another on frames of 32 x 48; no
network, so that it is the method and its memory which are seen.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import gpuvos
from gpuvos.bench.timing import resident_bytes
from gpuvos.features.appearance import AppearanceFeatures


def circling(count: int, height: int = 32, width: int = 48) -> Iterator[Tensor]:
    """Frames ``[3, height, width]`` uint8, made one at a time."""
    generator = torch.Generator().manual_seed(0)
    behind = torch.randint(0, 128, (3, height, width), dtype=torch.uint8, generator=generator)
    patch = torch.randint(128, 256, (3, height // 3, width // 4), dtype=torch.uint8, generator=generator)
    for number in range(count):
        angle = number / 20
        y = round((height - patch.shape[1]) / 2 * (1 + math.sin(angle)))
        x = round((width - patch.shape[2]) / 2 * (1 + math.cos(angle)))
        frame = behind.clone()
        frame[:, y : y + patch.shape[1], x : x + patch.shape[2]] = patch
        yield frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=24 * 3600)
    parser.add_argument("--history", type=int, default=32)
    parser.add_argument("--latency", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--json", type=Path, help="rewritten at every report")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    segmenter = gpuvos.StreamingSegmenter(
        AppearanceFeatures(),
        gpuvos.Config(num_seeds=arguments.seeds),
        history=arguments.history,
        latency=arguments.latency,
    )
    reports, rows = {10, 100, 1000, *range(5000, arguments.frames, 5000), arguments.frames}, []
    last, began = 0, time.process_time()
    for number, _ in enumerate(segmenter.stream(circling(arguments.frames)), 1):
        if number in reports:
            now = time.process_time()
            spent = 1000 * (now - began) / (number - last)
            rows.append(
                {
                    "frames": number,
                    "resident_mib": round(resident_bytes() / 2**20, 1),
                    "ms_a_frame": round(spent, 2),
                }
            )
            print(rows[-1], flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
            last, began = number, time.process_time()


if __name__ == "__main__":
    main()
