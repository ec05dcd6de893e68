"""What a call launches on a CUDA device, found with none at hand: tensors are fake, kernels only noted."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

MULTIPROCESSORS = 132  # of an H200
# Operators that only make another view of memory, look at a tensor, or take memory without writing to it.
_FREE = frozenset(
    {
        "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "device", "empty", "empty_like",
        "empty_strided", "expand", "lift_fresh", "mT", "new_empty", "new_empty_strided", "permute", "promote_types",
        "select", "slice", "split", "split_with_sizes", "squeeze", "t", "to", "transpose", "unbind", "unsqueeze",
        "view",
    }
)  # fmt: skip
_PICKING = frozenset({"gather", "index", "index_select"})  # read as much of the first argument as they write
_SEVERAL = {"sort": 4, "topk": 3}  # copies of the keys, their numbers, and the search itself


class Launch(NamedTuple):
    """One kernel, or one operator of torch."""

    name: str
    place: str  # module of the package that asked for it, or the op that the kernel is of
    times: int = 1  # launches of an operator
    bytes: int = 0  # of an operator: its tensors and results
    kernel: Any = None  # what @triton.jit made; None for an operator
    programs: int = 0
    arguments: Mapping[str, Any] = MappingProxyType({})  # by name; of a tensor what ``Given`` keeps
    options: Mapping[str, Any] = MappingProxyType({})  # num_warps, ...


class Given(NamedTuple):
    """A tensor that a kernel was given."""

    dtype: torch.dtype
    numel: int
    offset: int  # bytes from where its memory begins


_Mode: Any = TorchDispatchMode  # has no types


class Noting(_Mode):  # type: ignore[misc]
    """Notes operators; of the package's own it runs the part on the host, and notes the kernels which that launches."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: list[Launch] = []
        self.operators: Counter[str] = Counter()  # as the package called them
        self.inside = ""  # the op whose host part runs

    @property
    def launches(self) -> Counter[str]:
        """Launches by name."""
        found: Counter[str] = Counter()
        for launch in self.launched:
            found[launch.name] += launch.times
        return found

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.split("::")[1]
        if function.namespace == "gpuvos":
            self.operators[name] += 1
            module, host = _host_part(name)
            self.inside = module
            with self:
                result = host(*args)
            self.inside = ""
            return result
        result = function(*args, **(kwargs or {}))
        if name not in _FREE:
            self.operators[name] += not self.inside
            moved = sum(value.numel() * value.itemsize for value in _tensors(_moved(name, args, kwargs, result)))
            self.launched.append(Launch(name, self.inside or _caller(), _SEVERAL.get(name, 1), moved))
        return result

    def note(self, kernel: Any, grid: Any) -> Callable[..., None]:
        """Stands in for ``kernel[grid]``."""

        def launch(*args: Any, **kwargs: Any) -> None:
            arguments = dict(zip(kernel.arg_names, args, strict=False))
            arguments |= {name: value for name, value in kwargs.items() if name in kernel.arg_names}
            kept = {name: _given(value) if isinstance(value, Tensor) else value for name, value in arguments.items()}
            options = {name: value for name, value in kwargs.items() if name not in kernel.arg_names}
            self.launched.append(Launch(kernel.fn.__name__, self.inside, 1, 0, kernel, int(grid[0]), kept, options))

        return launch


@contextmanager
def noted_launches() -> Iterator[Noting]:
    """Collects what calls on CUDA tensors, all of them fake and made inside, would launch.

    Example:
        >>> with noted_launches() as noting:
        ...     _ = torch.ones(3, device="cuda") + 1
        >>> dict(noting.launches)
        {'ones': 1, 'add': 1}
    """
    from triton.runtime.jit import KernelInterface

    noting = Noting()

    def properties(_: Any) -> Any:
        return type("Properties", (), {"multi_processor_count": MULTIPROCESSORS})

    with ExitStack() as stack:
        stack.enter_context(
            patch.object(KernelInterface, "__getitem__", lambda kernel, grid: noting.note(kernel, grid))
        )
        stack.enter_context(patch("torch.cuda.get_device_properties", properties))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(torch.no_grad())
        stack.enter_context(noting)
        yield noting


def _host_part(name: str) -> tuple[str, Callable[..., Any]]:
    """The folder and the function of an op's kernel module."""
    folder = {"mean_within": "neighbor_mean"}.get(name, name)
    host: Callable[..., Any] = getattr(importlib.import_module(f"gpuvos.kernels.{folder}.kernel"), name)
    return folder, host


def _given(value: Tensor) -> Given:
    return Given(value.dtype, value.numel(), int(value.storage_offset()) * value.itemsize)


def _moved(name: str, args: Any, kwargs: Any, result: Any) -> Any:
    """Arguments and results of an operator that are gone through."""
    if name.startswith("new_"):
        return result
    return (args[1:] if name in _PICKING else args, kwargs, result, result if name in _PICKING else None)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _caller() -> str:
    """The innermost module of the package that is being run, the bench left out."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("gpuvos.") and not module.startswith("gpuvos.bench"):
            return str(module).removeprefix("gpuvos.")
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""
