"""Means over the nearest points: by hand, against loops, and their gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.neighbor_mean import mean_within, neighbor_mean, reference


def brute_force(
    rows: Tensor, points: Tensor, valid: Tensor, label: Tensor, wanted: int
) -> tuple[list[float], list[float]]:
    """Of one video, with the distance as the op states it."""
    means, radii = [], []
    for row in rows.tolist():
        away = [
            sum(p * p for p in point) - 2 * sum(r * p for r, p in zip(row, point, strict=True))
            for point in points.tolist()
        ]
        there = sorted(d for d, yes in zip(away, valid.tolist(), strict=True) if yes)
        radius = there[wanted - 1] if len(there) >= wanted else torch.finfo(torch.float32).max
        near = [
            value for d, yes, value in zip(away, valid.tolist(), label.tolist(), strict=True) if yes and d <= radius
        ]
        means.append(sum(near) / max(1, len(near)))
        radii.append(radius)
    return means, radii


def draw(generator: torch.Generator, b: int, r: int, a: int, d: int) -> tuple[Tensor, ...]:
    """Small whole numbers, whose products are exact, so that there are ties and one right answer."""
    rows, points = (torch.randint(-3, 4, (b, n, d), generator=generator).float() for n in (r, a))
    valid, label = torch.rand(b, a, generator=generator) < 0.7, torch.rand(b, a, generator=generator)
    return rows, points, valid, label


def test_by_hand() -> None:
    rows, points = torch.tensor([[[1.0], [6.0]]]), torch.tensor([[[0.0], [2.0], [5.0], [7.0], [6.0]]])
    valid = torch.tensor([[True, True, True, True, False]])
    label = torch.tensor([[1.0, 0.0, 0.5, 1.0, 9.0]])
    # |p|^2 - 2 r p: row 1: 0, 0, 15, 35; row 6: 0, -20, -35, -35
    mean, radius = neighbor_mean(rows, points, valid, label, torch.tensor([1]), 2)
    assert radius.tolist() == [[0, -35]]
    assert mean.tolist() == [[0.5, 0.75]]  # points equally near count together
    mean, radius = neighbor_mean(rows, points, valid, label, torch.tensor([3]), 3)
    assert radius.tolist() == [[15, -20]]
    assert mean.tolist() == [[0.5, 0.5]]
    assert mean_within(rows, points, valid, 2 * label, radius, 3).tolist() == [[1, 1]]


@pytest.mark.parametrize("shape", [(2, 7, 30, 3), (1, 3, 1, 1), (3, 5, 53, 2)], ids=str)
def test_equals_loops(shape: tuple[int, int, int, int], generator: torch.Generator) -> None:
    rows, points, valid, label = draw(generator, *shape)
    most = min(5, shape[2])
    wanted = torch.randint(1, most + 1, shape[:1], generator=generator)
    mean, radius = neighbor_mean(rows, points, valid, label, wanted, most)
    for video in range(shape[0]):
        given = (value[video] for value in (rows, points, valid, label))
        means, radii = brute_force(*given, int(wanted[video]))
        assert torch.allclose(mean[video], torch.tensor(means), atol=1e-6)
        assert torch.equal(radius[video], torch.tensor(radii))
    assert torch.equal(mean_within(rows, points, valid, label, radius, most), mean)


def test_nothing_to_find() -> None:
    rows, label = torch.zeros(1, 2, 3), torch.zeros(1, 0)
    none = torch.zeros(1, 0, dtype=torch.bool)
    mean, radius = neighbor_mean(rows, rows[:, :0], none, label, torch.tensor([1]), 1)
    assert mean.tolist() == [[0, 0]]
    assert radius.tolist() == [[torch.finfo(torch.float32).max] * 2]
    assert mean_within(rows, rows[:, :0], none, label, radius, 1).tolist() == [[0, 0]]


@pytest.mark.parametrize("levels", [0, 3, 200])
def test_smallest_values_equal_sorting(levels: int, generator: torch.Generator) -> None:
    values = torch.rand(2, 5, 120, generator=generator)
    values = (values * levels).floor() if levels else values  # full of ties
    values[0, 1, 7:] = torch.inf
    for count, folds in ((1, 1), (3, 6), (5, 4), (12, 10), (30, 2), (120, 1)):
        wanted = values.sort(-1).values[..., :count]
        assert torch.equal(reference.smallest(values, count, folds), wanted)


@pytest.mark.slow
def test_gradient_of_the_label(generator: torch.Generator) -> None:
    rows, points, valid, label = (v.double() if v.is_floating_point() else v for v in draw(generator, 2, 6, 20, 2))
    wanted = torch.tensor([2, 3])
    label.requires_grad_()

    def mean(label: Tensor) -> Tensor:
        return neighbor_mean(rows, points, valid, label, wanted, 4)[0]

    assert torch.autograd.gradcheck(mean, label)
    assert torch.autograd.gradgradcheck(mean, label)
    radius = neighbor_mean(rows, points, valid, label, wanted, 4)[1].detach()
    assert torch.autograd.gradcheck(lambda label: mean_within(rows, points, valid, label, radius, 4), label)


def test_blocks_take_the_same_memory_again(tiny_blocks: Callable[[str], list[int]], generator: torch.Generator) -> None:
    rows, points, valid, label = draw(generator, 1, 6, 20, 2)
    rows_at_a_time = tiny_blocks("neighbor_mean")
    places = {distance.data_ptr() for _, distance in reference._distances(rows, points, valid, 4)}
    assert len(places) == 1
    assert rows_at_a_time == list(range(6))
    kept = [distance for _, distance in reference._distances(rows, points, valid, 4, label.requires_grad_())]
    assert len({distance.data_ptr() for distance in kept}) == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_gradient_changes_no_bit(
    dtype: torch.dtype, tiny_blocks: Callable[[str], list[int]], generator: torch.Generator
) -> None:
    given = [v.to(dtype) if v.is_floating_point() else v for v in draw(generator, 2, 6, 20, 2)]
    whole = reference.neighbor_mean(*given, torch.tensor([2, 3]), 4)
    tiny_blocks("neighbor_mean")
    label = given[3].clone().requires_grad_()
    mean, radius = reference.neighbor_mean(*given[:3], label, torch.tensor([2, 3]), 4)
    assert torch.equal(mean, whole[0])
    assert torch.equal(radius, whole[1])
    mean.sum().backward()
    near = reference.neighbor_mean_backward(*given[:3], radius, 4, torch.ones_like(mean))
    torch.testing.assert_close(label.grad, near)  # what is written over block by block does not reach the gradient


def test_plain_mean_has_a_tangent(tiny_blocks: Callable[[str], list[int]], generator: torch.Generator) -> None:
    rows, points, valid, label = (v.double() if v.is_floating_point() else v for v in draw(generator, 1, 6, 20, 2))
    radius = neighbor_mean(rows, points, valid, label, torch.tensor([3]), 4)[1]
    tiny_blocks("neighbor_mean")
    label.requires_grad_()

    def mean(label: Tensor) -> Tensor:
        return reference.mean_within(rows, points, valid, label, radius, 4)

    assert torch.autograd.gradcheck(mean, label, check_forward_ad=True)
    assert torch.equal(torch.func.jacrev(mean)(label.detach()), torch.func.jacfwd(mean)(label.detach()))
