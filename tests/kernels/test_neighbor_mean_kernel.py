"""The Triton kernels of the means over neighbours against the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.neighbor_mean import reference

pytest.importorskip("triton")

from gpuvos.kernels.neighbor_mean import kernel


def draw(generator: torch.Generator, b: int, r: int, a: int, d: int, *, levels: int) -> tuple[Tensor, ...]:
    rows, points = (torch.randn(b, n, d, generator=generator) for n in (r, a))
    if levels:
        rows, points = (rows * levels).round(), (points * levels).round()
    return rows, points, torch.rand(b, a, generator=generator) < 0.7, torch.rand(b, a, generator=generator)


@pytest.mark.sampled
@pytest.mark.parametrize("levels", [0, 2], ids=["distinct", "ties"])
@pytest.mark.parametrize(
    "shape", [(2, 40, 30, 5), (1, 33, 300, 3), (2, 5, 9, 70), (1, 3, 1, 1), (1, 0, 4, 2), (1, 4, 0, 2)], ids=str
)
def test_equals_reference(
    shape: tuple[int, int, int, int],
    levels: int,
    generator: torch.Generator,
    kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:
    rows, points, valid, label = draw(generator, *shape, levels=levels)
    most = max(1, min(11, shape[2]))
    wanted = torch.randint(1, most + 1, shape[:1], generator=generator)
    want = reference.neighbor_mean(rows, points, valid, label, wanted, most)
    given = [value.to(kernel_device) for value in (rows, points, valid, label)]
    poisoned_buffers.clear()
    mean, radius = kernel.neighbor_mean(*given, wanted.to(kernel_device), most)
    assert poisoned_buffers
    assert torch.allclose(mean.cpu(), want[0], atol=1e-6)
    assert torch.allclose(radius.cpu(), want[1], atol=1e-5)
    if levels:  # sums of squares of whole numbers are exact
        assert torch.equal(radius.cpu(), want[1])
    again = kernel.mean_within(*given, radius, most)
    assert torch.allclose(again, mean, atol=1e-6)  # the same points, added in another order
    counted = kernel.mean_within(*given[:3], torch.ones_like(given[3]), radius, most)
    assert torch.equal(counted > 0, mean > 0)


def test_few_points_and_no_points(generator: torch.Generator, kernel_device: str) -> None:
    rows, points, valid, label = draw(generator, 2, 3, 7, 4, levels=0)
    valid[0], valid[1] = False, torch.arange(7) < 2
    given = [value.to(kernel_device) for value in (rows, points, valid, label, torch.tensor([3, 3]))]
    mean, radius = (value.cpu() for value in kernel.neighbor_mean(*given, 3))
    assert (radius == torch.finfo(torch.float32).max).all()
    assert mean[0].tolist() == [0, 0, 0]
    assert torch.allclose(mean[1], label[1, :2].mean().expand(3))


@pytest.mark.slow
def test_programs_walk_on(generator: torch.Generator, kernel_device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, points, valid, label = draw(generator, 2, 70, 20, 3, levels=2)
    wanted = torch.tensor([4, 2])
    want = reference.neighbor_mean(rows, points, valid, label, wanted, 4)
    given = [value.to(kernel_device) for value in (rows, points, valid, label, wanted)]
    for held in (64, 1 << 20):  # one and all rows at a time
        monkeypatch.setattr(kernel, "_HELD", held)
        mean, radius = kernel.neighbor_mean(*given, 4)
        assert torch.allclose(mean.cpu(), want[0], atol=1e-6)
        assert torch.equal(radius.cpu(), want[1])


@pytest.mark.cuda
def test_same_bits_from_run_to_run(generator: torch.Generator, kernel_device: str) -> None:
    given = [value.to(kernel_device) for value in draw(generator, 1, 24000, 4800, 64, levels=0)]
    wanted = torch.tensor([41], device=kernel_device)
    first = kernel.neighbor_mean(*given, wanted, 41)
    for _ in range(3):
        again = kernel.neighbor_mean(*given, wanted, 41)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
