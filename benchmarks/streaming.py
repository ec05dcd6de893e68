"""Streaming against the whole clip on DAVIS-2016: J, and milliseconds a frame after the features.

The features of a sequence are computed once; every window and latency then sees them frame by frame.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import gpuvos
from gpuvos.data import Davis2016
from gpuvos.metrics import region_similarity

SETTINGS = ((8, 1), (16, 1), (32, 1), (64, 1), (64, 8), (64, 32))


class Replay(nn.Module):
    """A front end that has seen the clip before; frames are ``[3, h, w]`` filled with their number."""

    def __init__(self, features: gpuvos.Features) -> None:
        super().__init__()
        self.features = features

    def forward(self, frames: Tensor) -> gpuvos.Features:
        """The features of those frames; the flow of the last one is that to the next frame of the clip."""
        number = frames[:, 0, 0, 0].long().tolist()
        return gpuvos.Features(*(value[number] for value in self.features))


def measure(
    frames: Tensor, truth: Tensor, settings: list[tuple[int | None, int | None]]
) -> dict[str, list[float]]:
    """J (DAVIS leaves out the first and the last frame) and milliseconds a frame of every setting."""
    front = Replay(gpuvos.VideoSegmenter().features(frames))
    blank = torch.arange(len(frames))[:, None, None, None].expand(-1, 3, *frames.shape[-2:]).half()
    rows = {}
    for window, latency in [(None, None), *settings]:
        segmenter = gpuvos.StreamingSegmenter(front, window=window, latency=latency)
        start = time.perf_counter()
        found = [
            result.mask for frame in blank if (result := segmenter.push(frame, validate=False)) is not None
        ]
        rest = segmenter.flush()
        found += [] if rest is None else [rest.mask]
        spent = 1e3 * (time.perf_counter() - start) / len(frames)
        name = "whole clip" if window is None else f"window {window}, latency {latency}"
        rows[name] = [100 * float(region_similarity(torch.cat(found), truth)[1:-1].mean()), spent]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="DAVIS-2016")
    parser.add_argument("--split", default="train")
    parser.add_argument("--sequences", nargs="*", help="all of the split where absent")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="JSON file, rewritten after every sequence")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    kept: dict[str, dict[str, list[float]]] = {}
    davis = Davis2016(arguments.root, split=arguments.split)
    for name in arguments.sequences or davis.names:
        sequence = davis[name]
        kept[sequence.name] = measure(sequence.frames, sequence.mask, list(SETTINGS))
        print(sequence.name, {key: round(row[0], 1) for key, row in kept[sequence.name].items()}, flush=True)
        if arguments.keep:
            arguments.keep.write_text(json.dumps(kept, indent=1) + "\n")
    print("\n| setting | J | ms a frame |\n|---|---:|---:|")
    for name in next(iter(kept.values())):
        means = torch.tensor([rows[name] for rows in kept.values()]).mean(0)
        print(f"| {name} | {means[0]:.1f} | {means[1]:.0f} |")


if __name__ == "__main__":
    main()
