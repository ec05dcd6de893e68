"""Products as tensor cores make them: operands rounded to the type they take, sums cut off, the same results.

The interpreter multiplies in float32. Here its product is exchanged for one whose operands are rounded as the hardware
rounds them (bfloat16 or float16; of float32 two numbers of TF32, three products of which are kept), and whose sums of
16 products, or 8 of TF32, are cut off towards zero at 24 bits, which is no more than tensor cores are measured to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from triton.runtime import interpreter

from gpuvos.kernels.foreground_probability import kernel as probability_kernel
from gpuvos.kernels.foreground_probability import reference as probability
from gpuvos.kernels.nearest_seeds import kernel, reference
from gpuvos.kernels.neighbor_mean import kernel as mean_kernel
from gpuvos.kernels.neighbor_mean import reference as mean_reference

Array = np.ndarray[Any, np.dtype[Any]]


def cut_off(value: Array) -> Array:
    """float64 to float32, towards zero."""
    near = value.astype(np.float32)
    return np.where(np.abs(near.astype(np.float64)) > np.abs(value), np.nextafter(near, np.float32(0)), near)


def tf32(value: Array) -> Array:
    """float32 with 10 bits after the point, halves away from zero."""
    return ((value.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32)


def sums(one: Array, two: Array, total: Array, step: int) -> Array:
    """Products of matrices added to ``total`` a few channels at a time."""
    for first in range(0, one.shape[1], step):
        part = one[:, first : first + step].astype(np.float64) @ two[first : first + step].astype(np.float64)
        total = cut_off(total.astype(np.float64) + part)
    return total


def product(one: Array, two: Array, total: Array, dtype: torch.dtype) -> Array:
    """What tensor cores make of operands that the kernel gives them in a type."""
    if dtype == torch.float32:
        parts = [(tf32(value), tf32(value - tf32(value))) for value in (one, two)]
        (one, low_one), (two, low_two) = parts
        for a, b in ((low_one, two), (one, low_two), (one, two)):
            total = sums(a, b, total, 8)
        return total
    given = [torch.from_numpy(value.copy()).to(dtype).float().numpy() for value in (one, two)]
    assert all(np.array_equal(a, b) for a, b in zip(given, (one, two), strict=True))  # the factors are exact
    return sums(*given, total, 16)


@contextmanager
def tensor_cores(dtype: torch.dtype) -> Iterator[list[int]]:
    """Lets the interpreter multiply as tensor cores do; yields the sizes of what was multiplied."""
    sizes: list[int] = []

    def dot(_: Any, one: Any, two: Any, total: Any, *__: Any) -> Any:
        sizes.append(one.data.size)
        a, b, c = (np.ascontiguousarray(value.data, np.float32) for value in (one, two, total))
        return interpreter.TensorHandle(product(a, b, c, dtype), total.dtype.scalar)

    with patch.object(interpreter.InterpreterBuilder, "create_dot", dot):
        yield sizes


@pytest.fixture(autouse=True)
def _interpreted(kernel_device: str) -> None:
    if kernel_device != "cpu":
        pytest.skip("a device has tensor cores of its own")


def test_rounding_by_hand() -> None:
    one = np.float32(1)
    assert tf32(np.float32([1 + 2**-11, 1 + 2**-12, -1 - 2**-11])).tolist() == [1 + 2**-10, 1, -1 - 2**-10]
    assert cut_off(np.array([1 + 2**-24, 1 - 2**-26, -1 - 2**-24])).tolist() == [1, 1 - 2**-24, -1]
    a, b = np.full((1, 16), one + one / 1024), np.full((16, 1), one)
    assert product(a, b, np.zeros((1, 1), np.float32), torch.float16).item() == 16 * (1 + 2**-10)
    assert product(a, b, np.zeros((1, 1), np.float32), torch.float32).item() == 16 * (1 + 2**-10)


def drawn(dtype: torch.dtype, generator: torch.Generator) -> tuple[Tensor, ...]:
    embedding = torch.randn(2, 40, 33, generator=generator) + 3
    seeds = torch.cat((embedding[:, :, ::2].mT, torch.randn(2, 9, 40, generator=generator) + 3), 1)  # pixels, others
    foreground = torch.rand(seeds.shape[:2], generator=generator) < 0.5
    return embedding.to(dtype), seeds.to(dtype), foreground, ~foreground


TYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)


@pytest.mark.sampled
@TYPES
def test_nearest_seeds(dtype: torch.dtype, generator: torch.Generator) -> None:
    given = drawn(dtype, generator)
    with tensor_cores(dtype) as sizes:
        found = kernel.nearest_seeds(*given)
    assert sizes
    wanted = reference.nearest_seeds(given[0].double(), given[1].double(), *given[2:])
    for got, want in zip(found[2:], wanted[2:], strict=True):
        assert torch.equal(got, want)
    for got, want in zip(found[:2], wanted[:2], strict=True):
        torch.testing.assert_close(got.double(), want, rtol=2e-6, atol=0)  # 0 for pixels that are seeds


@pytest.mark.sampled
@TYPES
def test_foreground_probability(dtype: torch.dtype, generator: torch.Generator) -> None:
    given = (*drawn(dtype, generator), torch.tensor(2.5))
    with tensor_cores(dtype):
        found = probability_kernel.foreground_probability(*given)
    wanted = probability.foreground_probability(given[0].double(), given[1].double(), *given[2:])
    torch.testing.assert_close(found[0].double(), wanted[0], rtol=1e-5, atol=1e-7)
    assert torch.equal(found[1], wanted[1])
    assert torch.equal(found[2], wanted[2])


def test_neighbor_mean(generator: torch.Generator) -> None:
    rows, points, label = (torch.randn(*size, generator=generator) for size in ((1, 40, 20), (1, 70, 20), (1, 70)))
    given = (rows, points, label > -1, label, torch.tensor([5]), 9)
    run: Callable[..., Any] = mean_kernel.neighbor_mean
    with tensor_cores(torch.float32) as sizes:
        found = run(*given)
    assert sizes
    mean, radius = mean_reference.neighbor_mean(rows.double(), points.double(), *given[2:3], label.double(), *given[4:])
    torch.testing.assert_close(found[0].double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1].double(), radius, rtol=1e-4, atol=1e-5)
