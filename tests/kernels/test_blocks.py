"""Splitting of a batch into blocks of bounded memory."""

from __future__ import annotations

import pytest

from gpuvos.kernels.blocks import BLOCK_BYTES, blocks


def test_hand_worked() -> None:
    assert list(blocks(7, 10, budget=30)) == [slice(0, 3), slice(3, 6), slice(6, 7)]


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10])
@pytest.mark.parametrize("bytes_each", [0, 1, 3, 10, 11, 99])
def test_blocks_cover_the_range_once_and_keep_the_budget(count: int, bytes_each: int) -> None:
    parts = list(blocks(count, bytes_each, budget=10))
    assert [item for part in parts for item in range(count)[part]] == list(range(count))
    for part in parts:
        size = part.stop - part.start
        assert size == 1 or size * bytes_each <= 10


def test_an_item_above_the_budget_comes_alone() -> None:
    assert list(blocks(2, 100, budget=10)) == [slice(0, 1), slice(1, 2)]


def test_default_budget() -> None:
    assert [part.stop for part in blocks(4, BLOCK_BYTES // 2)] == [2, 4]


def test_blocks_are_as_large_as_the_budget_allows() -> None:
    assert len(list(blocks(1000, 1, budget=100))) == 10
