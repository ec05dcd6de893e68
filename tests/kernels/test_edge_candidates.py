"""Candidate points against the definition, pixel by pixel."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.edge_candidates import edge_candidates


def brute_force(right: Tensor, down: Tensor, window: int, reduce: str, temperature: float) -> Tensor:
    """One frame: the edge value of every pixel, then every window."""
    h, w = right.shape[0], down.shape[1]
    value = [[0.0] * w for _ in range(h)]
    for y in range(h):
        for x in range(w):
            edges = [float(right[y, i]) for i in (x - 1, x) if 0 <= i < w - 1]
            edges += [float(down[j, x]) for j in (y - 1, y) if 0 <= j < h - 1]
            if edges and reduce == "max":
                value[y][x] = max(edges)
            elif edges:
                value[y][x] = sum(math.tanh(v / (2 * temperature)) for v in edges) / len(edges)
    r = window // 2
    rows = [
        [
            all(
                value[y][x] <= value[j][i]
                for j in range(max(0, y - r), min(h, y + r + 1))
                for i in range(max(0, x - r), min(w, x + r + 1))
            )
            for x in range(w)
        ]
        for y in range(h)
    ]
    return torch.tensor(rows)


def test_hand_worked() -> None:
    # squared distances 4, 1, 9 in a row: edge values 4, 4, 9, 9
    right, down = torch.tensor([[[4.0, 1.0, 9.0]]]), torch.zeros(1, 0, 4)
    assert edge_candidates(right, down, 3, "max", 1.0).tolist() == [[[True, True, False, True]]]
    assert edge_candidates(right, down, 5, "max", 1.0).tolist() == [[[True, True, False, False]]]
    # means of tanh(4/2) = 0.964, tanh(1/2) = 0.462, tanh(9/2) = 1.000: 0.964, 0.713, 0.731, 1.000
    assert edge_candidates(right, down, 3, "mean", 1.0).tolist() == [[[False, True, False, False]]]


def test_the_order_of_max_does_not_saturate() -> None:
    right, down = torch.tensor([[[300.0, 200.0, 100.0]]]), torch.zeros(1, 0, 4)  # tanh is 1 for all of them
    assert edge_candidates(right, down, 9, "max", 1.0).tolist() == [[[False, False, False, True]]]
    assert edge_candidates(right, down, 9, "mean", 1.0).all()
    assert edge_candidates(right, down, 9, "mean", 100.0).tolist() == [[[False, False, False, True]]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (2, 2), (9, 6)], ids=str)
@pytest.mark.parametrize("window", [1, 3, 5, 9, 31])
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_equals_brute_force(shape: tuple[int, int], window: int, reduce: str, generator: torch.Generator) -> None:
    h, w = shape
    for ties in (False, True):
        right, down = (
            torch.randint(5, size, generator=generator).double()
            if ties and reduce == "max"
            else torch.rand(size, generator=generator, dtype=torch.float64)
            for size in ((2, h, w - 1), (2, h - 1, w))
        )
        got = edge_candidates(right, down, window, reduce, 0.7)
        for t in range(2):
            assert torch.equal(got[t], brute_force(right[t], down[t], window, reduce, 0.7))


def test_flat_frames_are_all_candidates() -> None:
    for reduce in ("max", "mean"):
        assert edge_candidates(torch.zeros(1, 4, 4), torch.zeros(1, 3, 5), 9, reduce, 1.0).all()


def test_batches_blocks_types_and_layouts_agree(
    generator: torch.Generator, tiny_blocks: Callable[[str], list[int]]
) -> None:
    right = torch.randint(9, (3, 6, 4), generator=generator).float()
    down = torch.randint(9, (3, 5, 5), generator=generator).float()
    whole = edge_candidates(right, down, 5, "mean", 2.0)
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(edge_candidates(right.to(dtype), down.to(dtype), 5, "mean", 2.0), whole)
    turned = (value.mT.contiguous().mT for value in (right, down))
    assert torch.equal(edge_candidates(*turned, 5, "mean", 2.0), whole)
    frames = tiny_blocks("edge_candidates")
    assert torch.equal(edge_candidates(right, down, 5, "mean", 2.0), whole)
    assert frames == [0, 1, 2]
    assert edge_candidates(right[:0], down[:0], 5, "max", 1.0).shape == (0, 6, 5)
