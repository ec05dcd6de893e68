"""Eq. 11 from the answers of the forest, against distances that are looked at one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.initial_foreground import initial_foreground
from gpuvos.kernels.minimax_forest import minimax_forest

Case = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def brute_force(label: Tensor, distance: Tensor, between: Tensor, seed: Tensor, background: Tensor) -> Tensor:
    """Every pixel and every seed, with the distance ``max(distance, D(label, seed))``."""
    wanted = torch.zeros(label.shape, dtype=torch.bool)
    k = background.shape[1]
    for t in range(label.shape[0]):
        own = int(seed[t])
        others = [j for j in range(k) if background[t, j] and j != own]
        for p in range(label.shape[1]):
            s = int(label[t, p])
            if 0 <= s < k and 0 <= own < k:
                away = [max(float(distance[t, p]), float(between[t, s, j])) for j in range(k)]
                wanted[t, p] = away[own] < min((away[j] for j in others), default=float("inf"))
    return wanted


def draw(generator: torch.Generator, n: int, p: int, k: int, *, levels: int = 0) -> Case:
    """Labels, of which some are no seed's, and distances, whole ones up to ``levels`` unless that is 0."""
    label = torch.randint(-1, k + 1, (n, p), generator=generator)
    distance, between = torch.rand(n, p, generator=generator), torch.rand(n, k, k, generator=generator)
    if levels:
        distance, between = (distance * levels).round(), (between * levels).round()
    between.diagonal(0, 1, 2).zero_()
    seed = torch.randint(-1, k, (n,), generator=generator)
    return label, distance, between, seed, torch.rand(n, k, generator=generator) < 0.4


def test_hand_worked() -> None:
    # seeds 0, 1, 2; D(0, 1) = 4, D(0, 2) = 7, D(1, 2) = 7; foreground 0, background 1. Limits: of region 0 it is
    # 4 (0 < 4), regions 1 (4 < 0 is false) and 2 (7 < 7 is false) have none
    between = torch.tensor([[[0.0, 4, 7], [4, 0, 7], [7, 7, 0]]])
    label = torch.tensor([[0, 0, 0, 1, 2, -1]])
    distance = torch.tensor([[0.0, 3.0, 4.0, 0.0, 0.0, 0.0]])
    background = torch.tensor([[False, True, False]])
    found = initial_foreground(label, distance, between, torch.tensor([0]), background)
    assert found.tolist() == [[True, True, False, False, False, False]]
    # with background 2 in its place the limit is 7 for regions 0 and 1
    found = initial_foreground(label, distance, between, torch.tensor([0]), background.roll(1, 1))
    assert found.tolist() == [[True, True, True, True, False, False]]
    # without a background everything that has a seed is foreground, without a foreground seed nothing
    for others in (
        background & False,
        torch.tensor([[True, False, False]]),
    ):  # a seed is not its own background
        found = initial_foreground(label, distance, between, torch.tensor([0]), others)
        assert found.tolist() == [[True, True, True, True, True, False]]
    for none in (-1, 3):
        assert not initial_foreground(label, distance, between, torch.tensor([none]), background).any()


@pytest.mark.parametrize("levels", [0, 3], ids=["distinct", "ties"])
@pytest.mark.parametrize("shape", [(3, 40, 6), (1, 1, 1), (2, 30, 2), (2, 7, 0), (2, 0, 3), (0, 5, 3)], ids=str)
def test_equals_brute_force(shape: tuple[int, int, int], levels: int, generator: torch.Generator) -> None:
    case = draw(generator, *shape, levels=levels)
    found = initial_foreground(*case)
    assert found.shape == case[0].shape
    assert torch.equal(found, brute_force(*case))


def test_equals_minimax_paths(
    random_graph: Callable[..., tuple[Tensor, ...]],
    minimax_from: Callable[..., Tensor],
    generator: torch.Generator,
) -> None:
    right, down, index, valid = random_graph(2, 6, 7, 5, generator)
    valid[:, :2] = True
    background = (torch.rand(2, 5, generator=generator) < 0.7) & valid
    label, distance, between = minimax_forest(right, down, index, valid)
    seed = torch.tensor([0, 1])
    found = initial_foreground(label.flatten(1), distance.flatten(1), between, seed, background)
    assert found.any()
    for t in range(2):
        away = [minimax_from(right[t], down[t], int(p)) for p in index[t]]
        others = [away[j] for j in range(5) if background[t, j] and j != seed[t]]
        least = torch.stack(others).amin(0) if others else torch.full_like(away[0], torch.inf)
        assert torch.equal(found[t].view(6, 7), away[int(seed[t])] < least)


def test_infinite_distances_are_not_closer() -> None:
    label, seed = torch.tensor([[0, 0, 1]]), torch.tensor([0])
    distance = torch.tensor([[0.0, torch.inf, 0.0]])
    apart = torch.tensor([[[0.0, torch.inf], [torch.inf, 0.0]]])
    for background in ([False, False], [False, True]):
        found = initial_foreground(label, distance, apart, seed, torch.tensor([background]))
        assert found.tolist() == [[True, False, False]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_types_blocks_and_layouts_agree(
    dtype: torch.dtype, generator: torch.Generator, tiny_blocks: Callable[[str], list[int]]
) -> None:
    label, distance, between, seed, background = draw(generator, 3, 20, 5, levels=9)
    whole = initial_foreground(label, distance, between, seed, background)
    assert torch.equal(initial_foreground(label, distance.to(dtype), between.to(dtype), seed, background), whole)
    turned = (
        label.T.contiguous().T,
        distance.T.contiguous().T,
        between.transpose(0, 2).contiguous().transpose(0, 2),
    )
    assert torch.equal(initial_foreground(*turned, seed, background.T.contiguous().T), whole)
    frames = tiny_blocks("initial_foreground")
    assert torch.equal(initial_foreground(label, distance, between, seed, background), whole)
    assert frames == [0, 1, 2]
