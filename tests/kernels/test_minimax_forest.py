"""Minimax forest against Kruskal's algorithm and brute-force minimax distances."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpuvos.kernels.minimax_forest import minimax_forest

Graph = tuple[Tensor, Tensor, Tensor, Tensor]
Check = Callable[[Graph], None]


@pytest.fixture(scope="session")
def check(
    kruskal: Callable[..., Tensor],
    minimax_from: Callable[..., Tensor],
    assert_regions_connected: Callable[..., None],
) -> Check:
    """Compares all that the op returns with brute force, for every frame."""

    def compare(graph: Graph) -> None:
        label, distance, between = minimax_forest(*graph)
        for frame, (right, down, index, valid) in enumerate(zip(*graph, strict=True)):
            assert torch.equal(label[frame], kruskal(right, down, index, valid))
            assert_regions_connected(label[frame], index, valid)
            if not valid.any():
                assert (label[frame] == -1).all()
                assert (distance[frame] == torch.inf).all()
                assert (between[frame] == torch.inf).all()
                continue
            for t in range(len(index)):
                if not valid[t]:
                    assert (between[frame, t] == torch.inf).all()
                    assert (between[frame, :, t] == torch.inf).all()
                    continue
                brute = minimax_from(right, down, int(index[t]))  # [H, W]
                own = label[frame] == t
                assert torch.equal(distance[frame][own].double(), brute[own])
                apart = brute.flatten()[index[valid]]
                assert torch.equal(between[frame, valid, t].double(), apart)
                assert torch.equal(between[frame, t, valid].double(), apart)
                identity = torch.maximum(distance[frame], between[frame, :, t][label[frame]])
                assert torch.equal(identity.double(), brute)

    return compare


def graph_of(right: list[list[float]], down: list[list[float]], seeds: list[int]) -> Graph:
    """One frame; a seed below 0 is invalid."""
    h, w = len(right), len(right[0]) + 1
    index = torch.tensor([seeds])
    return torch.tensor(right).view(1, h, w - 1), torch.tensor(down).view(1, h - 1, w), index, index >= 0


def test_hand_worked_row() -> None:
    # 0 -1- o -5- o -2- 1: the edge of 5 separates the seeds
    label, distance, between = minimax_forest(*graph_of([[1, 5, 2]], [], [0, 3]))
    assert label.tolist() == [[[0, 0, 1, 1]]]
    assert distance.tolist() == [[[0, 1, 2, 0]]]
    assert between.tolist() == [[[0, 5], [5, 0]]]


def test_hand_worked_grid() -> None:
    # o 4 o 1 o     seed 0 at the upper left, seed 1 at the lower right
    # 3   9   2     the pixels of the first row reach seed 1 over 1 and 2, at height 2
    # o 7 o 6 o     the lower middle one over 6; the lower left one seed 0 over 3; the seeds meet over 4
    label, distance, between = minimax_forest(*graph_of([[4, 1], [7, 6]], [[3, 9, 2]], [0, 5]))
    assert label.tolist() == [[[0, 1, 1], [0, 1, 1]]]
    assert distance.tolist() == [[[0, 2, 2], [3, 6, 0]]]
    assert between.tolist() == [[[0, 4], [4, 0]]]


def test_equal_weights_are_taken_in_edge_order() -> None:
    # all 1: edges in order are a-b, a-c, b-d, c-d (right before down, raster order)
    label, distance, _ = minimax_forest(*graph_of([[1], [1]], [[1, 1]], [1, 2]))
    assert label.tolist() == [[[0, 0], [1, 0]]]  # a joins b; a-c would join two seeds; b-d comes before c-d
    assert distance.tolist() == [[[1, 0], [0, 1]]]


@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("shape", [(8, 9), (2, 2), (1, 12), (12, 1), (1, 2), (2, 1), (1, 1), (5, 4), (11, 3)], ids=str)
def test_equals_brute_force(
    check: Check,
    random_graph: Callable[..., Graph],
    generator: torch.Generator,
    shape: tuple[int, int],
    levels: int,
) -> None:
    for k in {1, min(2, shape[0] * shape[1]), min(6, shape[0] * shape[1])}:
        check(random_graph(3, *shape, k, generator, levels=levels))


def test_no_two_seeds_join_on_a_larger_grid(
    kruskal: Callable[..., Tensor], random_graph: Callable[..., Graph], generator: torch.Generator
) -> None:
    graph = random_graph(1, 97, 131, 40, generator, levels=50)
    assert torch.equal(minimax_forest(*graph)[0][0], kruskal(*(value[0] for value in graph)))


def test_all_weights_zero(check: Check, random_graph: Callable[..., Graph], generator: torch.Generator) -> None:
    right, down, index, valid = random_graph(2, 6, 7, 5, generator)
    check((right * 0, down * 0, index, valid))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "falling", "rising", "constant"])
def test_one_corridor(
    check: Check,
    snake: Callable[..., tuple[Tensor, Tensor, list[int]]],
    generator: torch.Generator,
    kind: str,
) -> None:
    length = 33 * 65 - 1
    light = {
        "random": torch.rand(length, generator=generator),
        "falling": torch.linspace(1, 0, length),  # a single chain of hooks over the whole corridor
        "rising": torch.linspace(0, 1, length),
        "constant": torch.full((length,), 0.5),
    }[kind]
    right, down, order = snake(33, 65, light, 9.0)
    index = torch.tensor([[order[0], order[-1], order[700]]])
    check((right[None], down[None], index, torch.ones(1, 3, dtype=torch.bool)))


def test_a_single_seed_takes_everything(
    check: Check, random_graph: Callable[..., Graph], generator: torch.Generator
) -> None:
    graph = random_graph(2, 7, 6, 1, generator)
    check(graph)
    assert (minimax_forest(*graph)[0] == 0).all()


def test_every_pixel_a_seed(check: Check, random_graph: Callable[..., Graph], generator: torch.Generator) -> None:
    right, down, _, _ = random_graph(2, 4, 5, 1, generator)
    index = torch.stack([torch.randperm(20, generator=generator) for _ in range(2)])
    graph = (right, down, index, torch.ones(2, 20, dtype=torch.bool))
    check(graph)
    label, distance, _ = minimax_forest(*graph)
    assert (label.flatten(1).gather(1, index) == torch.arange(20)).all()
    assert (distance == 0).all()


def test_invalid_seeds_take_nothing(check: Check) -> None:
    check(graph_of([[1, 5, 2]], [], [-1, 3, -1]))
    right, down, index, _ = graph_of([[1, 5, 2]], [], [0, 3])
    check((right, down, index, torch.tensor([[False, True]])))  # whatever the index of an invalid one says


def test_frames_without_a_seed(check: Check, random_graph: Callable[..., Graph], generator: torch.Generator) -> None:
    right, down, index, valid = random_graph(3, 4, 5, 3, generator)
    valid[1] = False
    check((right, down, index.masked_fill(~valid, -1), valid))
    label, distance, between = minimax_forest(right, down, index, torch.zeros_like(valid))
    assert (label == -1).all()
    assert (distance == torch.inf).all()
    assert (between == torch.inf).all()


def test_no_seeds_and_no_frames(random_graph: Callable[..., Graph], generator: torch.Generator) -> None:
    right, down, index, valid = random_graph(2, 4, 5, 3, generator)
    label, distance, between = minimax_forest(right, down, index[:, :0], valid[:, :0])
    assert (label == -1).all()
    assert (distance == torch.inf).all()
    assert between.shape == (2, 0, 0)
    empty = minimax_forest(right[:0], down[:0], index[:0], valid[:0])
    assert [tuple(value.shape) for value in empty] == [(0, 4, 5), (0, 4, 5), (0, 3, 3)]


def test_seeds_at_one_pixel_share_it(check: Check) -> None:
    graph = graph_of([[1, 5, 2]], [], [3, 0, 3, 0])
    check(graph)
    label, _, between = minimax_forest(*graph)
    assert label.tolist() == [[[1, 1, 0, 0]]]  # the lowest number has the pixel
    assert between[0].tolist() == [[0, 5, 0, 5], [5, 0, 5, 0], [0, 5, 0, 5], [5, 0, 5, 0]]


@pytest.mark.parametrize("blocked", [False, True])
def test_a_batch_equals_its_frames(
    random_graph: Callable[..., Graph],
    generator: torch.Generator,
    tiny_blocks: Callable[[str], list[int]],
    blocked: bool,
) -> None:
    graph = random_graph(5, 13, 9, 6, generator, levels=4)
    graph[3][2] = False
    singles = [minimax_forest(*(value[i : i + 1] for value in graph)) for i in range(5)]
    frames = tiny_blocks("minimax_forest") if blocked else []
    batch = minimax_forest(*graph)
    assert frames == ([0, 1, 2, 3, 4] * 2 if blocked else [])  # regions, then distances between seeds
    for whole, parts in zip(batch, zip(*singles, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(parts))


def test_memory_layout_does_not_matter(random_graph: Callable[..., Graph], generator: torch.Generator) -> None:
    graph = random_graph(3, 6, 8, 5, generator, levels=3)
    strided = [value.transpose(0, -1).contiguous().transpose(0, -1) for value in graph]
    sliced = [torch.stack((value, torch.zeros_like(value)), -1)[..., 0] for value in graph]
    for other in (strided, sliced):
        assert not any(value.is_contiguous() for value in other)
        for got, wanted in zip(minimax_forest(*other), minimax_forest(*graph), strict=True):
            assert torch.equal(got, wanted)
            assert got.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_dtypes(
    check: Check, random_graph: Callable[..., Graph], generator: torch.Generator, dtype: torch.dtype
) -> None:
    right, down, index, valid = random_graph(2, 7, 8, 5, generator)
    graph = (right.to(dtype), down.to(dtype), index, valid)
    check(graph)
    label, distance, between = minimax_forest(*graph)
    assert label.dtype == torch.int64
    assert distance.dtype == between.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_float64_weights_keep_their_order(check: Check) -> None:
    fine = [[1 + 3e-12, 1 + 1e-12, 1 + 2e-12, 1.0]]  # all equal in float32
    right, down, index, valid = graph_of(fine, [], [0, 4])
    graph = (torch.tensor([fine], dtype=torch.float64), down.double(), index, valid)
    check(graph)
    assert minimax_forest(*graph)[0].tolist() == [[[0, 1, 1, 1, 1]]]
    assert minimax_forest(right.float(), down, index, valid)[0].tolist() == [[[0, 0, 0, 0, 1]]]


def test_minus_zero_is_zero(check: Check, random_graph: Callable[..., Graph], generator: torch.Generator) -> None:
    for dtype in (torch.float32, torch.float64):
        right, down, index, valid = random_graph(6, 9, 11, 8, generator, levels=2)
        plain = (right.to(dtype), down.to(dtype), index, valid)
        flip = torch.rand(right.shape, generator=generator) < 0.5
        signed = (
            torch.where((right == 0) & flip, -0.0, right).to(dtype),
            torch.where(down == 0, -0.0, down).to(dtype),
            index,
            valid,
        )
        assert torch.signbit(signed[0]).any()
        check(signed)
        for got, wanted in zip(minimax_forest(*signed), minimax_forest(*plain), strict=True):
            assert torch.equal(got, wanted.to(got.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_infinite_weights_are_the_heaviest(
    check: Check, random_graph: Callable[..., Graph], generator: torch.Generator, dtype: torch.dtype
) -> None:
    right, down, index, valid = random_graph(3, 6, 6, 4, generator, levels=4)
    graph = (
        right.masked_fill(right > 1, torch.inf).to(dtype),
        down.masked_fill(down > 1, torch.inf).to(dtype),
    )
    check((*graph, index, valid))
    check((graph[0] + torch.inf, graph[1] + torch.inf, index, valid))


def test_tiny_and_huge_weights(check: Check) -> None:
    low, high = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
    check(graph_of([[low, high, low / 4, 0.0, high]], [], [0, 4]))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.slow
def test_repeated_runs_and_threads_agree(
    random_graph: Callable[..., Graph], generator: torch.Generator, threads: Callable[[int], None]
) -> None:
    graph = random_graph(3, 150, 160, 30, generator, levels=9)  # large enough to be split over threads
    results = []
    for count in (1, 2, 2, 1):
        threads(count)
        results.append(minimax_forest(*graph))
    for other in results[1:]:
        assert all(torch.equal(got, wanted) for got, wanted in zip(other, results[0], strict=True))


def test_inputs_stay_as_they_are(random_graph: Callable[..., Graph], generator: torch.Generator) -> None:
    graph = random_graph(2, 5, 6, 4, generator)
    copies = [value.clone() for value in graph]
    minimax_forest(*graph)
    assert all(torch.equal(value, copy) for value, copy in zip(graph, copies, strict=True))


@st.composite
def small_graphs(draw: st.DrawFn) -> Graph:
    h, w, k = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    cost = st.sampled_from([0.0, -0.0, 0.5, 1.0, 1.0000001, 3.0, float("inf")])
    right = draw(st.lists(cost, min_size=h * (w - 1), max_size=h * (w - 1)))
    down = draw(st.lists(cost, min_size=(h - 1) * w, max_size=(h - 1) * w))
    index = torch.tensor([draw(st.lists(st.integers(-1, h * w - 1), min_size=k, max_size=k))])
    return torch.tensor(right).view(1, h, w - 1), torch.tensor(down).view(1, h - 1, w), index, index >= 0


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True)
@given(graph=small_graphs())
def test_any_small_grid(check: Check, graph: Graph) -> None:
    check(graph)
