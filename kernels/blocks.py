"""Splitting a batch so that a reference implementation's temporaries stay in a bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

from gpuvos.kernels.shapes import is_open

BLOCK_BYTES = 32 << 20


def blocks(count: int, bytes_each: int, *, budget: int = BLOCK_BYTES) -> Iterator[slice]:
    """Slices that cover ``range(count)``, each at most ``budget`` bytes or one item; one slice for an open count."""
    if is_open(count, bytes_each):
        yield slice(0, count)
        return
    step = max(1, budget // max(1, bytes_each))
    for first in range(0, count, step):
        yield slice(first, min(first + step, count))
