"""Farthest-point sampling against a greedy search in plain Python."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpuvos.kernels.farthest_points import farthest_points


def merit(p: int, points: list[list[float]], chosen: list[int], height: list[float]) -> float:
    gaps = [sum((a - b) ** 2 for a, b in zip(points[p], points[c], strict=True)) for c in chosen]
    return min(gaps, default=height[p])


def greedy(embedding: Tensor, priority: Tensor, candidates: Tensor, num_points: int) -> Tensor:
    out = []
    for e, first, mask in zip(embedding.double(), priority.double(), candidates, strict=True):
        points, height = e.T.tolist(), first.tolist()
        chosen: list[int] = []
        left = mask.nonzero().flatten().tolist()
        for _ in range(min(num_points, len(left))):
            merits = [merit(p, points, chosen, height) for p in left]
            chosen.append(left.pop(merits.index(max(merits))))
        out.append(chosen + [-1] * (num_points - len(chosen)))
    return torch.tensor(out).view(len(embedding), num_points)


def test_hand_worked() -> None:
    # points on a line; the second has the highest priority among candidates, the last is none
    embedding = torch.tensor([[[0.0, 4.0, 5.0, 9.0, 100.0]]])
    priority = torch.tensor([[0.1, 0.8, 0.2, 0.3, 0.9]])
    candidates = torch.tensor([[True, True, True, True, False]])
    # from 4: 9 is 25 away, 0 is 16; then 0; then 5, and no more
    assert farthest_points(embedding, priority, candidates, 6).tolist() == [[1, 3, 0, 2, -1, -1]]


@pytest.mark.parametrize("kind", ["real", "whole"])
@pytest.mark.parametrize("shape", [(3, 5, 40), (2, 1, 30), (1, 8, 1), (4, 2, 7)], ids=str)
def test_equals_a_greedy_search(kind: str, shape: tuple[int, int, int], generator: torch.Generator) -> None:
    n, d, p = shape
    if kind == "whole":  # many duplicates and ties
        embedding = torch.randint(3, (n, d, p), generator=generator).float()
        priority = torch.randint(3, (n, p), generator=generator).float()
    else:
        embedding = torch.randn(n, d, p, generator=generator)
        priority = torch.rand(n, p, generator=generator)
    candidates = torch.rand(n, p, generator=generator) < 0.6
    for k in (1, 5, p, p + 3):
        got = farthest_points(embedding, priority, candidates, k)
        assert torch.equal(got, greedy(embedding, priority, candidates, k))


def test_ties_go_to_the_lowest_index() -> None:
    embedding = torch.tensor([[[1.0, 0.0, 2.0, 0.0, 2.0, 1.0]]])
    everyone = torch.ones(1, 6, dtype=torch.bool)
    # equal priority: 0; then 1, 2, 3 and 4 are equally far: 1; then 2 and 4: 2; the rest has distance 0
    assert farthest_points(embedding, torch.zeros(1, 6), everyone, 6).tolist() == [[0, 1, 2, 3, 4, 5]]


def test_fewer_candidates_than_points() -> None:
    embedding = torch.arange(5.0).view(1, 1, 5).expand(2, 1, 5)
    candidates = torch.tensor([[True, False, False, True, False], [False, False, True, False, False]])
    got = farthest_points(embedding, torch.ones(2, 5), candidates, 4)
    assert got.tolist() == [[0, 3, -1, -1], [2, -1, -1, -1]]


def test_frames_without_a_candidate(tiny_blocks: Callable[[str], list[int]]) -> None:
    embedding = torch.arange(4.0).view(1, 1, 4).expand(3, 1, 4)
    candidates = torch.zeros(3, 4, dtype=torch.bool)
    assert farthest_points(embedding, torch.ones(3, 4), candidates, 2).tolist() == [[-1, -1]] * 3
    candidates[1] = True
    wanted = [[-1, -1], [0, 3], [-1, -1]]
    assert farthest_points(embedding, torch.ones(3, 4), candidates, 2).tolist() == wanted
    frames = tiny_blocks("farthest_points")
    assert farthest_points(embedding, torch.ones(3, 4), candidates, 2).tolist() == wanted
    assert frames == [0, 1, 2]


def test_all_points_equal() -> None:
    got = farthest_points(torch.full((2, 3, 6), 7.0), torch.zeros(2, 6), torch.ones(2, 6, dtype=torch.bool), 4)
    assert got.tolist() == [[0, 1, 2, 3]] * 2  # never one twice


def test_nothing_asked_or_given() -> None:
    everyone = torch.ones(2, 6, dtype=torch.bool)
    assert farthest_points(torch.zeros(2, 3, 6), torch.zeros(2, 6), everyone, 0).shape == (2, 0)
    assert farthest_points(torch.zeros(0, 3, 6), torch.zeros(0, 6), everyone[:0], 4).shape == (0, 4)
    assert farthest_points(torch.zeros(2, 3, 0), torch.zeros(2, 0), everyone[:, :0], 2).tolist() == [[-1, -1]] * 2


def test_a_priority_of_minus_infinity_is_still_a_candidate() -> None:
    priority = torch.full((1, 3), -torch.inf)
    candidates = torch.tensor([[False, True, True]])
    assert farthest_points(torch.arange(3.0).view(1, 1, 3), priority, candidates, 3).tolist() == [[1, 2, -1]]


def test_float64_is_not_rounded() -> None:
    embedding = torch.tensor([[[1.0, 1 + 1e-10, 1 + 3e-10, 1 + 2e-10]]], dtype=torch.float64)
    everyone = torch.ones(1, 4, dtype=torch.bool)
    assert farthest_points(embedding, torch.zeros(1, 4), everyone, 2).tolist() == [[0, 2]]
    assert farthest_points(embedding.float(), torch.zeros(1, 4), everyone, 2).tolist() == [[0, 1]]


def test_a_float64_priority_is_not_rounded() -> None:
    priority = torch.tensor([[0.5, 0.5 + 1e-12]], dtype=torch.float64)
    assert farthest_points(torch.zeros(1, 1, 2), priority, torch.ones(1, 2, dtype=torch.bool), 1).item() == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_types_are_computed_in_float32(dtype: torch.dtype, generator: torch.Generator) -> None:
    embedding = torch.randn(2, 64, 50, generator=generator).mul(100).to(dtype)  # squares overflow half
    priority = torch.rand(2, 50, generator=generator).to(dtype)
    candidates = torch.rand(2, 50, generator=generator) < 0.7
    got = farthest_points(embedding, priority, candidates, 20)
    assert torch.equal(got, greedy(embedding, priority, candidates, 20))


def test_batches_blocks_and_layouts_agree(generator: torch.Generator, tiny_blocks: Callable[[str], list[int]]) -> None:
    embedding, priority = torch.randn(4, 6, 30, generator=generator), torch.rand(4, 30, generator=generator)
    candidates = torch.rand(4, 30, generator=generator) < 0.5
    whole = farthest_points(embedding, priority, candidates, 12)
    singles = [farthest_points(*(v[i : i + 1] for v in (embedding, priority, candidates)), 12) for i in range(4)]
    assert torch.equal(whole, torch.cat(singles))
    turned = (value.transpose(0, -1).contiguous().transpose(0, -1) for value in (embedding, priority, candidates))
    assert torch.equal(whole, farthest_points(*turned, 12))
    frames = tiny_blocks("farthest_points")
    assert torch.equal(whole, farthest_points(embedding, priority, candidates, 12))
    assert frames == [0, 1, 2, 3]


@st.composite
def small_sets(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, int]:
    n, d, p = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 7))
    whole = st.integers(-2, 2)
    embedding = torch.tensor(draw(st.lists(whole, min_size=n * d * p, max_size=n * d * p))).float().view(n, d, p)
    priority = torch.tensor(draw(st.lists(whole, min_size=n * p, max_size=n * p))).float().view(n, p)
    candidates = torch.tensor(draw(st.lists(st.booleans(), min_size=n * p, max_size=n * p))).view(n, p)
    return embedding, priority, candidates, draw(st.integers(1, 8))


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(case=small_sets())
def test_any_small_set(case: tuple[Tensor, Tensor, Tensor, int]) -> None:
    assert torch.equal(farthest_points(*case), greedy(*case))
