"""The embedding graph, Eq. 4 and Eq. 5."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gpuvos import InputError
from gpuvos import functional as F
from gpuvos.functional.edges import embedding_graph

SHAPES = [(1, 1), (1, 7), (6, 1), (5, 8)]


def brute_edges(e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the right and lower edges of ``e [D, H, W]``, pixel by pixel."""
    _, h, w = e.shape
    right, down = np.zeros((h, w - 1)), np.zeros((h - 1, w))
    for y in range(h):
        for x in range(w):
            if x + 1 < w:
                right[y, x] = math.dist(e[:, y, x], e[:, y, x + 1])
            if y + 1 < h:
                down[y, x] = math.dist(e[:, y, x], e[:, y + 1, x])
    return right, down


def brute_map(e: np.ndarray, reduce: str, temperature: float, squared: bool) -> np.ndarray:
    _, h, w = e.shape
    out = np.zeros((h, w))
    for y in range(h):
        for x in range(w):
            around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            d2 = [float(((e[:, y, x] - e[:, j, i]) ** 2).sum()) for j, i in around if 0 <= j < h and 0 <= i < w]
            values = d2 if squared else [1 - 2 / (1 + math.exp(v / temperature)) for v in d2]
            if values:
                out[y, x] = max(values) if reduce == "max" else sum(values) / len(values)
    return out


def brute_candidates(edges: np.ndarray, window: int) -> np.ndarray:
    h, w = edges.shape
    r = window // 2
    out = np.zeros((h, w), dtype=bool)
    for y in range(h):
        for x in range(w):
            out[y, x] = edges[y, x] == edges[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1].min()
    return out


def test_edge_weights_by_hand() -> None:
    # (0,0) -> (3,4): sqrt(9 + 16) = 5 to the right; (0,0) -> (0,2): 2 down; (3,4) -> (3,5): 1; (0,2) -> (3,5): sqrt(18)
    e = torch.tensor([[[0.0, 3.0], [0.0, 3.0]], [[0.0, 4.0], [2.0, 5.0]]])[None]
    weights = F.edge_weights(e)
    torch.testing.assert_close(weights.right, torch.tensor([[[5.0], [18**0.5]]]))
    torch.testing.assert_close(weights.down, torch.tensor([[[2.0, 1.0]]]))


def test_equation_4_by_hand() -> None:
    # 0, 1, 3 in a row: d2 = 1 and 4; 1 - R = tanh(d2 / 2): tanh(0.5) = 0.4621172, tanh(2) = 0.9640276
    e = torch.tensor([[[[0.0, 1.0, 3.0]]]])
    torch.testing.assert_close(F.edge_map(e), torch.tensor([[[0.4621172, 0.9640276, 0.9640276]]]))
    # mean: the middle pixel has (0.4621172 + 0.9640276) / 2 = 0.7130724
    torch.testing.assert_close(F.edge_map(e, reduce="mean"), torch.tensor([[[0.4621172, 0.7130724, 0.9640276]]]))
    torch.testing.assert_close(F.edge_map(e, squared_distance=True), torch.tensor([[[1.0, 4.0, 4.0]]]))
    # the mean of the distances themselves: (1 + 4) / 2
    mean = F.edge_map(e, reduce="mean", squared_distance=True)
    torch.testing.assert_close(mean, torch.tensor([[[1.0, 2.5, 4.0]]]))


def test_equation_5_by_hand() -> None:
    # window 3: 1 is the least of (2, 1, 4), 3 of (4, 3); the flat pair 0, 0 gives two
    edges = torch.tensor([[[2.0, 1.0, 4.0, 3.0, 5.0, 0.0, 0.0]]])
    assert F.candidate_mask(edges, window=3)[0, 0].tolist() == [False, True, False, True, False, True, True]
    assert F.candidate_mask(edges, window=1).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_against_brute_force(shape: tuple[int, int], generator: torch.Generator) -> None:
    e = torch.randn(2, 3, *shape, generator=generator, dtype=torch.float64)
    weights = F.edge_weights(e)
    for t in range(2):
        right, down = brute_edges(e[t].numpy())
        np.testing.assert_allclose(weights.right[t].numpy(), right, rtol=1e-12)
        np.testing.assert_allclose(weights.down[t].numpy(), down, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.parametrize("squared", [False, True])
def test_map_against_brute_force(
    shape: tuple[int, int], reduce: str, squared: bool, generator: torch.Generator
) -> None:
    e = torch.randn(2, 3, *shape, generator=generator, dtype=torch.float64)
    found = F.edge_map(e, reduce=reduce, temperature=1.7, squared_distance=squared)
    for t in range(2):
        expected = brute_map(e[t].numpy(), reduce, 1.7, squared)
        np.testing.assert_allclose(found[t].numpy(), expected, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("shape", [*SHAPES, (13, 11)])
@pytest.mark.parametrize("window", [1, 3, 5, 9, 31])  # 31 is larger than every grid
def test_candidates_against_brute_force(shape: tuple[int, int], window: int, generator: torch.Generator) -> None:
    edges = torch.randint(0, 9, (3, *shape), generator=generator).float()  # full of ties
    found = F.candidate_mask(edges, window=window)
    for t in range(3):
        np.testing.assert_array_equal(found[t].numpy(), brute_candidates(edges[t].numpy(), window))
    assert found.flatten(1).any(1).all()  # a frame without candidates cannot be


def test_the_order_of_distances_outlives_the_saturation_of_the_map() -> None:
    e = torch.tensor([[[[0.0, 10.0, 30.0, 30.5, 60.0]]]])  # d2 = 100, 400, 0.25, 870.25
    assert len(set(F.edge_map(e)[0, 0].tolist())) == 1
    assert F.edge_map(e, squared_distance=True)[0, 0].tolist() == [100, 400, 400, 870.25, 870.25]


def test_candidates_do_not_change_with_the_scale_of_the_embedding(generator: torch.Generator) -> None:
    e = torch.randn(1, 4, 12, 12, generator=generator)
    small, large = (F.candidate_mask(F.edge_map(e * s, squared_distance=True), window=5) for s in (1, 64))
    assert torch.equal(small, large)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types(dtype: torch.dtype, generator: torch.Generator) -> None:
    e = torch.randn(2, 8, 5, 6, generator=generator).to(dtype)
    assert F.edge_weights(e).right.dtype == torch.float32
    assert torch.equal(F.edge_weights(e).down, F.edge_weights(e.float()).down)
    assert torch.equal(F.edge_map(e), F.edge_map(e.float()))
    assert F.candidate_mask(e[:, 0]).shape == (2, 5, 6)


def test_leading_dimensions_and_strides(generator: torch.Generator) -> None:
    e = torch.randn(2, 3, 6, 7, 4, generator=generator).movedim(-1, -3)  # [2, 3, 4, 6, 7], channels last
    weights, edges = F.edge_weights(e), F.edge_map(e, reduce="mean", squared_distance=True)
    candidates = F.candidate_mask(edges, window=3)
    for b in range(2):
        for t in range(3):
            one = e[b, t].contiguous()
            assert torch.equal(weights.right[b, t], F.edge_weights(one).right)
            assert torch.equal(weights.down[b, t], F.edge_weights(one).down)
            assert torch.equal(edges[b, t], F.edge_map(one, reduce="mean", squared_distance=True))
            assert torch.equal(candidates[b, t], F.candidate_mask(edges[b, t], window=3))


def test_gradients_are_right_and_finite_where_neighbours_are_equal(generator: torch.Generator) -> None:
    e = torch.randn(1, 2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: F.edge_weights(v), (e,))
    assert torch.autograd.gradcheck(lambda v: F.edge_map(v, reduce="mean"), (e,))
    flat = torch.zeros(1, 2, 3, 3, requires_grad=True)
    F.edge_weights(flat).right.sum().backward()
    assert torch.equal(flat.grad, torch.zeros_like(flat))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (13, 11)])
def test_one_pass_gives_what_the_steps_give(
    dtype: torch.dtype, shape: tuple[int, int], generator: torch.Generator
) -> None:
    e = torch.randn(2, 3, 4, *shape, generator=generator).to(dtype).requires_grad_()
    for reduce in ("max", "mean"):
        weights, candidates = embedding_graph(e, reduce=reduce, temperature=1.7, window=5)
        edges = F.edge_map(e, reduce=reduce, temperature=1.7, squared_distance=reduce == "max")
        assert torch.equal(candidates, F.candidate_mask(edges, window=5))
        for one, two in zip(weights, F.edge_weights(e), strict=True):
            assert torch.equal(one, two)
            assert two.requires_grad
            assert not one.requires_grad


def test_the_default_of_one_pass_is_that_of_the_paper(generator: torch.Generator) -> None:
    e = torch.randn(1, 3, 20, 21, generator=generator)
    assert torch.equal(embedding_graph(e)[1], F.candidate_mask(F.edge_map(e, squared_distance=True)))


def test_no_frames() -> None:
    assert embedding_graph(torch.zeros(0, 2, 3, 4))[1].shape == (0, 3, 4)
    assert F.edge_map(torch.zeros(0, 2, 3, 4)).shape == (0, 3, 4)
    assert F.candidate_mask(torch.zeros(0, 3, 4)).shape == (0, 3, 4)


def test_bad_input_names_the_argument() -> None:
    e = torch.zeros(1, 2, 3, 4)
    for bad in (None, e.long(), e[0, 0]):
        with pytest.raises(InputError, match=r"^embedding:"):
            F.edge_weights(bad)
    with pytest.raises(InputError, match=r"^embedding:"):
        embedding_graph(None)
    for function in (F.edge_map, embedding_graph):
        with pytest.raises(InputError, match=r"^reduce:"):
            function(e, reduce="sum")
        with pytest.raises(InputError, match=r"^temperature:"):
            function(e, temperature=-1.0)
    for window in (0, 4, -3):
        with pytest.raises(InputError, match=r"^window:"):
            F.candidate_mask(e[:, 0], window=window)
        with pytest.raises(InputError, match=r"^window:"):
            embedding_graph(e, window=window)
