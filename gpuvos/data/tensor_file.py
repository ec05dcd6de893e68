"""Files of tensors by name (safetensors) that are read only if they are what their card says."""

from __future__ import annotations

import hashlib

from torch import Tensor

from gpuvos.data.atomic import PathLike, as_path
from gpuvos.data.side_files import read_bytes, read_json
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
    content = read_bytes("path", file, "weights as safetensors")
    beside = file.with_suffix(".json")
    card = read_json("path", beside, f"the card of '{file.name}' with its SHA-256")
    wanted = card.get("sha256") if isinstance(card, dict) else None
    if not isinstance(wanted, str):
        raise fail("path", f"'{beside}' without a sha256", f"the card of '{file.name}'")
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise fail("path", f"'{file}' with SHA-256 {found}", f"{wanted}, which its card names", "restore the file")
    try:
        state: dict[str, Tensor] = load(content)
    except (SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"path: '{file}' does not hold tensors ({str(error).splitlines()[0]})") from error
    return state
