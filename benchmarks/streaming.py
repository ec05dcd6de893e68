"""Streaming against the whole clip on DAVIS-2016: J by window and latency, and milliseconds a frame after the features.

The features of a sequence are computed once (``--cache`` keeps them); every window and latency then sees them frame by
frame. A run that is stopped goes on where it was, from the file of ``--keep``.
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
from gpuvos.experiments.cache import FeatureCache
from gpuvos.metrics import region_similarity

WHOLE = "whole clip"
SETTINGS = ("8:1", "16:1", "32:8", "64:0", "64:1", "64:8", "64:24")
Rows = dict[str, list[float]]


class Replay(nn.Module):
    """A front end that has seen the clip before; frames are ``[3, h, w]`` filled with their number."""

    def __init__(self, features: gpuvos.Features) -> None:
        super().__init__()
        self.features = features

    def forward(self, frames: Tensor) -> gpuvos.Features:
        """The features of those frames; the last one's flow is that of the frame before, as none comes after it.

        Only the last frame of the clip has a flow of its own there.
        """
        number = frames[:, 0, 0, 0].long()
        end = len(self.features.flow) - 1
        known = torch.where((number == number[-1]) & (number != end), (number - 1).clamp(min=0), number)
        embedding, objectness, flow = self.features
        return gpuvos.Features(embedding[number], objectness[number], flow[known])


def measure(features: gpuvos.Features, truth: Tensor, settings: list[str]) -> Rows:
    """J (DAVIS leaves out the first and the last frame) and milliseconds a frame of every setting."""
    t, h, w = truth.shape
    blank = torch.arange(t)[:, None, None, None].expand(-1, 3, h, w).half()
    rows = {}
    for name in (WHOLE, *settings):
        window, latency = (None, None) if name == WHOLE else map(int, name.split(":"))
        segmenter = gpuvos.StreamingSegmenter(Replay(features), window=window, latency=latency)
        start = time.perf_counter()
        found = [
            result.mask for frame in blank if (result := segmenter.push(frame, validate=False)) is not None
        ]
        rest = segmenter.flush()
        found += [] if rest is None else [rest.mask]
        spent = 1e3 * (time.perf_counter() - start) / t
        rows[name] = [100 * float(region_similarity(torch.cat(found), truth)[1:-1].mean()), spent]
    return rows


def table(kept: dict[str, Rows]) -> str:
    """Means of all sequences, and J sequence by sequence."""
    names = list(next(iter(kept.values())))
    score = torch.tensor([[rows[name] for name in names] for rows in kept.values()], dtype=torch.float64)
    lines = [
        "| window | latency | J | to whole clip | largest loss | largest gain | ms a frame |",
        "|---:|---:|---:|---:|---|---|---:|",
    ]
    sequences = list(kept)
    for number, name in enumerate(names):
        gain = score[:, number, 0] - score[:, 0, 0]
        low, high = int(gain.argmin()), int(gain.argmax())
        window, latency = ("all", "all") if name == WHOLE else name.split(":")
        ends = ["", ""] if name == WHOLE else [f"{gain[i]:+.1f} ({sequences[i]})" for i in (low, high)]
        mean, spent = score[:, number].mean(0)
        lines.append(
            f"| {window} | {latency} | {mean:.1f} | {gain.mean():+.1f} | {ends[0]} | {ends[1]} | {spent:.0f} |"
        )
    lines += ["", f"| sequence | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for sequence, rows in kept.items():
        lines.append(f"| {sequence} | {' | '.join(f'{rows[name][0]:.1f}' for name in names)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="DAVIS-2016")
    parser.add_argument("--split", default="train")
    parser.add_argument("--sequences", nargs="*", help="all of the split where absent")
    parser.add_argument("--settings", nargs="*", default=SETTINGS, metavar="WINDOW:LATENCY")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="folder of kept features, as of gpuvos evaluate")
    parser.add_argument("--keep", type=Path, help="JSON file, rewritten after every sequence")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    kept: dict[str, Rows] = {}
    if arguments.keep and arguments.keep.exists():
        kept = json.loads(arguments.keep.read_text())
    segmenter = gpuvos.VideoSegmenter()
    assert isinstance(segmenter.front_end, nn.Module)
    cache = FeatureCache(arguments.cache, segmenter.front_end)
    davis = Davis2016(arguments.root, split=arguments.split)
    for name in arguments.sequences or davis.names:
        if name in kept:
            continue
        sequence = davis[name]
        features = cache(name, sequence.frames, segmenter.features)
        kept[name] = measure(features, sequence.mask, list(arguments.settings))
        print(name, {key: round(row[0], 1) for key, row in kept[name].items()}, flush=True)
        if arguments.keep:
            arguments.keep.write_text(json.dumps(kept, indent=1) + "\n")
    print("\n" + table(kept))


if __name__ == "__main__":
    main()
