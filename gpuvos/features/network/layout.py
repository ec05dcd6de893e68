"""When a network may run laid out for a CPU, and what is derived from its weights for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

_DTYPES = (torch.float32, torch.bfloat16)
_Network = TypeVar("_Network", bound=nn.Module)
_Layout = TypeVar("_Layout")

# Beside the networks and not in them: their state, copies and pickles are what they were.
_derived: WeakKeyDictionary[nn.Module, tuple[list[Tensor], Any]] = WeakKeyDictionary()


def laid_out(network: _Network, images: Tensor, derive: Callable[[_Network], _Layout | None]) -> _Layout | None:
    """What computes the same as ``network`` sooner on a CPU, or None where the network itself should run.

    It runs itself for gradients, in training mode, on other devices, in traces and transforms, for numbers other than
    float32 and bfloat16, without oneDNN, and where hooks wait in it (those of a sharded network, for example).

    Args:
        network: its parameters and buffers are compared with those of the last call, value by value, which takes 2 %
            of its time: counters of versions do not see what is written through ``.data``.
        images: what it is called with.
        derive: makes the layout from the network, keeping nothing of it but tensors; None: it cannot be laid out. It
            is called without gradients, once and again when a value has changed.
    """
    if torch.compiler.is_compiling() or type(images) is not Tensor or images.device.type != "cpu" or _transformed():
        return None
    values: list[Tensor] = []
    modules: list[nn.Module] = [network]
    for module in modules:
        if module.training or module._forward_hooks or module._forward_pre_hooks:
            return None
        modules.extend(module.children())
        values.extend(
            value for kind in (module._parameters, module._buffers) for value in kind.values() if value is not None
        )
    if not all(_is_plain(value, images) for value in values):
        return None
    kept, layout = _derived.get(network, ([], None))
    if len(kept) != len(values) or not all(map(_is_same, values, kept)):
        with torch.no_grad():
            kept, layout = [value.detach().clone() for value in values], derive(network)
        _derived[network] = kept, layout
    result: _Layout | None = layout
    return result


def _transformed() -> bool:
    """Whether calls are traced, rewritten or cast on their way, so that they must be those of the network."""
    return (
        any(mode.is_infra_mode() for mode in _get_current_dispatch_mode_stack())  # fake tensors, proxies
        or torch._C._functorch.maybe_current_level() is not None
        or torch.is_autocast_enabled("cpu")
        or not torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        or not torch.backends.mkldnn.enabled
    )


def _is_same(value: Tensor, kept: Tensor) -> bool:
    return value.dtype == kept.dtype and torch.equal(value, kept)


def _is_plain(value: Tensor, images: Tensor) -> bool:
    """Whether a parameter or a buffer holds numbers of the type of the images, or counts, and no gradient is wanted."""
    if type(value) not in (Tensor, nn.Parameter) or value.device.type != "cpu":
        return False
    if torch.is_grad_enabled() and (value.requires_grad or images.requires_grad):
        return False
    return value.dtype == torch.int64 or (value.dtype == images.dtype and value.dtype in _DTYPES)
