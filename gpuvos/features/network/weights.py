"""Weights of networks as files of numbers (safetensors), each with a card beside it that holds its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gpuvos.data.atomic import PathLike, as_path, atomic_file
from gpuvos.data.tensor_file import read_state
from gpuvos.errors import InputError, fail
from gpuvos.features.network.embedding import EmbeddingNetwork
from gpuvos.features.network.u2net import U2NetP

SALIENCY = Path(__file__).with_name("u2netp.safetensors")


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
    colors = ("mean", "std")  # the same for all networks, and exact
    content = save({name: _halved(value) for name, value in network.state_dict().items() if name not in colors})
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
    file = as_path("path", path)
    state = read_state(file)
    try:
        width = state["correct.weight"].shape[1] if "correct.weight" in state else 0
        network = EmbeddingNetwork(dimensions=state["project.weight"].shape[0], width=width)
        if not network.project.weight.is_meta:  # a shell without memory is filled by its owner
            network.load_state_dict(state)
    except (KeyError, IndexError, RuntimeError, ValueError, TypeError) as error:
        raise _unfit(file, "EmbeddingNetwork", error) from error
    return network.float().eval()


def load_saliency(path: PathLike | None = None, *, size: int = 320, detail: bool = False) -> U2NetP:
    """Builds U2NetP with the weights that come with the library, in float32 and evaluation mode.

    Args:
        path: a ``.safetensors`` file of other weights, with its card beside it; None: those in the package.
        size: as of ``U2NetP``.
        detail: as of ``U2NetP``.

    Raises:
        InputError: a file is missing or damaged, the hash differs, or these are weights of something else.

    Example:
        >>> import torch
        >>> load_saliency(size=64)(torch.zeros(1, 3, 48, 80)).shape
        torch.Size([1, 32, 32])
    """
    file = SALIENCY if path is None else as_path("path", path)
    network = U2NetP(size=size, detail=detail)
    state = read_state(file)
    try:
        if not network.merge.weight.is_meta:  # a shell without memory is filled by its owner
            network.load_state_dict(state)
    except RuntimeError as error:
        raise _unfit(file, "U2NetP", error) from error
    return network.float().eval()


def _unfit(file: Path, network: str, error: Exception) -> InputError:
    return InputError(f"path: '{file}' does not hold weights of {network} ({str(error).splitlines()[0]})")


def _halved(value: Tensor) -> Tensor:
    """In float16, unless it is a count or too large."""
    half = value.half() if value.is_floating_point() else value
    return (half if bool(half.isfinite().all()) else value).contiguous().cpu()
