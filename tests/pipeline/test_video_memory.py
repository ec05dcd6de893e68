"""Memory of long clips: what is held at once, and what the process keeps."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import gpuvos
from gpuvos.kernels.blocks import blocks
from gpuvos.kernels.minimax_forest import reference as minimax_forest
from gpuvos.kernels.neighbor_mean import reference as neighbor_mean

_VOTE = """
import resource
import torch
from gpuvos import functional as F

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
torch.set_num_threads(1)
seeds, score = torch.randn(80, 300, 16), torch.rand(80, 300)
there = torch.ones(80, 300, dtype=torch.bool)
F.vote_labels(seeds[:2], score[:2], there[:2], largest_share=0.0085)
before = peak()
F.vote_labels(seeds, score, there, largest_share=0.0085)
print(peak() - before)
"""


def bytes_of(result: object) -> int:
    if isinstance(result, Tensor):
        return result.nbytes
    return sum(map(bytes_of, result)) if isinstance(result, tuple) else 0


def measure(run: Callable[[], object], folder: Path) -> tuple[int, int]:
    """Most bytes of tensors at once that ``run`` allocates, and the bytes of its result."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = run()
    recorded.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    events = sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"])
    changes = torch.tensor([event["args"]["Bytes"] for event in events])
    return int(changes.cumsum(0).max()), bytes_of(result)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["robust", "paper"])
def test_a_longer_clip_needs_little_more_than_its_results(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    # what is done for a few frames at a time, for one or two here
    monkeypatch.setitem(blocks.__kwdefaults__, "budget", 1 << 17)
    monkeypatch.setattr(minimax_forest, "_CACHE_BYTES", 1 << 17)
    monkeypatch.setattr(neighbor_mean, "_CACHE_BYTES", 1 << 17)
    config = gpuvos.Config(rule=rule, num_seeds=64, window=3)
    peaks, sizes = [], []
    for t in (12, 24):
        features = [torch.rand(t, *size, 24, 32, generator=generator) for size in ((6,), (), (2,))]
        peak, size = measure(partial(gpuvos.segment, *features, config=config, size=(48, 64)), tmp_path)
        peaks.append(peak)
        sizes.append(size)
    more = peaks[1] - peaks[0] - (sizes[1] - sizes[0])
    assert more < 0.3 * (sizes[1] - sizes[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
def test_a_vote_leaves_no_holes_in_the_heap() -> None:
    done = subprocess.run([sys.executable, "-c", _VOTE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 << 10  # KiB; small results between the temporaries made it 500 MiB and more
