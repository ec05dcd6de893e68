"""Eq. 6: diverse seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpuvos import InputError
from gpuvos import functional as F


def brute_seeds(e: np.ndarray, o: np.ndarray, candidates: np.ndarray, count: int) -> list[int]:
    """Greedy farthest points of ``e [D, P]``, by the definition: least of the largest similarity, lowest index."""
    left = [int(p) for p in np.flatnonzero(candidates)]
    chosen: list[int] = []
    while left and len(chosen) < count:
        if not chosen:
            pick = max(left, key=lambda p: (o[p], -p))
        else:
            nearest = {p: min(float(((e[:, p] - e[:, c]) ** 2).sum()) for c in chosen) for p in left}
            pick = max(left, key=lambda p: (nearest[p], -p))
        chosen.append(pick)
        left.remove(pick)
    return chosen + [-1] * (count - len(chosen))


def test_equation_6_by_hand() -> None:
    # values 0 1 2 9 4, objectness highest at the 1. From 1: gaps 1 0 1 8 3 -> 9. Then 1 0 1 0 3 -> 4. Then 1 and 1: the
    # lower index, 0. Pixel 2 is no candidate, so the fifth is missing.
    e = torch.tensor([[[[0.0, 1.0, 2.0, 9.0, 4.0]]]])
    o = torch.tensor([[[0.1, 0.9, 1.0, 0.3, 0.2]]])
    candidates = torch.tensor([[[True, True, False, True, True]]])
    seeds = F.select_seeds(e, o, candidates, num_seeds=5)
    assert seeds.index.tolist() == [[1, 3, 4, 0, -1]]
    assert seeds.valid.tolist() == [[True, True, True, True, False]]
    assert seeds.embedding.flatten().tolist() == [1, 9, 4, 0, 0]
    torch.testing.assert_close(seeds.objectness, torch.tensor([[0.9, 0.3, 0.2, 0.1, 0.0]]))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("num_seeds", [1, 7, 60])
def test_against_brute_force(ties: bool, num_seeds: int, generator: torch.Generator) -> None:
    for _ in range(4):
        shape = (3, 2, 6, 7)
        e = (
            torch.randint(0, 4, shape, generator=generator).double()
            if ties
            else torch.randn(shape, generator=generator, dtype=torch.float64)
        )
        o = torch.randint(0, 5, (3, 6, 7), generator=generator).double() / 4
        candidates = torch.rand(3, 6, 7, generator=generator) < 0.6
        candidates[2] = False  # a frame of a ragged batch that is not there
        seeds = F.select_seeds(e, o, candidates, num_seeds=num_seeds)
        for t in range(3):
            expected = brute_seeds(
                e[t].flatten(1).numpy(), o[t].flatten().numpy(), candidates[t].flatten().numpy(), num_seeds
            )
            assert seeds.index[t].tolist() == expected
        at = seeds.index.clamp(min=0)
        assert torch.equal(seeds.objectness, torch.where(seeds.valid, o.flatten(1).gather(1, at), 0))
        assert torch.equal(seeds.valid, seeds.index >= 0)
        assert (seeds.embedding[~seeds.valid] == 0).all()


def test_seeds_neither_depend_on_scale_nor_on_the_order_of_channels(generator: torch.Generator) -> None:
    e = torch.randint(-8, 9, (2, 6, 8, 9), generator=generator).float()  # sums of squares are exact
    o, candidates = torch.rand(2, 8, 9, generator=generator), torch.ones(2, 8, 9, dtype=torch.bool)
    index = F.select_seeds(e, o, candidates, num_seeds=20).index
    assert torch.equal(F.select_seeds(e * 32, o, candidates, num_seeds=20).index, index)
    turned = e[:, torch.randperm(6, generator=generator)]
    assert torch.equal(F.select_seeds(turned, o, candidates, num_seeds=20).index, index)


def test_objectness_zero_everywhere_starts_at_the_first_candidate() -> None:
    candidates = torch.tensor([[[False, True, True]]])
    seeds = F.select_seeds(torch.rand(1, 2, 1, 3), torch.zeros(1, 1, 3), candidates, num_seeds=1)
    assert seeds.index.tolist() == [[1]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_leading_dimensions_strides_and_types(dtype: torch.dtype, generator: torch.Generator) -> None:
    e = torch.randn(2, 3, 5, 6, 4, generator=generator).to(dtype).movedim(-1, -3)
    o = torch.rand(2, 3, 6, 5, generator=generator).to(dtype).transpose(-1, -2)
    candidates = torch.rand(2, 3, 5, 6, generator=generator) < 0.5
    seeds = F.select_seeds(e, o, candidates, num_seeds=9)
    assert seeds.embedding.dtype == seeds.objectness.dtype == dtype
    for b in range(2):
        for t in range(3):
            one = F.select_seeds(e[b, t].contiguous(), o[b, t], candidates[b, t], num_seeds=9)
            for whole, single in zip(seeds, one, strict=True):
                assert torch.equal(whole[b, t], single)


def test_gradient_reaches_the_embedding_of_the_seeds(generator: torch.Generator) -> None:
    e = torch.randn(1, 2, 3, 3, generator=generator, requires_grad=True)
    seeds = F.select_seeds(e, torch.rand(1, 3, 3), torch.ones(1, 3, 3, dtype=torch.bool), num_seeds=4)
    seeds.embedding.sum().backward()
    assert e.grad.sum() == 4 * 2  # once for each of four seeds and two channels


def test_gather_pixels_by_hand() -> None:
    values = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    assert F.gather_pixels(values, torch.tensor([3, 0, -1])).tolist() == [[4, 8], [1, 5], [1, 5]]


def test_bad_input_names_the_argument() -> None:
    e, o, c = torch.zeros(1, 2, 3, 4), torch.zeros(1, 3, 4), torch.ones(1, 3, 4, dtype=torch.bool)
    with pytest.raises(InputError, match=r"^embedding:"):
        F.select_seeds(e[0, 0], o, c)
    with pytest.raises(InputError, match=r"^objectness:"):
        F.select_seeds(e, o.mT, c)
    with pytest.raises(InputError, match=r"^objectness: got leading"):
        F.select_seeds(e, o.expand(2, 3, 4), c)
    with pytest.raises(InputError, match=r"^candidates:"):
        F.select_seeds(e, o, c.float())
    with pytest.raises(InputError, match=r"^num_seeds:"):
        F.select_seeds(e, o, c, num_seeds=0)
    with pytest.raises(InputError, match=r"^objectness: got device meta"):
        F.select_seeds(e, o.to("meta"), c)
    with pytest.raises(InputError, match=r"^index:"):
        F.gather_pixels(e, torch.zeros(1, 2))
