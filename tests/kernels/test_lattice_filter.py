"""Splat, blur, slice, against dense matrices."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.lattice_filter import lattice_filter
from gpuvos.kernels.lattice_neighbors import lattice_neighbors
from gpuvos.kernels.permutohedral_lattice import permutohedral_lattice


def lattice_of(features: Tensor, extent: list[float]) -> tuple[Any, ...]:
    index, weight, key, order, row, first = permutohedral_lattice(features, extent)
    neighbor = lattice_neighbors(key, extent, len(features), int(first[-1]))
    return index, weight, order, row, first, neighbor


def draw(generator: torch.Generator, n: int = 2, d: int = 3, p: int = 40, extent: float = 3.0) -> Any:
    features = torch.rand(n, d, p, generator=generator, dtype=torch.float64) * extent
    return lattice_of(features, [extent] * d)


def dense(lattice: tuple[Any, ...], reverse: bool = False) -> Tensor:
    """The filter as one matrix over the pixels of all frames, built by loops."""
    index, weight, _, _, _, neighbor = lattice
    n, corners, p = index.shape
    points = neighbor.shape[2]
    splat = torch.zeros(points, n * p, dtype=torch.float64)
    for frame in range(n):
        for corner in range(corners):
            for pixel in range(p):
                splat[index[frame, corner, pixel], frame * p + pixel] += weight[frame, corner, pixel]
    total = splat
    for axis in reversed(range(corners)) if reverse else range(corners):
        blur = torch.eye(points, dtype=torch.float64)
        for point in range(points):
            for other in neighbor[:, axis, point].tolist():
                if other < points:
                    blur[point, other] += 0.5
        total = blur @ total
    return splat.T @ total


@pytest.mark.parametrize("reverse", [False, True])
def test_against_matrices(reverse: bool, generator: torch.Generator) -> None:
    lattice = draw(generator)
    values = torch.randn(2, 3, 40, generator=generator, dtype=torch.float64)
    wanted = torch.einsum("pq,cq->cp", dense(lattice, reverse), values.transpose(0, 1).reshape(3, 80))
    found = lattice_filter(values, *lattice, reverse)
    torch.testing.assert_close(found, wanted.view(3, 2, 40).transpose(0, 1), rtol=1e-12, atol=1e-12)


def test_frames_do_not_mix(generator: torch.Generator) -> None:
    matrix = dense(draw(generator)).view(2, 40, 2, 40)
    assert (matrix[0, :, 1] == 0).all()
    assert (matrix[1, :, 0] == 0).all()
    assert (matrix[0, :, 0] > 0).any()


def test_reverse_transposes(generator: torch.Generator) -> None:
    lattice = draw(generator)
    forward, backward = dense(lattice), dense(lattice, True)
    torch.testing.assert_close(backward, forward.T, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(forward, forward.T)  # points are missing, so the order of the axes shows


def test_approximates_the_gaussian() -> None:
    # a line of pixels close together: nothing is missing between them, and the kernel can be looked at
    position = torch.linspace(0, 8, 81, dtype=torch.float64)
    lattice = lattice_of(position[None, None], [8.0])
    impulse = torch.zeros(1, 1, 81, dtype=torch.float64)
    impulse[..., 40] = 1
    found = lattice_filter(impulse, *lattice, False)[0, 0]
    gaussian = torch.tensor([math.exp(-0.5 * (x - 4) ** 2) for x in position.tolist()], dtype=torch.float64)
    found = found * (gaussian.sum() / found.sum())
    assert (found - gaussian).abs().max() < 0.1


def test_dtypes(generator: torch.Generator) -> None:
    lattice = draw(generator)
    values = torch.randn(2, 1, 40, generator=generator, dtype=torch.float64)
    wanted = lattice_filter(values, *lattice, False)
    single = (lattice[0], lattice[1].float(), *lattice[2:])
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 5e-2)):
        found = lattice_filter(values.to(dtype), *single, False)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), wanted, rtol=tolerance, atol=tolerance * 10)


def test_points_without_room_take_and_give_nothing(generator: torch.Generator) -> None:
    index, weight, order, row, first, neighbor = draw(generator, n=1)
    room = int(first[-1]) - 5
    key_free = torch.where(neighbor < room, neighbor, room)[..., :room].contiguous()
    cut = (index.clamp(max=room), weight, order, row, first, key_free)
    splat_free = (index, weight.masked_fill(index >= room, 0), order, row, first, key_free)
    values = torch.randn(1, 2, 40, generator=generator, dtype=torch.float64)
    clipped = (splat_free[0].clamp(max=room), *splat_free[1:])
    assert torch.equal(lattice_filter(values, *cut, False), lattice_filter(values, *clipped, False))


def test_gradient_is_the_transpose(generator: torch.Generator) -> None:
    lattice = draw(generator, n=1, p=12)
    values = torch.randn(1, 2, 12, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: lattice_filter(v, *lattice, False), (values,))
    assert torch.autograd.gradgradcheck(lambda v: lattice_filter(v, *lattice, True), (values,))


def test_runs_are_equal_bit_for_bit(generator: torch.Generator) -> None:
    lattice = draw(generator, n=2, p=500)
    values = torch.randn(2, 1, 500, generator=generator)
    assert torch.equal(lattice_filter(values, *lattice, False), lattice_filter(values, *lattice, False))
