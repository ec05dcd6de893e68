"""Means over regions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpuvos import InputError
from gpuvos import functional as F
from gpuvos.functional.regions import region_means


def brute_mean(values: np.ndarray, label: np.ndarray, count: int) -> np.ndarray:
    out = np.zeros((count, values.shape[0]))
    for k in range(count):
        inside = label == k
        if inside.any():
            out[k] = values[:, inside].mean(1)
    return out


def test_region_flow_by_hand() -> None:
    # region 0: (1, 0) and (3, 2), mean (2, 1); region 2: (5, 5); region 1 is empty; -1 and 3 count nowhere
    flow = torch.tensor([[[[1.0, 3.0, 5.0, 99.0, 99.0]], [[0.0, 2.0, 5.0, 99.0, 99.0]]]])
    mean = F.region_mean(flow, torch.tensor([[[0, 0, 2, -1, 3]]]), 3)
    assert mean.tolist() == [[[2, 1], [0, 0], [5, 5]]]


def test_against_brute_force(generator: torch.Generator) -> None:
    values = torch.randn(3, 4, 6, 7, generator=generator, dtype=torch.float64)
    label = torch.randint(-1, 12, (3, 6, 7), generator=generator)
    mean = F.region_mean(values, label, 10)
    for t in range(3):
        expected = brute_mean(values[t].numpy(), label[t].numpy(), 10)
        np.testing.assert_allclose(mean[t].numpy(), expected, rtol=1e-12, atol=1e-14)


def test_one_region_and_one_pixel() -> None:
    values = torch.rand(1, 2, 1, 1)
    mean = F.region_mean(values, torch.zeros(1, 1, 1, dtype=torch.int64), 1)
    assert torch.equal(mean.flatten(), values.flatten())


def test_leading_dimensions_and_strides(generator: torch.Generator) -> None:
    values = torch.randn(2, 3, 5, 6, 4, generator=generator).movedim(-1, -3)
    label = torch.randint(0, 5, (2, 3, 6, 5), generator=generator).transpose(-1, -2)
    whole = F.region_mean(values, label, 5)
    for b in range(2):
        for t in range(3):
            assert torch.equal(whole[b, t], F.region_mean(values[b, t].contiguous(), label[b, t], 5))


def test_half_types_add_in_float32() -> None:
    # 3,000 ones: float16 stops counting at 2,048, bfloat16 at 256
    label = torch.zeros(1, 50, 60, dtype=torch.int64)
    for dtype in (torch.float16, torch.bfloat16):
        mean = F.region_mean(torch.ones(1, 1, 50, 60, dtype=dtype), label, 2)
        assert mean.dtype == torch.float32
        assert mean.flatten().tolist() == [1, 0]


def test_gradient(generator: torch.Generator) -> None:
    values = torch.randn(1, 2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    label = torch.randint(-1, 4, (1, 3, 4), generator=generator)
    assert torch.autograd.gradcheck(lambda v: F.region_mean(v, label, 3), (values,))


def test_bad_input_names_the_argument() -> None:
    values, label = torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5, dtype=torch.int64)
    with pytest.raises(InputError, match=r"^values:"):
        F.region_mean(values.int(), label, 2)
    with pytest.raises(InputError, match=r"^label:"):
        F.region_mean(values, label.float(), 2)
    with pytest.raises(InputError, match=r"^label:"):
        F.region_mean(values, label.mT, 2)
    with pytest.raises(InputError, match=r"^label: got leading"):
        F.region_mean(values, label[:1], 2)
    with pytest.raises(InputError, match=r"^num_regions:"):
        F.region_mean(values, label, 0)


@pytest.mark.parametrize("last", [torch.float32, torch.float64], ids=str)
def test_several_tensors_have_the_means_of_each(last: torch.dtype, generator: torch.Generator) -> None:
    values = [torch.randn(2, 3, c, 6, 7, generator=generator) for c in (2, 2, 1)]
    values[2] = values[2].to(last)
    label = torch.randint(-1, 5, (2, 3, 6, 7), generator=generator)
    for mean, value in zip(region_means(values, label, 5), values, strict=True):
        assert torch.equal(mean, F.region_mean(value, label, 5))
        assert mean.dtype == value.dtype
        assert mean.is_contiguous()
    with pytest.raises(InputError, match=r"^label:"):
        region_means((values[0], values[1][..., 1:]), label, 5)
