"""FSDP2: parameters in parts over two processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("shard_segmenter.py")
TWO_PROCESSES = Path(__file__).parents[1] / "two_processes.py"
MODULES = "torch.distributed.fsdp,gpuvos.pipeline.video,gpuvos.features.saliency,gpuvos.features.adapters"


@pytest.mark.slow
def test_a_sharded_segmenter_gives_the_same_masks_and_learns() -> None:
    command = [sys.executable, TWO_PROCESSES, MODULES, SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(line for line in done.stdout.splitlines() if "rank" in line) == ["rank 0: done", "rank 1: done"]
