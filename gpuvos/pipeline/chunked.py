"""Where memory runs out: long clips in smaller parts, and one error that says what takes less."""

from __future__ import annotations

import functools
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from gpuvos.errors import OutOfMemoryError, fail

P = ParamSpec("P")
R = TypeVar("R")

# What allocators say; only CUDA's has a type of its own.
_PHRASES = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the host.

    Example:
        >>> is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
        True
        >>> is_out_of_memory(RuntimeError("shape mismatch"))
        False
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _PHRASES)


def attempt(run: Callable[[], R]) -> tuple[R | None, str]:
    """What ``run`` gives, and ""; where memory runs out None, and what was said about it.

    Example:
        >>> attempt(lambda: 3)
        (3, '')
        >>> nothing, said = attempt(lambda: torch.empty(2**60))
    """
    try:
        return run(), ""
    except (MemoryError, RuntimeError) as error:
        said = _words(error)
    _release()
    return None, said


def explain_memory(argument: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Raises OutOfMemoryError where memory runs out in a function, in the name of the argument that takes it.

    Example:
        >>> @explain_memory("count")
        ... def zeros(count: int) -> Tensor:
        ...     return torch.zeros(count)
        >>> zeros(2)
        tensor([0., 0.])
        >>> zeros(2**60)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        gpuvos.errors.OutOfMemoryError: count: got more than fits into memory (...
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*arguments: P.args, **options: P.kwargs) -> R:
            if torch.compiler.is_compiling():  # nothing is allocated, and a handler would break the trace
                return function(*arguments, **options)
            try:
                return function(*arguments, **options)
            except OutOfMemoryError:
                raise
            except (MemoryError, RuntimeError) as error:
                said = _words(error)
            _release()
            raise _too_much(argument, f"more than fits into memory ({said})")

        return run

    return decorate


def in_parts(
    run: Callable[[int, int], Sequence[Tensor]], count: int, chunk: int | None, *, argument: str = "frames"
) -> list[Tensor]:
    """Joins what ``run`` gives for the parts of a clip, each at most ``chunk`` frames.

    Where memory runs out, the part is halved and tried again, down to one frame, and a warning names the size that
    fits. The results are joined in place, so the peak is their own size and one part's work.

    Args:
        run: called with the first frame of a part and the one after its last; gives tensors ``[n, ...]`` of it.
        count: the number of frames, T.
        chunk: frames of a part; None: all of them.
        argument: the argument that an error names.

    Returns:
        Tensors ``[T, ...]``, as many as ``run`` gives.

    Raises:
        OutOfMemoryError: memory does not suffice for one frame, or for the results.

    Example:
        >>> squares = torch.arange(5) ** 2
        >>> in_parts(lambda first, last: [squares[first:last]], 5, 2)
        [tensor([ 0,  1,  4,  9, 16])]
    """
    if torch.compiler.is_compiling():  # nothing is allocated while tracing
        return list(run(0, count))
    whole: list[Tensor] = []
    first, size = 0, count if chunk is None else min(chunk, count)
    while first < count:
        last = min(first + size, count)
        part, said = attempt(functools.partial(run, first, last))
        if part is None:
            if last - first == 1:
                raise _too_much(argument, f"frames of which not even one fits into memory ({said})")
            size = (last - first + 1) // 2
            warnings.warn(f"out of memory with {last - first} frames at a time, going on with {size}", stacklevel=3)
            continue
        if last - first == count:
            return list(part)
        whole = whole or _room(part, count, argument)
        for joined, piece in zip(whole, part, strict=True):
            joined[first:last] = piece
        first = last
    return whole


def _room(part: Sequence[Tensor], count: int, argument: str) -> list[Tensor]:
    """Uninitialised tensors for all frames."""
    room, said = attempt(lambda: [piece.new_empty((count, *piece.shape[1:])) for piece in part])
    if room is None:
        raise _too_much(argument, f"frames of which the results of {count} do not fit into memory ({said})")
    return room


def _words(error: Exception) -> str:
    """What an exception says about memory; one about something else is raised again."""
    if not is_out_of_memory(error):
        raise error
    return textwrap.shorten(str(error) or type(error).__name__, 160, placeholder=" ...")


def _release() -> None:
    """Gives back what a call held that failed: after the handler of its exception, which holds it until then."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _too_much(argument: str, got: str) -> OutOfMemoryError:
    remedy = "scale frames down, take fewer at a time (StreamingSegmenter, gpuvos segment --mode stream) or fewer seeds"
    return OutOfMemoryError(str(fail(argument, got, "less", remedy)))
