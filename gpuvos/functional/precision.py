"""The method computes in the types of its inputs, whatever ``torch.autocast`` says."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Switches autocast off inside of a function: products in bfloat16 would lose the distances decided on.

    Half types that come in are computed in float32 as always, so a network may run under autocast and the method
    after it in the same block.

    Args:
        function: a function of tensors or of tuples of tensors; the first tensor names the device.

    Example:
        >>> product = full_precision(torch.mm)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     product(torch.ones(1, 1), torch.ones(1, 1)).dtype
        torch.float32
    """

    @functools.wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        tensor = _first_tensor((*arguments, *options.values()))
        device = "cpu" if tensor is None else tensor.device.type
        # torch 2.11 does not trace the question whether a device has autocast
        known = device in ("cpu", "cuda") or torch.amp.is_autocast_available(device)
        if not known or not torch.is_autocast_enabled(device):
            return function(*arguments, **options)
        with torch.autocast(device, enabled=False):
            return function(*arguments, **options)

    return run


def _first_tensor(values: tuple[object, ...]) -> Tensor | None:
    for value in values:
        found = _first_tensor(value) if isinstance(value, tuple) else value
        if isinstance(found, Tensor):
            return found
    return None
