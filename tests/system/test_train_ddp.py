"""The script that trains through a segmenter in two processes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TWO_PROCESSES = Path(__file__).parents[1] / "two_processes.py"
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "train_ddp.py"


@pytest.mark.slow
def test_two_processes_end_with_equal_weights() -> None:
    modules = "gpuvos.pipeline.video,gpuvos.data,gpuvos.flow.clip"
    done = subprocess.run(
        [sys.executable, TWO_PROCESSES, modules, SCRIPT, "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ranks = re.findall(r"rank (\d): loss ([\d.]+), sum of the weights (-?[\d.]+)", done.stdout)
    assert sorted(rank for rank, *_ in ranks) == ["0", "1"]
    assert ranks[0][1] != ranks[1][1]  # other clips
    assert ranks[0][2] == ranks[1][2]
