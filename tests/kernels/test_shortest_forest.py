"""Shortest-path forest against Dijkstra's algorithm."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpuvos.kernels.shortest_forest import shortest_forest

Graph = tuple[Tensor, Tensor, Tensor, Tensor]
Check = Callable[[Graph], None]


@pytest.fixture(scope="session")
def check(dijkstra: Callable[..., tuple[Tensor, ...]], assert_regions_connected: Callable[..., None]) -> Check:
    """Compares with Dijkstra, exactly: for weights whose sums are exact."""

    def compare(graph: Graph) -> None:
        got = shortest_forest(*graph)
        for frame, (right, down, index, valid) in enumerate(zip(*graph, strict=True)):
            label, distance, largest = (value[frame] for value in got)
            wanted = dijkstra(right, down, index, valid)
            assert torch.equal(label, wanted[0])
            assert torch.equal(distance.double(), wanted[1])
            assert torch.equal(largest.double(), wanted[2])
            assert_regions_connected(label, index, valid)

    return compare


def graph_of(right: list[list[float]], down: list[list[float]], seeds: list[int]) -> Graph:
    """One frame; a seed below 0 is invalid."""
    h, w = len(right), len(right[0]) + 1
    index = torch.tensor([seeds])
    return torch.tensor(right).view(1, h, w - 1), torch.tensor(down).view(1, h - 1, w), index, index >= 0


def test_hand_worked_row() -> None:
    label, distance, largest = shortest_forest(*graph_of([[1, 2, 2, 5, 4]], [], [0, 5]))
    assert label.tolist() == [[[0, 0, 0, 0, 1, 1]]]
    assert distance.tolist() == [[[0, 1, 3, 5, 4, 0]]]
    assert largest.tolist() == [[[0, 1, 2, 2, 4, 0]]]


def test_hand_worked_grid() -> None:
    # o 1 o    from the seed at the upper left the lower right is 1 + 5 = 6 over the top and 4 + 1 = 5 over the bottom
    # 4   5    (the minimax path would be the same; the largest edge on the way is 4)
    # o 1 o
    label, distance, largest = shortest_forest(*graph_of([[1], [1]], [[4, 5]], [0]))
    assert label.tolist() == [[[0, 0], [0, 0]]]
    assert distance.tolist() == [[[0, 1], [4, 5]]]
    assert largest.tolist() == [[[0, 1], [4, 4]]]


def test_many_light_edges_lose_against_a_heavy_one() -> None:
    # three edges of 1 on the way to seed 0, one of 2.5 to seed 1: shortest takes seed 1, minimax would take seed 0
    label, _, largest = shortest_forest(*graph_of([[1, 1, 1, 2.5]], [], [0, 4]))
    assert label.tolist() == [[[0, 0, 0, 1, 1]]]
    assert largest.tolist() == [[[0, 1, 1, 2.5, 0]]]


def test_equal_lengths_go_to_the_lowest_seed() -> None:
    assert shortest_forest(*graph_of([[2, 2]], [], [0, 2]))[0].tolist() == [[[0, 0, 1]]]
    assert shortest_forest(*graph_of([[2, 2]], [], [2, 0]))[0].tolist() == [[[1, 0, 0]]]


def test_equal_lengths_of_one_seed_take_the_smaller_largest_edge() -> None:
    # 3 + 1 over the top, 2 + 2 over the bottom
    _, distance, largest = shortest_forest(*graph_of([[3], [2]], [[2, 1]], [0]))
    assert distance.tolist() == [[[0, 3], [2, 4]]]
    assert largest.tolist() == [[[0, 3], [2, 2]]]


def test_zero_edges_hand_a_seed_to_a_lower_one() -> None:
    label, distance, largest = shortest_forest(*graph_of([[0, 0, 1]], [], [2, 0]))
    assert label.tolist() == [[[0, 0, 0, 0]]]
    assert distance.tolist() == largest.tolist() == [[[0, 0, 0, 1]]]


@pytest.mark.parametrize("levels", [2, 3, 1000])
@pytest.mark.parametrize("shape", [(8, 9), (2, 2), (1, 12), (12, 1), (1, 1), (11, 3)], ids=str)
def test_equals_dijkstra(
    check: Check,
    random_graph: Callable[..., Graph],
    generator: torch.Generator,
    shape: tuple[int, int],
    levels: int,
) -> None:
    for k in {1, min(6, shape[0] * shape[1])}:
        check(random_graph(3, *shape, k, generator, levels=levels))


def test_equals_dijkstra_on_real_weights(
    dijkstra: Callable[..., tuple[Tensor, ...]],
    assert_regions_connected: Callable[..., None],
    random_graph: Callable[..., Graph],
    generator: torch.Generator,
) -> None:
    # real weights: shortest paths are unique
    right, down, index, valid = random_graph(2, 20, 23, 7, generator)
    right, down = right.double(), down.double()
    got = shortest_forest(right, down, index, valid)
    for frame in range(2):
        wanted = dijkstra(right[frame], down[frame], index[frame], valid[frame])
        assert torch.equal(got[0][frame], wanted[0])
        assert torch.allclose(got[1][frame], wanted[1], rtol=1e-12, atol=0)
        assert torch.equal(got[2][frame], wanted[2])
        assert_regions_connected(got[0][frame], index[frame], valid[frame])


def test_regions_stay_connected_where_sums_are_rounded(assert_regions_connected: Callable[..., None]) -> None:
    # Seed 1 is nearer to pixel q of the first row by 1e-9, which is lost in the sum with the edge of 1 to the pixel p
    # after it: both seeds reach p in 1, but the path of seed 0 would run through q, which is not its own.
    # seed 0 -2e-9- q -1- p -9- o
    #    9          0     9     9
    #    o   --9--  o -0- o -1e-9- seed 1
    graph = graph_of([[2e-9, 1, 9], [9, 0, 1e-9]], [[9, 0, 9, 9]], [0, 7])
    label, distance, _ = shortest_forest(*graph)
    assert distance[0, 0, 2] == 1
    assert label.tolist() == [[[0, 1, 1, 1], [0, 1, 1, 1]]]
    assert_regions_connected(label[0], graph[2][0], graph[3][0])


def test_regions_are_connected_over_many_magnitudes(
    random_graph: Callable[..., Graph],
    assert_regions_connected: Callable[..., None],
    generator: torch.Generator,
) -> None:
    right, down, index, valid = random_graph(40, 12, 13, 10, generator)
    tiny_or_whole = (
        torch.where(torch.rand(value.shape, generator=generator) < 0.5, value * 1e-7, (value * 4).round())
        for value in (right, down)
    )
    label, distance, largest = shortest_forest(*tiny_or_whole, index, valid)
    for frame in range(40):
        assert_regions_connected(label[frame], index[frame], valid[frame])
    assert (largest <= distance).all()


def test_one_corridor(check: Check, snake: Callable[..., tuple[Tensor, Tensor, list[int]]]) -> None:
    h, w = 17, 33
    right, down, order = snake(h, w, torch.ones(h * w - 1), 5000.0)
    index, valid = torch.tensor([[order[0], order[-1]]]), torch.ones(1, 2, dtype=torch.bool)
    check((right[None], down[None], index, valid))
    label, distance, largest = shortest_forest(right[None], down[None], index, valid)
    place = torch.tensor(order).argsort().view(h, w)  # steps from the first pixel of the corridor
    assert torch.equal(distance[0], torch.minimum(place, h * w - 1 - place).float())
    assert torch.equal(label[0], (place > (h * w - 1) // 2).long())
    assert largest.max() == 1


def test_every_pixel_a_seed(check: Check, random_graph: Callable[..., Graph], generator: torch.Generator) -> None:
    right, down, _, _ = random_graph(1, 4, 5, 1, generator)
    index = torch.randperm(20, generator=generator)[None]
    graph = (right + 0.5, down + 0.5, index, torch.ones(1, 20, dtype=torch.bool))
    check(graph)
    label, distance, largest = shortest_forest(*graph)
    assert torch.equal(label.flatten()[index], torch.arange(20)[None])
    assert not distance.any()
    assert not largest.any()


def test_invalid_seeds_and_seeds_at_one_pixel(check: Check) -> None:
    check(graph_of([[1, 5, 2]], [], [-1, 3, -1, 0, 3]))
    right, down, _, _ = graph_of([[1, 5, 2]], [], [0])
    check((right, down, torch.tensor([[0, 3]]), torch.tensor([[False, True]])))


def test_frames_without_a_seed(check: Check, random_graph: Callable[..., Graph], generator: torch.Generator) -> None:
    right, down, index, valid = random_graph(3, 4, 5, 3, generator, levels=5)
    valid[1] = False
    check((right, down, index.masked_fill(~valid, -1), valid))
    label, distance, largest = shortest_forest(right, down, index[:, :0], valid[:, :0])
    assert (label == -1).all()
    assert (distance == torch.inf).all()
    assert (largest == torch.inf).all()
    assert [value.shape[0] for value in shortest_forest(right[:0], down[:0], index[:0], valid[:0])] == [
        0,
        0,
        0,
    ]


def test_infinite_weights_are_walls(
    check: Check, random_graph: Callable[..., Graph], generator: torch.Generator
) -> None:
    right, down, index, valid = random_graph(3, 6, 7, 3, generator, levels=4)
    graph = (right.masked_fill(right > 2, torch.inf), down.masked_fill(down > 1, torch.inf), index, valid)
    check(graph)
    label, distance, largest = shortest_forest(*graph)
    assert (label == -1).any()  # there is something behind walls
    assert torch.equal(label == -1, distance == torch.inf)
    assert torch.equal(label == -1, largest == torch.inf)


def test_a_nan_weight_is_a_wall_and_ends() -> None:
    label, distance, largest = shortest_forest(*graph_of([[1, float("nan"), 2]], [], [0]))
    assert label.tolist() == [[[0, 0, -1, -1]]]
    assert distance.tolist() == largest.tolist() == [[[0, 1, torch.inf, torch.inf]]]


def test_a_weight_below_zero_is_zero_and_ends() -> None:
    label, distance, largest = shortest_forest(*graph_of([[1, -3, 2]], [], [0]))
    assert label.tolist() == [[[0, 0, 0, 0]]]
    assert distance.tolist() == [[[0, 1, 1, 3]]]
    assert largest.tolist() == [[[0, 1, 1, 2]]]


@pytest.mark.parametrize("blocked", [False, True])
def test_a_batch_equals_its_frames(
    random_graph: Callable[..., Graph],
    generator: torch.Generator,
    tiny_blocks: Callable[[str], list[int]],
    blocked: bool,
) -> None:
    graph = random_graph(5, 9, 8, 6, generator)
    graph[3][2] = False
    singles = [shortest_forest(*(value[i : i + 1] for value in graph)) for i in range(5)]
    frames = tiny_blocks("shortest_forest") if blocked else []
    batch = shortest_forest(*graph)
    assert frames == ([0, 1, 2, 3, 4] if blocked else [])
    for whole, parts in zip(batch, zip(*singles, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(parts))


def test_memory_layout_does_not_matter(random_graph: Callable[..., Graph], generator: torch.Generator) -> None:
    graph = random_graph(3, 6, 8, 5, generator)
    strided = [value.transpose(0, -1).contiguous().transpose(0, -1) for value in graph]
    assert not any(value.is_contiguous() for value in strided)
    for got, wanted in zip(shortest_forest(*strided), shortest_forest(*graph), strict=True):
        assert torch.equal(got, wanted)
        assert got.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_dtypes(
    check: Check, random_graph: Callable[..., Graph], generator: torch.Generator, dtype: torch.dtype
) -> None:
    right, down, index, valid = random_graph(2, 7, 8, 5, generator, levels=200)
    graph = (right.to(dtype), down.to(dtype), index, valid)
    check(graph)
    _, distance, largest = shortest_forest(*graph)
    assert distance.dtype == largest.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_half_weights_are_added_in_float32() -> None:
    right = torch.full((1, 1, 40), 2000.0, dtype=torch.float16)  # 80000 is above all half numbers
    index = torch.tensor([[0]])
    distance = shortest_forest(right, right.new_zeros(1, 0, 41), index, index >= 0)[1]
    assert distance[0, 0, -1] == 80000


def test_repeated_runs_agree_and_inputs_stay(random_graph: Callable[..., Graph], generator: torch.Generator) -> None:
    graph = random_graph(2, 30, 40, 9, generator)
    copies = [value.clone() for value in graph]
    first, second = shortest_forest(*graph), shortest_forest(*graph)
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    assert all(torch.equal(value, copy) for value, copy in zip(graph, copies, strict=True))


def test_neighbours_differ_by_no_more_than_their_edge(
    random_graph: Callable[..., Graph], generator: torch.Generator
) -> None:
    right, down, index, valid = random_graph(2, 25, 31, 9, generator)
    distance = shortest_forest(right, down, index, valid)[1]
    assert (distance.diff(dim=2).abs() <= right + 1e-5).all()
    assert (distance.diff(dim=1).abs() <= down + 1e-5).all()


@st.composite
def small_graphs(draw: st.DrawFn) -> Graph:
    h, w, k = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    cost = st.sampled_from([0.0, -0.0, 0.5, 1.0, 1.5, 3.0, float("inf")])
    right = draw(st.lists(cost, min_size=h * (w - 1), max_size=h * (w - 1)))
    down = draw(st.lists(cost, min_size=(h - 1) * w, max_size=(h - 1) * w))
    index = torch.tensor([draw(st.lists(st.integers(-1, h * w - 1), min_size=k, max_size=k))])
    return torch.tensor(right).view(1, h, w - 1), torch.tensor(down).view(1, h - 1, w), index, index >= 0


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(graph=small_graphs())
def test_any_small_grid(check: Check, graph: Graph) -> None:
    check(graph)
