"""Features of a sequence, computed once and kept on the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import gpuvos
from gpuvos.data.atomic import PathLike, as_path, atomic_file
from gpuvos.errors import fail
from gpuvos.types import Features


def fingerprint(module: nn.Module) -> str:
    """A name for what a front end computes: SHA-256 of its classes, options, weights, and of this version.

    Options are the plain attributes (numbers, text, tuples of these) of it and of its submodules.

    Example:
        >>> fingerprint(nn.Conv2d(1, 1, 1)) == fingerprint(nn.Conv2d(1, 1, 3))
        False
    """
    digest = hashlib.sha256(f"gpuvos {gpuvos.__version__}, torch {torch.__version__}".encode())
    for name, part in module.named_modules():
        plain = {key: value for key, value in vars(part).items() if _is_plain(value) and key != "training"}
        digest.update(f"\n{name} {type(part).__qualname__} {sorted(plain.items())!r}".encode())
    for name, value in sorted(module.state_dict(keep_vars=True).items()):
        digest.update(name.encode())
        digest.update(_bytes(value))
    for name, value in module.named_buffers():  # those that are not saved count as well
        digest.update(name.encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(part) for part in value)
    if is_dataclass(value) and not isinstance(value, type):  # parameters of the flow
        return all(_is_plain(getattr(value, field.name)) for field in fields(value))
    return value is None or isinstance(value, bool | int | float | str)


def _bytes(value: Tensor) -> bytes:
    flat = value.detach().cpu().contiguous().flatten()
    return str((value.dtype, tuple(value.shape))).encode() + flat.view(torch.uint8).numpy().tobytes()


class FeatureCache:
    """Features by what they were made of: the front end (see ``fingerprint``), the frames, the kind of device.

    The embedding is kept in float16, everything else as it is. What ``__call__`` returns has gone through that
    rounding whether or not it was in the cache, so results do not depend on it.

    Args:
        folder: where to keep them; it is made when the first is written. None: nothing is kept, only rounded.
        front_end: what computes them.

    Example:
        >>> import tempfile
        >>> from gpuvos.features.appearance import AppearanceFeatures
        >>> cache = FeatureCache(tempfile.mkdtemp(), AppearanceFeatures())
        >>> frames = torch.zeros(2, 3, 32, 48, dtype=torch.uint8)
        >>> first = cache("black", frames, AppearanceFeatures())
        >>> again = cache("black", frames, lambda frames: 1 / 0)  # read, not computed
        >>> torch.equal(first.embedding, again.embedding)
        True
    """

    def __init__(self, folder: PathLike | None, front_end: nn.Module) -> None:
        self.folder = None if folder is None else as_path("folder", folder)
        self.key = fingerprint(front_end)

    def __call__(self, name: str, frames: Tensor, compute: Callable[[Tensor], Features]) -> Features:
        """Features of a sequence, read if they are there and computed and written if not.

        Args:
            name: of the sequence; only the file's name depends on it.
            frames: ``[T, 3, H, W]`` on the device that computes.
            compute: gives Features of the frames.
        """
        file = self.file(name, frames)
        if file is None:
            return _rounded(compute(frames))
        stored = _read(file, frames.device)
        if stored is None:
            with torch.no_grad():
                stored = _rounded(compute(frames))
            _write(file, stored)
        return stored

    def file(self, name: str, frames: Tensor) -> Path | None:
        """Where the features of these frames are kept."""
        if self.folder is None:
            return None
        digest = hashlib.sha256(f"{self.key} {frames.device.type}".encode())
        digest.update(_bytes(frames))
        return self.folder / f"{name}-{digest.hexdigest()[:24]}.safetensors"


def _rounded(features: Features) -> Features:
    """The embedding with the digits of float16, as float32."""
    half = features.embedding.to(torch.float16)
    if not bool(half.isfinite().all()):
        raise fail("embedding", "values beyond the range of float16 (65504)", "an embedding of smaller scale")
    return Features(half.float(), features.objectness.float(), features.flow.float())


def _write(file: Path, features: Features) -> None:
    from safetensors.torch import save

    tensors = {name: value.cpu().contiguous() for name, value in features._asdict().items()}
    tensors["embedding"] = tensors["embedding"].half()
    with atomic_file(file) as temporary:
        temporary.write_bytes(save(tensors))


def _read(file: Path, device: torch.device) -> Features | None:
    """None where the file is absent or damaged; a damaged one is written anew."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        return None
    try:
        stored = load_file(file, device=str(device))
        return Features(stored["embedding"].float(), stored["objectness"], stored["flow"])
    except (SafetensorError, KeyError, OSError):
        return None
