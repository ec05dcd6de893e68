"""Which implementation of an op runs on a device, and why."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Choice(NamedTuple):
    """An implementation of an op."""

    implementation: str  # "kernel" (Triton) or "reference" (plain torch)
    reason: str


def choose(device: torch.device | str, dtype: torch.dtype = torch.float32) -> Choice:
    """Says what every op runs for tensors of a device and dtype.

    Triton kernels run on CUDA tensors of at most 32 bits. Everything else takes the reference, as does CUDA where
    Triton is missing, or where the environment variable ``GPUVOS_KERNELS`` is ``reference``.
    """
    kind = torch.device(device).type
    if kind != "cuda":
        return Choice("reference", f"{kind} tensors")
    if dtype == torch.float64:
        return Choice("reference", "float64 is there to check the others with")
    if os.environ.get("GPUVOS_KERNELS") == "reference":
        return Choice("reference", "GPUVOS_KERNELS=reference")
    if not _triton_there():
        return Choice("reference", "triton is not installed")
    return Choice("kernel", "CUDA tensors")


def run(op: str, *arguments: Any, dtype: torch.dtype | None = None, function: str | None = None) -> Any:
    """Calls what ``choose`` says for an op, with the device of its first argument as the current one.

    Triton launches on the current device, wherever the tensors are.

    Args:
        op: name of the op's folder.
        arguments: what the function takes; the first is a tensor.
        dtype: what the choice goes by, instead of the type of the first argument.
        function: name of the function, if that is not the op's.
    """
    first: Tensor = arguments[0]
    module = f"gpuvos.kernels.{op}.{choose(first.device, dtype or first.dtype).implementation}"
    with torch.cuda.device_of(first):  # type: ignore[no-untyped-call]
        return getattr(importlib.import_module(module), function or op)(*arguments)


@cache
def _triton_there() -> bool:
    return importlib.util.find_spec("triton") is not None
