"""Decoding ahead changes when items are made, nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from gpuvos.data.prefetch import prefetch


def test_the_next_item_is_made_while_this_one_is_used() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    ahead = prefetch(items())
    assert not made[0].is_set()  # nothing before the first is asked for
    assert next(ahead) == 0
    assert made[1].wait(10)
    assert not made[2].is_set()  # one, and no more
    assert list(ahead) == [1, 2, 3]


def test_errors_come_where_they_belong() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("broken")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="broken"):
        next(ahead)


def test_closing_ends_the_thread() -> None:
    ahead = prefetch(iter(range(10)))
    next(ahead)
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
