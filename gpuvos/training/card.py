"""The model card of trained weights: what they were made of, how, and under which terms."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gpuvos.training.config import TrainingConfig, TrainingState
from gpuvos.training.images import StillRecord, licence_counts

TEACHER_TERMS = (
    "Began with ESPNetv2 (s = 2.0), trained for PASCAL VOC 2012 segmentation by "
    "github.com/sacmehta/EdgeNets; the encoder's weights are unchanged where encoder_scale is 0. The "
    "licence of those weights:",
    "MIT License",
    "Copyright (c) 2021 Sachin Mehta",
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software "
    'and associated documentation files (the "Software"), to deal in the Software without '
    "restriction, including without limitation the rights to use, copy, modify, merge, publish, "
    "distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the "
    "Software is furnished to do so, subject to the following conditions:",
    "The above copyright notice and this permission notice shall be included in all copies or "
    "substantial portions of the Software.",
    'THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING '
    "BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND "
    "NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, "
    "DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, "
    "OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.",
)


def model_card(
    records: Sequence[StillRecord],
    config: TrainingConfig,
    state: TrainingState,
    *,
    origin: Path | None,
    processes: int = 1,
) -> dict[str, Any]:
    """What weights were made of and how, for ``gpuvos.features.network.weights.save_weights``.

    Args:
        records: the stills that were trained on.
        config: the parameters of the run.
        state: the state of the run at its end.
        origin: file of the weights that training began with; None: random weights. The terms of the teacher are
            added where it is one.
        processes: that trained together.

    Returns:
        A dictionary that JSON can hold.
    """
    measured = [row for row in state.history if "seed_iou" in row]
    began = None if origin is None else {"file": origin.name, "sha256": _sha256(origin)}
    return {
        "began_with": began,
        "terms": list(TEACHER_TERMS) if origin is not None and origin.suffix == ".pth" else [],
        "stills": len(records),
        "licences": licence_counts(records),
        "all_licences_free": all(record.free for record in records),
        "steps": state.step,
        "images": state.step * config.batch_size * processes,
        "seconds": round(state.seconds, 1),
        "temperature": state.temperature,
        "config": asdict(config),
        "held_out_before": measured[0] if measured else None,
        "held_out_after": measured[-1] if measured else None,
        "commit": _commit(),
        "torch": torch.__version__,
    }


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _commit() -> str | None:
    """The commit of the checkout that this file is in; None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
        found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
