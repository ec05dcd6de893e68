"""Geodesic regions, by minimax and by additive distance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from gpuvos import EdgeWeights, Forest, InputError
from gpuvos import functional as F

SHAPES = [(1, 1), (1, 9), (8, 1), (5, 6), (7, 4)]
FORESTS = [F.minimax_forest, F.shortest_forest]


def random_graph(
    shape: tuple[int, int], generator: torch.Generator, *, frames: int = 2, ties: bool = False
) -> EdgeWeights:
    h, w = shape
    sizes = ((frames, h, w - 1), (frames, h - 1, w))
    if ties:
        return EdgeWeights(*(torch.randint(0, 4, s, generator=generator).double() for s in sizes))
    return EdgeWeights(*(torch.rand(s, generator=generator, dtype=torch.float64) for s in sizes))


def random_seeds(
    shape: tuple[int, int], count: int, generator: torch.Generator, *, frames: int = 2
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distinct seeds; the last of every frame is invalid if there is more than one."""
    pixels = shape[0] * shape[1]
    count = min(count, pixels)
    index = torch.stack([torch.randperm(pixels, generator=generator)[:count] for _ in range(frames)])
    valid = torch.ones_like(index, dtype=torch.bool)
    if count > 1:
        valid[:, -1] = False
    return index.masked_fill(~valid, -1), valid


def connected(label: np.ndarray, number: int, seed: int) -> bool:
    """Whether the region of ``number`` hangs together and holds its seed, or is empty."""
    members = {tuple(p) for p in np.argwhere(label == number).tolist()}
    stack = [divmod(seed, label.shape[1])]
    seen = set(stack)
    while stack:
        y, x = stack.pop()
        for q in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            if q in members and q not in seen:
                seen.add(q)
                stack.append(q)
    return not members or seen == members


def test_minimax_by_hand() -> None:
    # a row with edges 1 5 2 4 and seeds at pixels 0 and 3: 0 -1- 1 -5- 2 -2- 3 -4- 4
    weights = EdgeWeights(torch.tensor([[[1.0, 5.0, 2.0, 4.0]]]), torch.zeros(1, 0, 5))
    forest = F.minimax_forest(weights, torch.tensor([[0, 3]]), torch.ones(1, 2, dtype=torch.bool))
    assert forest.label.tolist() == [[[0, 0, 1, 1, 1]]]
    assert forest.distance.tolist() == [[[0, 1, 2, 0, 4]]]
    assert forest.seed_distance.tolist() == [[[0, 5], [5, 0]]]  # the largest edge between them


def test_shortest_by_hand() -> None:
    # 3 2 2 4 between seeds at 0 and 4: pixel 1 is 3 from the left, 2 + 2 + 4 from the right; pixel 2 is 5 against 6;
    # pixel 3 is 7 against 4. The whole way is 11.
    weights = EdgeWeights(torch.tensor([[[3.0, 2.0, 2.0, 4.0]]]), torch.zeros(1, 0, 5))
    forest = F.shortest_forest(weights, torch.tensor([[0, 4]]), torch.ones(1, 2, dtype=torch.bool))
    assert forest.label.tolist() == [[[0, 0, 0, 1, 1]]]
    assert forest.distance.tolist() == [[[0, 3, 5, 4, 0]]]
    assert forest.seed_distance.tolist() == [[[0, 11], [11, 0]]]


def test_largest_edges_by_hand() -> None:
    # around a 2 x 2 grid from the upper left: over the top 1 + 1, down first 3 + 0: the lower right is reached over the
    # top, with largest edge 1
    weights = EdgeWeights(torch.tensor([[[1.0], [0.5]]]), torch.tensor([[[3.0, 1.0]]]))
    largest = F.largest_edges(weights, torch.tensor([[0, -1]]), torch.tensor([[True, False]]))
    assert largest[0, 0].tolist() == [[0, 1], [1, 1]]  # the lower left through 1, 1, 0.5 (2.5 < 3)
    assert largest[0, 1].isinf().all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("count", [1, 5])
def test_minimax_against_dijkstra(
    shape: tuple[int, int],
    ties: bool,
    count: int,
    generator: torch.Generator,
    geodesics: Callable[..., tuple],
) -> None:
    weights = random_graph(shape, generator, ties=ties)
    index, valid = random_seeds(shape, count, generator)
    forest = F.minimax_forest(weights, index, valid)
    for t in range(2):
        seeds = [k for k in range(index.shape[1]) if valid[t, k]]
        far = {
            k: geodesics(weights.right[t].numpy(), weights.down[t].numpy(), int(index[t, k]), minimax=True)[0]
            for k in seeds
        }
        label, distance, between = (value[t].numpy() for value in forest)
        np.testing.assert_array_equal(distance, np.min(list(far.values()), axis=0))
        for k in seeds:
            # the theorem: the distance of any pixel to any seed is max(d(p), D(label(p), seed))
            np.testing.assert_array_equal(np.maximum(distance, between[label, k]), far[k])
            assert (label == k).any()
            assert connected(label, k, int(index[t, k]))
        assert np.isinf(between[~valid[t].numpy()]).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ties", [False, True])
def test_shortest_against_dijkstra(
    shape: tuple[int, int], ties: bool, generator: torch.Generator, geodesics: Callable[..., tuple]
) -> None:
    weights = random_graph(shape, generator, ties=ties)
    index, valid = random_seeds(shape, 5, generator)
    forest = F.shortest_forest(weights, index, valid)
    largest = F.largest_edges(weights, index.clamp(min=0), valid)
    for t in range(2):
        seeds = [k for k in range(index.shape[1]) if valid[t, k]]
        found = [
            geodesics(weights.right[t].numpy(), weights.down[t].numpy(), int(index[t, k]), minimax=False) for k in seeds
        ]
        far = np.stack([one[0] for one in found])
        np.testing.assert_allclose(forest.distance[t].numpy(), far.min(0), rtol=1e-12)
        label = forest.label[t].numpy()
        if ties:  # small whole numbers: sums are exact, and ties go to the lowest number
            np.testing.assert_array_equal(label, np.asarray(seeds)[far.argmin(0)])
        for row, k in enumerate(seeds):
            assert connected(label, k, int(index[t, k]))  # empty if a lower number is at distance 0
            assert ties or (label == k).any()
            if not ties:  # a unique path has one largest edge
                np.testing.assert_array_equal(largest[t, k].numpy(), found[row][1])
            at = index[t, seeds].numpy()
            assert (forest.seed_distance[t, k, seeds].numpy() >= far[row].flat[at] - 1e-12).all()


@pytest.mark.parametrize("grow", FORESTS)
def test_no_seed_at_all(grow: Callable[..., tuple], generator: torch.Generator) -> None:
    weights = random_graph((3, 4), generator)
    valid = torch.tensor([[True, True], [False, False]])
    forest = grow(weights, torch.tensor([[2, 7], [-1, -1]]), valid)
    assert (forest.label[0] >= 0).all()
    assert (forest.label[1] == -1).all()
    assert forest.distance[1].isinf().all()
    assert forest.seed_distance[1].isinf().all()


@pytest.mark.parametrize("grow", FORESTS)
@pytest.mark.parametrize("ties", [False, True])
def test_leading_dimensions_and_strides(grow: Callable[..., tuple], ties: bool, generator: torch.Generator) -> None:
    flat = random_graph((5, 6), generator, frames=6, ties=ties)
    index, valid = random_seeds((5, 6), 4, generator, frames=6)
    weights = EdgeWeights(*(v.reshape(3, 2, *v.shape[1:]).transpose(0, 1) for v in flat))  # [2, 3, ...]
    index, valid = (v.reshape(3, 2, -1).transpose(0, 1) for v in (index, valid))
    forest = grow(weights, index, valid)
    largest = F.largest_edges(weights, index.clamp(min=0), valid)
    for b in range(2):
        for t in range(3):
            one_graph = EdgeWeights(*(v[b, t].contiguous() for v in weights))
            for whole, single in zip(forest, grow(one_graph, index[b, t], valid[b, t]), strict=True):
                assert torch.equal(whole[b, t], single)
            one = F.largest_edges(one_graph, index[b, t].clamp(min=0), valid[b, t])
            assert torch.equal(largest[b, t], one)


@pytest.mark.parametrize("grow", FORESTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types(grow: Callable[..., tuple], dtype: torch.dtype, generator: torch.Generator) -> None:
    weights = EdgeWeights(*(v.to(dtype) for v in random_graph((5, 6), generator)))
    index, valid = random_seeds((5, 6), 4, generator)
    forest = grow(weights, index, valid)
    single = grow(EdgeWeights(*(v.float() for v in weights)), index, valid)
    assert forest.distance.dtype == torch.float32
    for a, b in zip(forest, single, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("grow", FORESTS)
def test_bad_input_names_the_argument(grow: Callable[..., tuple]) -> None:
    weights = EdgeWeights(torch.zeros(1, 3, 3), torch.zeros(1, 2, 4))
    index, valid = torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(InputError, match=r"^weights:"):
        grow(weights.right, index, valid)
    with pytest.raises(InputError, match=r"^weights\.right:"):
        grow(EdgeWeights(weights.right.long(), weights.down), index, valid)
    with pytest.raises(InputError, match=r"^weights\.down:"):
        grow(EdgeWeights(weights.right, weights.right), index, valid)
    with pytest.raises(InputError, match=r"^index:"):
        grow(weights, index.float(), valid)
    with pytest.raises(InputError, match=r"^index: got leading"):
        grow(weights, index.expand(2, 2), valid)
    with pytest.raises(InputError, match=r"^valid:"):
        grow(weights, index, valid[:, :1])
    with pytest.raises(InputError, match=r"^valid:.*meta"):
        grow(weights, index, valid.to("meta"))


@pytest.mark.parametrize("grow", [F.minimax_forest, F.shortest_forest])
@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_weights_that_are_no_distances(grow: Callable[..., Forest], bad: float) -> None:
    weights = EdgeWeights(torch.tensor([[[1.0, bad]]]), torch.zeros(1, 0, 3))
    with pytest.raises(InputError, match=r"weights\.right"):
        grow(weights, torch.tensor([[0]]), torch.ones(1, 1, dtype=torch.bool))


@pytest.mark.parametrize("grow", [F.minimax_forest, F.shortest_forest])
def test_index_outside_of_the_grid(grow: Callable[..., Forest]) -> None:
    weights = EdgeWeights(torch.ones(1, 1, 2), torch.zeros(1, 0, 3))
    with pytest.raises(InputError, match="index"):
        grow(weights, torch.tensor([[3]]), torch.ones(1, 1, dtype=torch.bool))
    grow(weights, torch.tensor([[3]]), torch.zeros(1, 1, dtype=torch.bool))  # an invalid seed may say anything
