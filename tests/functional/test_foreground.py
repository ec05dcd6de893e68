"""Eq. 11, Eq. 12 and the seed sets of a given mask (A.1)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from gpuvos import EdgeWeights, Forest, InputError
from gpuvos import functional as F


def random_scene(
    generator: torch.Generator, *, ties: bool, frames: int = 3, h: int = 6, w: int = 7, k: int = 6
) -> tuple[EdgeWeights, torch.Tensor, torch.Tensor]:
    sizes = ((frames, h, w - 1), (frames, h - 1, w))
    draw = (
        (lambda s: torch.randint(0, 4, s, generator=generator).double())
        if ties
        else (lambda s: torch.rand(s, generator=generator, dtype=torch.float64))
    )
    index = torch.stack([torch.randperm(h * w, generator=generator)[:k] for _ in range(frames)])
    valid = torch.ones(frames, k, dtype=torch.bool)
    valid[0, -2:] = False
    return EdgeWeights(*(draw(s) for s in sizes)), index.masked_fill(~valid, -1), valid


def brute_initial(
    largest: Callable[[int], np.ndarray], seeds: list[int], foreground: int, background: list[bool]
) -> np.ndarray:
    """Strictly closer to the foreground seed than to every background seed but itself."""
    near = largest(seeds[foreground])
    others = [largest(s) for j, s in enumerate(seeds) if background[j] and j != foreground]
    return near < np.min(others, axis=0) if others else np.isfinite(near)


def test_equation_11_by_hand() -> None:
    # a row with edges 1 4 2 3 6; foreground seed at 0, background at 3 and 5. Largest edges from 0: 0 1 4 4 4 6,
    # from 3: 4 4 2 0 3 6, from 5: 6 6 6 6 6 0. Strictly closer: 0 < 4, 1 < 4, 4 > 2, 4 > 0, 4 > 3, 6 > 0
    weights = EdgeWeights(torch.tensor([[[1.0, 4.0, 2.0, 3.0, 6.0]]]), torch.zeros(1, 0, 6))
    index, valid = torch.tensor([[0, 3, 5]]), torch.ones(1, 3, dtype=torch.bool)
    background = torch.tensor([[False, True, True]])
    wanted = [[[True, True, False, False, False, False]]]
    forest = F.minimax_forest(weights, index, valid)
    assert F.initial_foreground(forest, torch.tensor([0]), background).tolist() == wanted
    assert F.initial_foreground_shortest(weights, index, torch.tensor([0]), background).tolist() == wanted
    # a tie is not closer: with edges 2 2 the pixel between two seeds is not foreground
    weights = EdgeWeights(torch.tensor([[[2.0, 2.0]]]), torch.zeros(1, 0, 3))
    forest = F.minimax_forest(weights, torch.tensor([[0, 2]]), valid[:, :2])
    found = F.initial_foreground(forest, torch.tensor([0]), background[:, :2])
    assert found.tolist() == [[[True, False, False]]]


@pytest.mark.parametrize("ties", [False, True])
def test_minimax_foreground_against_dijkstra(
    ties: bool, generator: torch.Generator, geodesics: Callable[..., tuple]
) -> None:
    for _ in range(6):
        weights, index, valid = random_scene(generator, ties=ties)
        forest = F.minimax_forest(weights, index, valid)
        background = (torch.rand(valid.shape, generator=generator) < 0.5) & valid
        seed = torch.randint(0, 4, (3,), generator=generator)
        background[2, seed[2]] = True  # the foreground seed is left out of the background
        found = F.initial_foreground(forest, seed, background)
        for t in range(3):
            graph = [v[t].numpy() for v in weights]
            expected = brute_initial(
                lambda s, graph=graph: geodesics(*graph, s, minimax=True)[0],
                index[t].tolist(),
                int(seed[t]),
                background[t].tolist(),
            )
            np.testing.assert_array_equal(found[t].numpy(), expected)


def test_shortest_foreground_against_dijkstra(generator: torch.Generator, geodesics: Callable[..., tuple]) -> None:
    for _ in range(6):
        weights, index, valid = random_scene(generator, ties=False)  # real weights: shortest paths are unique
        background = (torch.rand(valid.shape, generator=generator) < 0.5) & valid
        seed = torch.randint(0, 4, (3,), generator=generator)
        found = F.initial_foreground_shortest(weights, index, seed, background, num_background=5)
        for t in range(3):
            graph = [v[t].numpy() for v in weights]
            expected = brute_initial(
                lambda s, graph=graph: geodesics(*graph, s, minimax=False)[1],
                index[t].tolist(),
                int(seed[t]),
                background[t].tolist(),
            )
            np.testing.assert_array_equal(found[t].numpy(), expected)


def test_no_foreground_seed_gives_an_empty_mask(generator: torch.Generator) -> None:
    weights, index, valid = random_scene(generator, ties=False)
    forest, none = F.minimax_forest(weights, index, valid), torch.full((3,), -1)
    for background in (valid, ~valid):
        assert not F.initial_foreground(forest, none, background).any()
        assert not F.initial_foreground_shortest(weights, index, none, background & valid).any()
    empty = F.minimax_forest(weights, index, valid & False)
    assert not F.initial_foreground(empty, none + 1, valid & False).any()


def test_equation_12_by_hand() -> None:
    # regions of 3, 4, 2 and 1 pixels, covered by 2/3, 2/4 (not more than half), 0/2 and 1/1
    label = torch.tensor([[[0, 0, 0, 1, 1, 1, 1, 2, 2, 3]]])
    initial = torch.tensor([[[1, 1, 0, 1, 1, 0, 0, 0, 0, 1]]]).bool()
    o, m = torch.tensor([[0.1, 0.9, 0.9, 0.9]]), torch.tensor([[0.5, 0.005, 0.2, 0.0]])
    valid, start = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[False, False, True, False]])
    arguments = (initial, label, o, m, valid)
    limits = {"background_objectness": 0.3, "background_saliency": 0.01}
    foreground, background = F.seed_sets(*arguments, torch.tensor([0]), start, **limits)
    assert foreground.tolist() == [[True, False, False, True]]
    # seed 0 has O < 0.3 and seed 3 has M < 0.01, but they are foreground; seed 1 has M < 0.01; seed 2 is neither
    assert background.tolist() == [[False, True, False, False]]
    # the foreground seed is foreground whatever covers it; then nothing meets the thresholds: the initial background
    foreground, background = F.seed_sets(*arguments, torch.tensor([1]), start, **limits)
    assert foreground.tolist() == [[True, True, False, True]]
    assert background.tolist() == [[False, False, True, False]]
    # unless that is foreground as well
    _, background = F.seed_sets(*arguments, torch.tensor([1]), ~start, **limits)
    assert background.tolist() == [[False, False, False, False]]
    # other thresholds: coverage 0.4 takes seed 1 in; background_saliency 0.3 makes seed 2 background
    foreground, background = F.seed_sets(
        *arguments, torch.tensor([0]), start, coverage=0.4, **limits | {"background_saliency": 0.3}
    )
    assert foreground.tolist() == [[True, True, False, True]]
    assert background.tolist() == [[False, False, True, False]]
    _, background = F.seed_sets(
        *arguments, torch.tensor([0]), start, background_objectness=0.95, background_saliency=0.01
    )
    assert background.tolist() == [[False, True, True, False]]


def test_seed_sets_against_a_loop(generator: torch.Generator) -> None:
    frames, k = 30, 7
    initial = torch.rand(frames, 5, 6, generator=generator) < torch.rand(frames, 1, 1, generator=generator)
    label = torch.randint(-1, k, (frames, 5, 6), generator=generator)
    o, m = (torch.rand(frames, k, generator=generator) for _ in range(2))
    m = m.masked_fill(torch.rand(frames, k, generator=generator) < 0.3, 0)
    o[:10], m[:10] = 0.9, 0.9  # no seed below a threshold
    valid = torch.rand(frames, k, generator=generator) < 0.8
    start = (torch.rand(frames, k, generator=generator) < 0.4) & valid
    seed = torch.randint(-1, k, (frames,), generator=generator)
    limits = {"background_objectness": 0.3, "background_saliency": 0.01}
    found = F.seed_sets(initial, label, o, m, valid, seed, start, **limits)
    for t in range(frames):
        fg, bg = [], []
        for j in range(k):
            region = label[t] == j
            covered = region.any() and (initial[t] & region).sum() * 2 > region.sum()
            fg.append(bool(valid[t, j]) and bool(covered or seed[t] == j))
            bg.append(bool(valid[t, j]) and not fg[j] and bool(o[t, j] < 0.3 or m[t, j] < 0.01))
        if not any(bg):
            bg = [bool(start[t, j]) and not fg[j] for j in range(k)]
        assert found[0][t].tolist() == fg
        assert found[1][t].tolist() == bg
    assert not (found[0] & found[1]).any()


def test_sets_of_a_mask_by_hand() -> None:
    # four regions of two pixels with embeddings (1 3) (5 7) (9 11) (2 4); the mask covers both pixels of region 0, the
    # first of region 1 (half: not more than alpha), none of region 2, the second of region 3
    e = torch.tensor([[[[1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 2.0, 4.0]]]])
    label = torch.tensor([[[0, 0, 1, 1, 2, 2, 3, 3]]])
    mask = torch.tensor([[[1, 1, 1, 0, 0, 0, 0, 1]]]).bool()
    seeds, foreground, background = F.mask_seed_sets(e, label, mask, 5)
    assert foreground.tolist() == [[True, False, False, False, False]]
    assert background.tolist() == [[False, False, True, False, False]]  # region 4 is empty: neither
    assert seeds[0, 0, 0] == 2  # mean of 1 and 3
    assert seeds[0, 2, 0] == 10  # mean of 9 and 11
    # alpha 0.4: regions 1 and 3 join, with the mean over region and mask: 5 and 4
    seeds, foreground, _ = F.mask_seed_sets(e, label, mask, 5, coverage=0.4)
    assert foreground.tolist() == [[True, True, False, True, False]]
    assert seeds[0, [0, 1, 3], 0].tolist() == [2, 5, 4]
    # no region covered by more than alpha: the ones covered most; an empty mask: none
    mask[..., :2] = False
    _, foreground, background = F.mask_seed_sets(e, label, mask, 5)
    assert foreground.tolist() == [[False, True, False, True, False]]
    assert background.tolist() == [[True, False, True, False, False]]
    _, foreground, background = F.mask_seed_sets(e, label, mask & False, 5)
    assert foreground.sum() == 0
    assert background.tolist() == [[True, True, True, True, False]]


def test_leading_dimensions_and_strides(generator: torch.Generator) -> None:
    weights, index, valid = random_scene(generator, ties=True, frames=6)
    shape = (2, 3)
    forest = F.minimax_forest(weights, index, valid)
    background = (torch.rand(valid.shape, generator=generator) < 0.5) & valid
    seed = torch.randint(-1, 4, (6,), generator=generator)
    o, m = (torch.rand(6, 6, generator=generator) for _ in range(2))
    e = torch.randn(6, 6, 7, 5, generator=generator).movedim(-1, 1)  # [6, 5, 6, 7]
    points = torch.randn(6, 6, 4, generator=generator)

    def chain(f: Forest, w: EdgeWeights, *rest: torch.Tensor) -> list[torch.Tensor]:
        index, seed, background, valid, o, m, e = rest
        initial = F.initial_foreground(f, seed, background)
        shortest = F.initial_foreground_shortest(w, index, seed, background, num_background=4)
        sets = F.seed_sets(initial, f.label, o, m, valid, seed, background)
        return [initial, shortest, *sets, *F.mask_seed_sets(e, f.label, initial, 6)]

    rest = (index, seed, background, valid, o, m, e)
    many = chain(
        Forest(*(v.unflatten(0, shape) for v in forest)),
        EdgeWeights(*(v.unflatten(0, shape) for v in weights)),
        *(v.unflatten(0, shape) for v in rest),
    )
    for t in range(6):
        one = chain(Forest(*(v[t] for v in forest)), EdgeWeights(*(v[t] for v in weights)), *(v[t] for v in rest))
        for whole, single in zip(many, one, strict=True):
            assert torch.equal(whole.flatten(0, 1)[t], single)
    videos = (points.unflatten(0, shape), o.unflatten(0, shape), valid.unflatten(0, shape))
    smooth, vote = F.smooth_seed_labels(*videos, neighbors=5), F.vote_labels(*videos, neighbors=5)
    for b in range(2):
        one = [v[b] for v in videos]
        assert torch.equal(smooth[b], F.smooth_seed_labels(*one, neighbors=5))
        assert torch.equal(vote[b], F.vote_labels(*one, neighbors=5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types(dtype: torch.dtype, generator: torch.Generator) -> None:
    e = torch.randn(3, 8, 4, generator=generator).to(dtype)
    score, valid = torch.rand(3, 8, generator=generator).to(dtype), torch.ones(3, 8, dtype=torch.bool)
    smooth = F.smooth_seed_labels(e, score, valid, neighbors=4)
    assert smooth.dtype == dtype
    assert torch.equal(smooth, F.smooth_seed_labels(e.float(), score.float(), valid, neighbors=4).to(dtype))
    grid, label = e.mT.unflatten(-1, (2, 4)), torch.arange(8).reshape(2, 4).expand(3, 2, 4)
    mask = torch.rand(3, 2, 4, generator=generator) < 0.5
    for a, b in zip(
        F.mask_seed_sets(grid, label, mask, 8), F.mask_seed_sets(grid.float(), label, mask, 8), strict=True
    ):
        assert torch.equal(a, b)


def test_bad_input_names_the_argument(generator: torch.Generator) -> None:
    weights, index, valid = random_scene(generator, ties=False)
    forest, seed = F.minimax_forest(weights, index, valid), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(InputError, match=r"^foreground_seed:"):
        F.initial_foreground(forest, seed.float(), valid)
    with pytest.raises(InputError, match=r"^foreground_seed:"):
        F.initial_foreground(forest, seed[:1], valid)
    with pytest.raises(InputError, match=r"^background:"):
        F.initial_foreground(forest, seed, valid[:, :2])
    with pytest.raises(InputError, match=r"^weights:"):
        F.initial_foreground_shortest(forest, index, seed, valid)
    with pytest.raises(InputError, match=r"^index:"):
        F.initial_foreground_shortest(weights, index[:, :2], seed, valid)
    with pytest.raises(InputError, match=r"^foreground_seed:"):
        F.initial_foreground_shortest(weights, index, seed[:2], valid)
    o = torch.zeros(3, 6)
    good = {
        "initial_foreground": forest.label >= 0,
        "label": forest.label,
        "objectness": o,
        "saliency": o,
        "valid": valid,
        "foreground_seed": seed,
        "initial_background": valid,
    }
    for name, bad in (
        ("initial_foreground", forest.distance),
        ("label", forest.distance),
        ("objectness", o[:, :2]),
        ("saliency", valid),
        ("valid", o),
        ("foreground_seed", seed[:2]),
        ("initial_background", valid[:2]),
    ):
        with pytest.raises(InputError, match=rf"^{name}:"):
            F.seed_sets(**{**good, name: bad})
    e = torch.zeros(3, 6, 2)
    with pytest.raises(InputError, match=r"^label:"):
        F.smooth_seed_labels(e, o[:, :2], valid)
    with pytest.raises(InputError, match=r"^valid:"):
        F.smooth_seed_labels(e, o, valid[:2])
    with pytest.raises(InputError, match=r"^neighbors:"):
        F.smooth_seed_labels(e, o, valid, neighbors=0)
    with pytest.raises(InputError, match=r"^score:"):
        F.vote_labels(e, valid, valid)
    with pytest.raises(InputError, match=r"^mask:"):
        F.mask_seed_sets(torch.zeros(3, 2, 6, 7), forest.label, forest.distance, 6)
