"""Weights of the embedding network as a file of numbers (safetensors), with a card beside it that holds its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gpuvos.data.atomic import PathLike, as_path, atomic_file
from gpuvos.data.side_files import read_bytes, read_json
from gpuvos.errors import InputError, fail
from gpuvos.features.network.embedding import EmbeddingNetwork


def save_weights(network: nn.Module, path: PathLike, *, card: Mapping[str, Any] | None = None) -> Path:
    """Writes weights in float16, and ``NAME.json`` beside ``NAME.safetensors``.

    Args:
        network: an EmbeddingNetwork as it is trained, not fused.
        path: the file to write, which must end in ``.safetensors``; ``load_weights`` reads it.
        card: says from what and how the weights were made; their hash and size are added.

    Returns:
        The path.

    Raises:
        InputError: another suffix, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = save_weights(EmbeddingNetwork(dimensions=8), Path(tempfile.mkdtemp()) / "w.safetensors")
        >>> load_weights(path).dimensions
        8
    """
    from safetensors.torch import save

    target = as_path("path", path)
    if target.suffix != ".safetensors":
        raise fail("path", f"'{target}'", "a name that ends in .safetensors")
    content = save({name: _halved(value) for name, value in network.state_dict().items()})
    facts = {
        "weights": target.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        **(card or {}),
    }
    text = json.dumps(facts, indent=2) + "\n"  # before anything is written: a card that is no JSON leaves no file
    with atomic_file(target) as temporary, atomic_file(target.with_suffix(".json")) as beside:
        temporary.write_bytes(content)
        beside.write_text(text)
    return target


def load_weights(path: PathLike) -> EmbeddingNetwork:
    """Builds the network of a file that ``save_weights`` wrote, in float32 and evaluation mode.

    Args:
        path: the ``.safetensors`` file. The ``.json`` beside it must hold its SHA-256. No code is read or run.

    Raises:
        InputError: a file is missing or damaged, the hash differs, or these are weights of something else.
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
        network = EmbeddingNetwork(dimensions=state["project.weight"].shape[0], width=state["correct.weight"].shape[1])
        network.load_state_dict(state)
    except (SafetensorError, KeyError, IndexError, RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"path: '{file}' does not hold weights of EmbeddingNetwork ({reason})") from error
    return network.eval()


def _halved(value: Tensor) -> Tensor:
    """In float16, unless it is a count or too large."""
    half = value.half() if value.is_floating_point() else value
    return (half if bool(half.isfinite().all()) else value).contiguous().cpu()
