"""``define_op``: what one call of it registers."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gpuvos.kernels import _register
from gpuvos.kernels._register import define_op, result_dtype
from gpuvos.kernels.backend import Choice


def scaled_for_a_test(values: Tensor, factor: float, times: int) -> Tensor:
    return values * factor**times


def plain_for_a_test(values: Tensor) -> tuple[Tensor, Tensor]:
    return values + 1, values.long()


def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    _, ctx.factor, ctx.times = inputs


def test_one_call_registers_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("kernel_of_a_test")
    module.scaled_for_a_test = lambda values, *_: values - 1  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kernel_of_a_test", module)
    op = define_op(
        scaled_for_a_test,
        kernel="kernel_of_a_test",
        fake=lambda values, *_: torch.empty_like(values),
        save=save,
        backward=lambda ctx, grad: (grad * ctx.factor**ctx.times, None, None),
    )
    assert op is torch.ops.gpuvos.scaled_for_a_test.default
    schema = "gpuvos::scaled_for_a_test(Tensor values, float factor, SymInt times) -> Tensor"
    assert str(op._schema) == schema  # type: ignore[attr-defined]
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    result = op(values, factor=3.0, times=2)
    assert result.tolist() == [9, 18]
    (gradient,) = torch.autograd.grad(result.sum(), values)
    assert gradient.tolist() == [9, 9]
    with FakeTensorMode():
        assert op(torch.empty(5, device="cuda"), 3.0, 2).device.type == "cuda"
    as_cuda = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    assert op.redispatch(as_cuda, values, 3.0, 2).tolist() == [9, 18]  # type: ignore[attr-defined]
    monkeypatch.setattr("gpuvos.kernels.backend.choose", lambda *_: Choice("kernel", "asked for"))
    assert op.redispatch(as_cuda, values.detach(), 3.0, 2).tolist() == [0, 1]  # type: ignore[attr-defined]


def test_an_op_without_a_backward_refuses_one() -> None:
    op = define_op(plain_for_a_test, kernel="nothing", fake=lambda values: (torch.empty_like(values), values.long()))
    one, two = op(torch.zeros(2, requires_grad=True))
    assert not two.requires_grad
    with pytest.raises(RuntimeError, match="gpuvos::plain_for_a_test has no gradient: detach its arguments"):
        one.sum().backward()


def test_precision_is_that_of_the_widest_argument() -> None:
    half, single, double = (torch.zeros(1, dtype=t) for t in (torch.half, torch.float, torch.double))
    index, number = torch.zeros(1, dtype=torch.int64), torch.tensor(0.5, dtype=torch.double)
    assert _register._precision([half, half]) == torch.half
    assert _register._precision([half, single.bfloat16()]) == torch.float
    assert _register._precision([index, double, single]) == torch.double
    assert _register._precision([half, number]) == torch.half  # a single number is converted
    assert _register._precision([index]) == torch.int64
    assert result_dtype(half, index) == torch.float
    assert result_dtype(half, double) == torch.double
