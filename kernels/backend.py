"""Which implementation of an op runs on a device, and why."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

OLDEST_TRITON = (3, 6)
OLDEST_CAPABILITY = (8, 0)


class Choice(NamedTuple):
    """An implementation of an op."""

    implementation: str  # "kernel" (Triton) or "reference" (plain torch)
    reason: str


def choose(device: torch.device | str, dtype: torch.dtype = torch.float32) -> Choice:
    """Says what every op runs for tensors of a device and dtype.

    Triton kernels run on CUDA tensors of at most 32 bits, on devices of compute capability 8.0 or more (older ones
    have no bfloat16) and with Triton 3.6 or later. Everything else takes the reference, as does CUDA where Triton is
    missing, or where the environment variable ``GPUVOS_KERNELS`` is ``reference``. A device that is not there is
    taken to be new enough.
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
    version, capability = _triton_version(), _capability(torch.device(device))
    if version < OLDEST_TRITON:
        return Choice("reference", f"triton {_dotted(version)} is older than {_dotted(OLDEST_TRITON)}")
    if capability is not None and capability < OLDEST_CAPABILITY:
        wanted = _dotted(OLDEST_CAPABILITY)
        return Choice("reference", f"compute capability {_dotted(capability)} is below {wanted}")
    return Choice("kernel", "CUDA tensors")


def needs_plain(*values: Any) -> bool:
    """Whether a differentiable op must be taken in plain torch: for a tangent, or for a gradient of ``torch.func``.

    Ops have a gradient and a batching rule, but torch knows no forward mode of them: a tangent would be lost.
    """
    if torch.compiler.is_compiling():
        return False
    tensors = [value for value in values if isinstance(value, Tensor)]
    if any(torch._C._functorch.is_functorch_wrapped_tensor(value) for value in tensors):
        stack = torch._C._functorch.get_interpreter_stack() or []
        return any(level.key() != torch._C._functorch.TransformType.Vmap for level in stack)
    return any(has_tangent(value) for value in tensors)


def has_tangent(value: Tensor) -> bool:
    """Whether forward-mode differentiation runs and a tensor takes part in it.

    Example:
        >>> has_tangent(torch.ones(1))
        False
    """
    unpack: Any = unpack_dual  # has no types
    return unpack(value).tangent is not None


@cache
def _triton_there() -> bool:
    return importlib.util.find_spec("triton") is not None


@cache
def _triton_version() -> tuple[int, int]:
    import triton

    major, minor, *_ = triton.__version__.split(".")
    return int(major), int(minor)


@cache
def _capability(device: torch.device) -> tuple[int, int] | None:
    """Of a device that is there, else None."""
    return torch.cuda.get_device_capability(device) if torch.cuda.is_available() else None


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
