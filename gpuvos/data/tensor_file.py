"""Files of tensors by name (safetensors) that are read only if they are what their card says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from torch import Tensor

from gpuvos.data.atomic import PathLike, as_path
from gpuvos.errors import InputError, fail


def read_state(path: PathLike) -> dict[str, Tensor]:
    """Tensors by name of a ``.safetensors`` file whose SHA-256 the ``.json`` beside it holds. No code is read or run.

    Args:
        path: the ``.safetensors`` file.

    Raises:
        InputError: a file is missing or damaged, or the hash differs.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    file = as_path("path", path)
    content = _read(file, "weights as safetensors")
    beside = file.with_suffix(".json")
    try:
        wanted = json.loads(_read(beside, f"the card of '{file.name}' with its SHA-256"))["sha256"]
    except (ValueError, KeyError, TypeError):
        raise fail("path", f"'{beside}' without a sha256", f"the card of '{file.name}'") from None
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise fail("path", f"'{file}' with SHA-256 {found}", f"{wanted}, which its card names", "restore the file")
    try:
        state: dict[str, Tensor] = load(content)
    except SafetensorError as error:
        raise InputError(f"path: '{file}' does not hold tensors ({str(error).splitlines()[0]})") from error
    return state


def _read(file: Path, wanted: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise fail("path", f"'{file}' ({error.strerror})", wanted) from error
