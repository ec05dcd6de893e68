"""Neighbours of lattice points against a dictionary."""

from __future__ import annotations

import pytest
import torch

from gpuvos.kernels.lattice_neighbors import lattice_neighbors, reference
from gpuvos.kernels.packing import packing
from gpuvos.kernels.permutohedral_lattice import permutohedral_lattice


def draw(n: int, d: int, p: int, generator: torch.Generator, extent: float = 3.0) -> tuple[torch.Tensor, int]:
    features = torch.rand(n, d, p, generator=generator) * extent
    _, _, key, _, _, first = permutohedral_lattice(features, [extent] * d)
    return key, int(first[-1])


def brute(key: torch.Tensor, extent: list[float], frames: int, capacity: int) -> torch.Tensor:
    place = {int(k): i for i, k in enumerate(key[:capacity]) if int(k) != torch.iinfo(torch.int64).max}
    found = torch.full((2, len(extent) + 1, capacity), capacity, dtype=torch.int32)
    for i, axis in enumerate(packing(extent, frames).axes):
        for k, here in place.items():
            found[0, i, here] = place.get(k + axis, capacity)
            found[1, i, here] = place.get(k - axis, capacity)
    return found


@pytest.mark.parametrize(("n", "d", "p"), [(1, 5, 60), (3, 3, 50), (2, 2, 30), (1, 1, 20), (1, 5, 1)])
def test_against_a_dictionary(n: int, d: int, p: int, generator: torch.Generator) -> None:
    key, count = draw(n, d, p, generator)
    extent = [3.0] * d
    for capacity in (count, count + 7, len(key), max(1, count // 2)):
        if capacity <= len(key):
            found = lattice_neighbors(key, extent, n, capacity)
            assert torch.equal(found, brute(key, extent, n, capacity))
    assert (found[0] < capacity).any() or p == 1


def test_steps_forth_and_back_are_inverse(generator: torch.Generator) -> None:
    key, count = draw(2, 3, 200, generator)
    ahead, back = lattice_neighbors(key, [3.0] * 3, 2, count)
    for axis in range(4):
        there = (ahead[axis] < count).nonzero()[:, 0]
        assert len(there) > 20
        assert torch.equal(back[axis, ahead[axis, there].long()].long(), there)


def test_strangers_in_the_table_change_nothing(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    key, count = draw(2, 3, 100, generator)
    wanted = lattice_neighbors(key, [3.0] * 3, 2, count)
    monkeypatch.setattr(reference, "_ODD", 0)  # every point wants the same slot
    assert torch.equal(reference.lattice_neighbors(key, [3.0] * 3, 2, count), wanted)


def test_no_points_have_no_neighbors() -> None:
    empty = torch.empty(0, dtype=torch.int64)
    assert lattice_neighbors(empty, [3.0, 3.0], 0, 0).shape == (2, 3, 0)
