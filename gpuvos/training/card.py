"""Weights as a file, and beside it a model card: what they were made of, how, and under which terms."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gpuvos.data.files import PathLike, as_path, atomic_file
from gpuvos.errors import fail
from gpuvos.training.config import TrainingConfig, TrainingState
from gpuvos.training.stills import StillRecord, licence_counts


def write_weights(network: nn.Module, path: PathLike) -> Path:
    """Writes the state of a network as safetensors in float16 (float32 where a value would overflow)."""
    from safetensors.torch import save

    target = as_path("path", path)
    tensors = {}
    for name, value in network.state_dict().items():
        half = value.half() if value.is_floating_point() else value
        tensors[name] = (half if half.isfinite().all() else value).contiguous().cpu()
    with atomic_file(target) as temporary:
        temporary.write_bytes(save(tensors))  # its save_file would leave a file that nobody else may read
    return target


def read_weights(network: nn.Module, path: PathLike) -> None:
    """Loads weights that ``write_weights`` wrote into a network of the same architecture.

    Raises:
        InputError: no such file, or the weights of something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = as_path("path", path)
    try:
        network.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise fail(
            "path", f"'{file}' ({reason})", f"weights of {type(network).__name__} as safetensors"
        ) from error


def write_card(
    weights: Path,
    records: Sequence[StillRecord],
    config: TrainingConfig,
    state: TrainingState,
    *,
    origin: Path | None,
    processes: int = 1,
    notes: Sequence[str] = (),
) -> Path:
    """Writes ``NAME.json`` beside the weights ``NAME.safetensors``.

    Args:
        weights: the file that the card is of.
        records: the stills that were trained on.
        config: of the run.
        state: of the run at its end.
        origin: file of the weights that training began with; None: random weights.
        processes: that trained together.
        notes: terms or credits to add.
    """
    measured = [row for row in state.history if "seed_iou" in row]
    card: dict[str, Any] = {
        "weights": weights.name,
        "sha256": _sha256(weights),
        "bytes": weights.stat().st_size,
        "began_with": None if origin is None else {"file": origin.name, "sha256": _sha256(origin)},
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
        "notes": list(notes),
    }
    target = weights.with_suffix(".json")
    with atomic_file(target) as temporary:
        temporary.write_text(json.dumps(card, indent=2) + "\n")
    return target


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
