"""Streaming against the whole clip on DAVIS-2016: J by history and latency.

The features of a sequence are computed once (``--cache`` keeps them); every history and latency then sees them frame by
frame. A run that is stopped goes on where it was, from ``--keep``.
"""

from __future__ import annotations

from functools import partial

import torch
from over_davis import Row, measure_all, options
from torch import Tensor, nn

import gpuvos
from gpuvos.metrics import region_similarity
from gpuvos.pipeline.stream import StreamingSegmenter

WHOLE = "whole clip"
SETTINGS = ("16:1", "32:8", "64:1", "64:8", "64:24")


class Replay(nn.Module):
    """A front end that has seen the clip before; frames are ``[3, h, w]`` filled with their number."""

    def __init__(self, features: gpuvos.Features) -> None:
        super().__init__()
        self.features = features

    def forward(self, frames: Tensor) -> gpuvos.Features:
        """The features of those frames; a latency of 1 or more never uses the flow of the last one too early."""
        number = frames[:, 0, 0, 0].long()
        return gpuvos.Features(*(value[number] for value in self.features))


def measure(features: gpuvos.Features, truth: Tensor, settings: list[str]) -> Row:
    """J of every setting; DAVIS leaves out the first and the last frame."""
    t, h, w = truth.shape
    blank = torch.arange(t)[:, None, None, None].expand(-1, 3, h, w).half()
    rows = {}
    for name in (WHOLE, *settings):
        history, latency = (None, None) if name == WHOLE else map(int, name.split(":"))
        segmenter = StreamingSegmenter(Replay(features), history=history, latency=latency)
        found = torch.cat([result.mask for result in segmenter.stream(blank, validate=False)])
        rows[name] = 100 * float(region_similarity(found, truth)[1:-1].mean())
    return rows


def table(kept: dict[str, Row]) -> str:
    """Means of all sequences, and J sequence by sequence."""
    names, sequences = list(next(iter(kept.values()))), sorted(kept)
    score = torch.tensor([[kept[sequence][name] for name in names] for sequence in sequences])
    lines = [
        "| history | latency | J | against the whole clip | largest loss | largest gain |",
        "|---:|---:|---:|---:|---|---|",
    ]
    for number, name in enumerate(names):
        gain = score[:, number] - score[:, 0]
        ends = [f"{gain[i]:+.1f} ({sequences[i]})" for i in (int(gain.argmin()), int(gain.argmax()))]
        history, latency = ("all", "all") if name == WHOLE else name.split(":")
        rest = "- | - | -" if name == WHOLE else f"{gain.mean():+.1f} | {ends[0]} | {ends[1]}"
        lines.append(f"| {history} | {latency} | {score[:, number].mean():.1f} | {rest} |")
    lines += ["", f"| sequence | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for sequence, row in zip(sequences, score.tolist(), strict=True):
        lines.append(f"| {sequence} | {' | '.join(f'{value:.1f}' for value in row)} |")
    return "\n".join(lines)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--settings", nargs="*", default=SETTINGS, metavar="HISTORY:LATENCY")
    arguments = parser.parse_args()
    settings = list(arguments.settings)
    kept = measure_all(arguments, partial(measure, settings=settings), {"settings": settings})
    print("\n" + table(kept))


if __name__ == "__main__":
    main()
