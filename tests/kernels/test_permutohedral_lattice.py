"""The lattice around pixels: keys, weights, order."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gpuvos import InputError
from gpuvos.kernels.packing import packing
from gpuvos.kernels.permutohedral_lattice import permutohedral_lattice

NO_POINT = torch.iinfo(torch.int64).max


def elevate(feature: list[float]) -> list[float]:
    """Coordinates on the axes of Z^(d+1), as the published construction has them, divided by d + 1."""
    d = len(feature)
    scaled = [f * math.sqrt(2 / 3) / math.sqrt((k + 1) * (k + 2)) for k, f in enumerate(feature)]
    return [sum(scaled[i:]) - (i * scaled[i - 1] if i else 0) for i in range(d + 1)]


def digits(key: int, extent: list[float], frames: int) -> list[int]:
    """The digits of a key, decoded by brute force from the packing's own strides."""
    pack = packing(extent, frames)
    d = len(extent)
    strides = []
    for k in range(d):  # axes[0] is the sum of the strides, axes[i] differs as the digits' definition says
        strides.append((pack.axes[k] - pack.axes[k + 1] + (k * strides[k - 1] if k else 0)) // (k + 2))
    rest, out = key % (1 << pack.frame), []
    for k in range(d):
        out.append(rest // strides[k] - (2 * k + 3))
        rest %= strides[k]
    return out


def point_digits(m: list[int]) -> list[int]:
    return [sum(m[: k + 1]) - (k + 1) * m[k + 1] for k in range(len(m) - 1)]


def brute(feature: list[float]) -> dict[tuple[int, ...], float]:
    """Corners (as digits) and weights of the simplex around a feature: the ceiling's axes in order of their part."""
    y = elevate(feature)
    base = [math.floor(v) for v in y]
    part = [v - b for v, b in zip(y, base, strict=True)]
    axes = sorted(range(len(y)), key=lambda i: -part[i])
    corners = {}
    for count in range(len(y)):
        m = [b + (i in axes[:count]) for i, b in enumerate(base)]
        high = part[axes[count - 1]] if count else 1 + part[axes[-1]]
        corners[tuple(point_digits(m))] = high - part[axes[count]]
    return corners


@pytest.mark.parametrize("d", [1, 2, 3, 5, 6])
def test_corners_and_weights_against_brute_force(d: int, generator: torch.Generator) -> None:
    extent = [2.0 + 3 * k for k in range(d)]
    features = torch.rand(2, d, 9, generator=generator, dtype=torch.float64) * torch.tensor(extent)[:, None]
    index, weight, key, *_ = permutohedral_lattice(features, extent)
    for n in range(2):
        for p in range(9):
            wanted = brute(features[n, :, p].tolist())
            found = {
                tuple(digits(int(key[i]), extent, 2)): float(w)
                for i, w in zip(index[n, :, p].tolist(), weight[n, :, p], strict=True)
            }
            assert found.keys() == wanted.keys()
            for corner, share in wanted.items():
                assert found[corner] == pytest.approx(share, abs=1e-12)


def test_one_dimension_by_hand() -> None:
    # d = 1: y = (g, -g) with g = f sqrt(1/3); f = sqrt(3) * 1.25 has y = (1.25, -1.25), whole parts (1, -2) and parts
    # 0.25, 0.75: the corners are (1, -2) = digit 3 with weight 1 - 0.75 + 0.25 = 0.5 and (1, -1) = digit 2 with 0.5
    features = torch.tensor([[[math.sqrt(3) * 1.25]]], dtype=torch.float64)
    index, weight, key, order, row, first = permutohedral_lattice(features, [4.0])
    assert digits(int(key[0]), [4.0], 1) == [2]
    assert digits(int(key[1]), [4.0], 1) == [3]
    assert index.tolist() == [[[1], [0]]]
    assert torch.allclose(weight, torch.full((1, 2, 1), 0.5, dtype=torch.float64), atol=1e-12)
    assert order.tolist() == [1, 0]
    assert row.tolist() == [0, 1]
    assert first.tolist() == [0, 2]


def test_weights_reproduce_the_position(generator: torch.Generator) -> None:
    extent = [4.0, 6.0, 9.0]
    features = torch.rand(1, 3, 50, generator=generator, dtype=torch.float64) * torch.tensor(extent)[:, None]
    index, weight, key, *_ = permutohedral_lattice(features, extent)
    for p in range(50):
        y = elevate(features[0, :, p].tolist())
        wanted = [sum(y[: k + 1]) - (k + 1) * y[k + 1] for k in range(3)]
        mean = [0.0] * 3
        for i, w in zip(index[0, :, p].tolist(), weight[0, :, p].tolist(), strict=True):
            mean = [a + w * b for a, b in zip(mean, digits(int(key[i]), extent, 1), strict=True)]
        assert mean == pytest.approx(wanted, abs=1e-9)


def check_lists(index: Tensor, key: Tensor, order: Tensor, row: Tensor, first: Tensor) -> None:
    entries, count = index.numel(), int(first[-1])
    assert (key[1:count] > key[: count - 1]).all()
    assert (key[count:] == NO_POINT).all()
    assert torch.equal(order.sort().values, torch.arange(entries, dtype=torch.int32))
    assert torch.equal(index.view(-1)[order.long()], row)
    assert torch.equal(row.unique(), torch.arange(count))
    same = row[1:] == row[:-1]
    assert ((row[1:] > row[:-1]) | same).all()
    assert (order[1:] > order[:-1])[same].all()  # entries of one point in their own order
    for n in range(len(index)):
        assert ((index[n] >= first[n]) & (index[n] < first[n + 1])).all()


@pytest.mark.parametrize("shape", [(1, 5, 1), (3, 5, 40), (2, 2, 17), (2, 3, 0), (0, 5, 4)])
def test_lists_are_consistent(shape: tuple[int, int, int], generator: torch.Generator) -> None:
    extent = [3.0] * shape[1]
    features = torch.rand(shape, generator=generator) * 3
    index, weight, key, order, row, first = permutohedral_lattice(features, extent)
    if index.numel():
        check_lists(index, key, order, row, first)
        assert torch.allclose(weight.sum(1), torch.ones(shape[0], shape[2]), atol=1e-6)
        assert (weight >= 0).all()
    else:
        assert first.tolist() == [0] * (shape[0] + 1)


def test_equal_pixels_share_their_corners_and_frames_share_none() -> None:
    features = torch.tensor([0.3, 1.7, 2.2]).repeat(2, 4, 1).mT.contiguous()
    index, _, _, order, row, first = permutohedral_lattice(features, [3.0] * 3)
    assert first.tolist() == [0, 4, 8]
    assert (index[0] == index[0, :, :1]).all()
    assert torch.equal(index[1], index[0] + 4)
    assert order.shape == row.shape == (2 * 4 * 4,)


def test_features_outside_are_clamped_and_half_types_are_computed_in_float32() -> None:
    features = torch.tensor([[[-1.0, 0.5, 9.0]]])
    inside = features.clamp(0, 2)
    for one, two in zip(permutohedral_lattice(features, [2.0]), permutohedral_lattice(inside, [2.0]), strict=True):
        assert torch.equal(one, two)
    assert permutohedral_lattice(features.half(), [2.0])[1].dtype == torch.float32


def test_keys_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"extent.*larger scales"):
        permutohedral_lattice(torch.zeros(1, 5, 2), [1e5] * 5)
