"""Long clips a part at a time, and smaller parts where memory runs out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gpuvos.errors import InputError, fail

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


def in_parts(
    run: Callable[[int, int], Sequence[Tensor]], count: int, chunk: int | None, *, argument: str = "frames"
) -> list[Tensor]:
    """Joins what ``run`` gives for the parts of a clip, each at most ``chunk`` frames.

    Where memory runs out, the part is halved and tried again, down to one frame, and a warning names the size that
    fits. The results are joined in place, so the peak is their own size and one part's work.

    Args:
        run: called with the first frame of a part and the one after its last; gives tensors ``[n, ...]`` of it.
        count: T.
        chunk: frames of a part; None: all of them.
        argument: what to name in the error.

    Returns:
        Tensors ``[T, ...]``, as many as ``run`` gives.

    Raises:
        InputError: memory does not suffice for one frame, or for the results.

    Example:
        >>> squares = torch.arange(5) ** 2
        >>> in_parts(lambda first, last: [squares[first:last]], 5, 2)
        [tensor([ 0,  1,  4,  9, 16])]
    """
    whole: list[Tensor] = []
    first, size = 0, count if chunk is None else min(chunk, count)
    while first < count:
        last = min(first + size, count)
        part = _attempt(run, first, last)
        if part is None:
            if last - first == 1:
                raise _too_large(argument, "of which not even one at a time fits into memory")
            size = (last - first + 1) // 2
            warnings.warn(
                f"out of memory with {last - first} frames at a time, going on with {size}", stacklevel=3
            )
            continue
        if last - first == count:
            return list(part)
        whole = whole or _room(part, count, argument)
        for joined, piece in zip(whole, part, strict=True):
            joined[first:last] = piece
        first = last
    return whole


def _attempt(run: Callable[[int, int], Sequence[Tensor]], first: int, last: int) -> Sequence[Tensor] | None:
    """What ``run`` gives; None where memory runs out."""
    try:
        return run(first, last)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    # only here, after the handler, is what the failed call held free again
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    return None


def _room(part: Sequence[Tensor], count: int, argument: str) -> list[Tensor]:
    """Uninitialised tensors for all frames."""
    try:
        return [piece.new_empty((count, *piece.shape[1:])) for piece in part]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise _too_large(argument, f"of which the results of {count} do not fit into memory") from error


def _too_large(argument: str, got: str) -> InputError:
    remedy = "scale them down, take fewer at a time (StreamingSegmenter needs memory for its window alone), or use "
    return fail(argument, f"frames {got}", "frames that do", remedy + "a front end of a coarser grid")
