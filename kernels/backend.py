"""Which implementation of an op runs on a device, and why."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch


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


def implementation(op: str, device: torch.device | str, dtype: torch.dtype = torch.float32) -> ModuleType:
    """Module ``kernel`` or ``reference`` of an op, as ``choose`` says."""
    return importlib.import_module(f"gpuvos.kernels.{op}.{choose(device, dtype).implementation}")


@cache
def _triton_there() -> bool:
    return importlib.util.find_spec("triton") is not None
