"""Sums over labelled regions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from gpuvos.kernels.region_sum import region_sum


def brute_force(values: Tensor, label: Tensor, num_regions: int) -> tuple[Tensor, Tensor]:
    n, c, p = values.shape
    total = torch.zeros(n, num_regions, c, dtype=torch.float64)
    count = torch.zeros(n, num_regions, dtype=torch.int64)
    for i in range(n):
        for x in range(p):
            region = int(label[i, x])
            if 0 <= region < num_regions:
                total[i, region] += values[i, :, x].double()
                count[i, region] += 1
    return total, count


def test_hand_worked() -> None:
    values = torch.tensor([[[1.0, 2, 3, 4, 5], [10, 20, 30, 40, 50]]])
    label = torch.tensor([[2, 0, 2, -1, 3]])
    total, count = region_sum(values, label, 3)
    assert total.tolist() == [[[2, 20], [0, 0], [4, 40]]]
    assert count.tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(3, 4, 60), (1, 1, 50), (2, 5, 1), (2, 2, 0)], ids=str)
def test_equals_brute_force(shape: tuple[int, int, int], dtype: torch.dtype, generator: torch.Generator) -> None:
    n, c, p = shape
    values = torch.randn(n, c, p, generator=generator, dtype=torch.float64).to(dtype)
    label = torch.randint(-2, 9, (n, p), generator=generator)  # -2, -1, 7 and 8 are outside
    for regions in (1, 7):
        total, count = region_sum(values, label, regions)
        wanted = brute_force(values, label, regions)
        assert total.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert torch.allclose(total.double(), wanted[0], rtol=0, atol=1e-13 if dtype == torch.float64 else 1e-5)
        assert torch.equal(count, wanted[1])
        assert total.is_contiguous()
        assert count.is_contiguous()


def test_several_tensors_have_the_sums_of_each(generator: torch.Generator) -> None:
    label = torch.randint(-1, 5, (3, 60), generator=generator)
    first, second, third = (torch.randn(3, c, 60, generator=generator) for c in (2, 2, 1))
    total, count = region_sum(first, label, 4, 0, second, third)
    alone = [region_sum(values, label, 4) for values in (first, second, third)]
    assert torch.equal(total, torch.cat([sums for sums, _ in alone], -1))
    assert torch.equal(count, alone[0][1])
    assert region_sum(first, label, 4, 0, second.double())[0].dtype == torch.float64


def test_gradients_of_several_tensors(generator: torch.Generator) -> None:
    label = torch.tensor([[0, 1, -1, 1]])
    first, second, third = (torch.randn(1, c, 4, generator=generator, requires_grad=True) for c in (1, 2, 1))
    total = region_sum(first, label, 2, 0, second, third)[0]
    (total * torch.tensor([1.0, 10, 100, 1000])).sum().backward()
    counted = torch.tensor([1.0, 1, 0, 1])
    for values, weights in ((first, [1.0]), (second, [10.0, 100]), (third, [1000.0])):
        assert values.grad is not None
        assert torch.equal(values.grad[0], torch.tensor(weights)[:, None] * counted)


def test_labels_far_outside_are_left_out() -> None:
    limit = torch.iinfo(torch.int64)
    label = torch.tensor([[limit.min, -1, 0, 2, limit.max]])
    total, count = region_sum(torch.ones(1, 1, 5), label, 2)
    assert total.tolist() == [[[1], [0]]]
    assert count.tolist() == [[1, 0]]


def test_every_label_outside() -> None:
    total, count = region_sum(torch.ones(2, 3, 4), torch.full((2, 4), -1), 5)
    assert not total.any()
    assert not count.any()


def test_values_outside_do_not_spread() -> None:
    values = torch.tensor([[[1.0, torch.nan, torch.inf, 2.0]]])
    assert region_sum(values, torch.tensor([[0, -1, 1, 0]]), 1)[0].tolist() == [[[3]]]


def test_half_is_accumulated_in_float32() -> None:
    ones = torch.ones(1, 1, 5000)
    for dtype in (torch.float16, torch.bfloat16):  # sums of ones in these types stop at 2048 and 256
        total = region_sum(ones.to(dtype), torch.zeros(1, 5000, dtype=torch.int64), 1)[0]
        assert total.item() == 5000


def test_gradients(generator: torch.Generator) -> None:
    values = torch.randn(2, 3, 9, generator=generator, dtype=torch.float64, requires_grad=True)
    label = torch.randint(-1, 5, (2, 9), generator=generator)
    assert gradcheck(lambda v: region_sum(v, label, 4)[0], (values,))
    assert gradgradcheck(lambda v: region_sum(v, label, 4)[0], (values,))


def test_hand_worked_gradient() -> None:
    values = torch.zeros(1, 2, 4, requires_grad=True)
    total, count = region_sum(values, torch.tensor([[1, -1, 0, 2]]), 2)
    assert not count.requires_grad
    (total * torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[[3, 0, 1, 0], [4, 0, 2, 0]]]


def test_a_nan_gradient_stays_in_its_region() -> None:
    values = torch.zeros(1, 1, 4, requires_grad=True)
    total, _ = region_sum(values, torch.tensor([[0, -1, 1, 2]]), 2)
    (total * torch.tensor([[[torch.nan], [1.0]]])).sum().backward()
    assert values.grad is not None
    assert values.grad[0, 0, 0].isnan()
    assert values.grad[0, 0, 1:].tolist() == [0, 1, 0]


def test_gradient_of_half_values() -> None:
    values = torch.zeros(1, 1, 3, dtype=torch.float16, requires_grad=True)
    region_sum(values, torch.tensor([[0, 1, -1]]), 2)[0].sum().backward()
    assert values.grad is not None
    assert values.grad.dtype == torch.float16
    assert values.grad.tolist() == [[[1, 1, 0]]]


def test_no_regions() -> None:
    values = torch.ones(2, 3, 4, requires_grad=True)
    total, count = region_sum(values, torch.zeros(2, 4, dtype=torch.int64), 0)
    assert (total.shape, count.shape) == ((2, 0, 3), (2, 0))
    total.sum().backward()
    assert values.grad is not None
    assert not values.grad.any()


def test_repeated_runs_and_batches_agree(generator: torch.Generator) -> None:
    values = torch.randn(3, 5, 20000, generator=generator)
    label = torch.randint(-1, 30, (3, 20000), generator=generator)
    total, count = region_sum(values, label, 30)
    for _ in range(3):
        assert torch.equal(region_sum(values, label, 30)[0], total)
    for frame in range(3):
        single = region_sum(values[frame : frame + 1], label[frame : frame + 1], 30)
        assert torch.equal(single[0][0], total[frame])
        assert torch.equal(single[1][0], count[frame])


def test_memory_layout_does_not_matter(generator: torch.Generator) -> None:
    values, label = torch.randn(2, 3, 20, generator=generator), torch.randint(4, (2, 20), generator=generator)
    turned = region_sum(values.mT.contiguous().mT, label.T.contiguous().T, 4)
    for got, wanted in zip(turned, region_sum(values, label, 4), strict=True):
        assert torch.equal(got, wanted)
