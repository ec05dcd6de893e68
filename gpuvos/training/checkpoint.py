"""Checkpoints of training: sealed with a hash, and read without running anything in them."""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpuvos.data.side_files import read_bytes
from gpuvos.errors import fail

_DIGITS = 64  # of a SHA-256
_PARTS = ("network", "teacher", "optimizer", "state", "config")
_WANTED, _REMEDY = "a checkpoint of this command", "begin anew in another folder"


def sealed(content: bytes) -> bytes:
    """What ``torch.save`` wrote, with its SHA-256 as the comment of the archive: ``torch.load`` reads it as before.

    Example:
        >>> written = io.BytesIO()
        >>> torch.save({"a": 1}, written)
        >>> torch.load(io.BytesIO(sealed(written.getvalue())), weights_only=True)
        {'a': 1}
    """
    length = _DIGITS.to_bytes(2, "little")
    whole = content[: -len(length)] + length  # the archive ends with the length of its comment, which was 0
    return whole + hashlib.sha256(whole).hexdigest().encode()


def read_checkpoint(file: Path, device: torch.device) -> dict[str, Any]:
    """What training saved; InputError where it is absent, was changed by a single bit, or is something else."""
    if not file.exists():
        raise fail("resume", f"no file '{file}'", "the folder of a run that was stopped")
    data = read_bytes("resume", file, _WANTED)
    if hashlib.sha256(data[:-_DIGITS]).hexdigest().encode() != data[-_DIGITS:]:
        raise fail("resume", f"'{file}', which does not end with its SHA-256: it is damaged", _WANTED, _REMEDY)
    try:
        content = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except Exception as error:  # a file of anything makes the reader raise almost anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise fail("resume", f"'{file}' ({reason})", _WANTED, _REMEDY) from error
    wrong = _wrong_part(content)
    if wrong is not None:
        raise fail("resume", f"'{file}' with {wrong}", _WANTED, _REMEDY)
    return dict(content)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads the optimizer's state; raises ValueError where tensors in it do not fit the parameters."""
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            value = kept.get(name)
            if not isinstance(value, Tensor) or value.shape != parameter.shape:
                raise ValueError(f"the optimizer's {name} is not of the shape of its parameter")
            if not bool(value.isfinite().all()):
                raise ValueError(f"the optimizer's {name} is not finite")


def _wrong_part(content: object) -> str | None:
    """What is wrong with a checkpoint, by types and ranges; None: nothing."""
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    missing = sorted(set(_PARTS) - content.keys())
    if missing:
        return f"no {', '.join(missing)}"
    for name in _PARTS:
        if not isinstance(content[name], dict) and not (name == "teacher" and content[name] is None):
            return f"a {type(content[name]).__name__} as {name}"
    for name in ("network", "teacher"):
        for key, value in (content[name] or {}).items():
            if not isinstance(value, Tensor):
                return f"a {type(value).__name__} as {key} of the {name}"
            if value.is_floating_point() and not bool(value.isfinite().all()):
                return f"values of {key} in the {name} that are not finite"
    return _wrong_state(content["state"])


def _wrong_state(state: dict[str, Any]) -> str | None:
    step, history = state.get("step"), state.get("history")
    if type(step) is not int or not 0 <= step < 2**40:
        return "a step that is no whole number"
    for name in ("seconds", "temperature"):
        value = state.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            return f"{name} that are no number from 0"
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        return "a history that is no list of rows"
    if not all(isinstance(value, int | float) for row in history for value in row.values()):
        return "a history of something else than numbers"
    return None
