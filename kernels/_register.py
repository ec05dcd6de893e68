"""Registration of an op with torch: one call of ``define_op`` says all that an op promises."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import reduce
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from gpuvos.kernels import backend

P = ParamSpec("P")
R = TypeVar("R")

_Library: Any = torch.library.Library  # has no types


class _StrictLibrary(_Library):  # type: ignore[misc]
    """Ops whose autograd refuses a tangent that it would lose: torch knows no forward mode of them."""

    def impl(self, name: str, run: Any, dispatch_key: str = "", **options: Any) -> None:
        """As of the base class."""
        if dispatch_key != "Autograd":
            super().impl(name, run, dispatch_key, **options)
            return

        def checked(keys: Any, *arguments: Any) -> Any:
            return _without_tangent(name, run(keys, *arguments), arguments)

        super().impl(name, checked, dispatch_key, **options)


_LIBRARY = _StrictLibrary("gpuvos", "FRAGMENT")  # it lives as long as its registrations


def define_op(
    reference: Callable[P, R],
    *,
    kernel: str,
    fake: Callable[..., Any],
    save: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> Callable[P, R]:
    """Defines the op ``gpuvos::<name of the reference>``, whose schema is the signature of the reference.

    ``torch.library.custom_op`` says the same with more words, and imports ``torch._dynamo`` at its first call, which
    takes a second.

    Args:
        reference: the op in plain torch. It runs on every device where ``backend.choose`` does not say "kernel".
        kernel: the module that holds a function of the same name and signature in Triton. It is imported at the first
            call that needs it.
        fake: takes the op's arguments and returns empty tensors of the shapes and types of its results.
        save: ``setup_context`` of ``torch.library.register_autograd``: keeps what the gradient needs.
        backward: the gradients of the arguments from those of the results. Without it the op has no gradient, and a
            backward pass through it raises RuntimeError.

    Returns:
        The op, to be called as the reference is.
    """
    name = reference.__name__
    _LIBRARY.define(name + torch.library.infer_schema(reference, mutates_args=()), tags=(torch.Tag.pt2_compliant_tag,))

    def run(*arguments: Any) -> Any:
        tensors = [value for value in arguments if isinstance(value, Tensor)]
        chosen: Callable[..., Any] = reference
        if backend.choose(tensors[0].device, _precision(tensors)).implementation == "kernel":
            chosen = getattr(importlib.import_module(kernel), name)
        # Triton launches on the current device, wherever the tensors are
        with torch.cuda.device_of(tensors[0]):  # type: ignore[no-untyped-call]
            return chosen(*arguments)

    def no_gradient(*_: Any) -> None:
        raise RuntimeError(f"gpuvos::{name} has no gradient: detach its arguments")

    _LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
    _LIBRARY.impl(name, run, "CUDA")
    op = getattr(torch.ops.gpuvos, name).default

    def one_by_one(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
        return _over_batch(op, info.batch_size, in_dims, arguments)

    qualified = f"gpuvos::{name}"
    torch.library.register_fake(qualified, fake, lib=_LIBRARY)
    torch.library.register_autograd(qualified, backward or no_gradient, setup_context=save, lib=_LIBRARY)
    torch.library.register_vmap(qualified, one_by_one, lib=_LIBRARY)
    return cast("Callable[P, R]", op)


def _without_tangent(name: str, results: Any, arguments: tuple[Any, ...]) -> Any:
    """The results; raises where an argument has a tangent that they should have had as well."""
    if any(isinstance(value, Tensor) and backend.has_tangent(value) for value in arguments):
        values = (results,) if isinstance(results, Tensor) else results
        if any(value.is_floating_point() for value in values):
            raise RuntimeError(f"gpuvos::{name} has no forward-mode derivative: detach its arguments")
    return results


def _over_batch(op: Callable[..., Any], size: int, in_dims: tuple[Any, ...], arguments: tuple[Any, ...]) -> Any:
    """What ``torch.vmap`` makes of an op: one call for each of the batch, and the results stacked."""
    batched = [isinstance(dim, int) for dim in in_dims]
    moved = [
        value.movedim(dim, 0) if there else value for value, dim, there in zip(arguments, in_dims, batched, strict=True)
    ]
    calls = [
        op(*(value[n] if there else value for value, there in zip(moved, batched, strict=True))) for n in range(size)
    ]
    if isinstance(calls[0], Tensor):
        return torch.stack(calls), 0
    return tuple(torch.stack(parts) for parts in zip(*calls, strict=True)), (0,) * len(calls[0])


def result_dtype(*tensors: Tensor) -> torch.dtype:
    """The type of an op's real results: float64 if one of the tensors has it, else float32."""
    return torch.float64 if torch.float64 in {value.dtype for value in tensors} else torch.float32


def _precision(tensors: list[Tensor]) -> torch.dtype:
    """The type that an implementation has to bear: none of the floating tensors but a single number may be rounded."""
    real = [value.dtype for value in tensors if value.is_floating_point() and value.dim()]
    return reduce(torch.promote_types, real, real[0]) if real else tensors[0].dtype
