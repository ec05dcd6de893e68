"""Registration of ``gpuvos::region_sum``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op, result_dtype
from gpuvos.kernels.region_sum import reference


def _fake(
    values: Tensor,
    label: Tensor,
    num_regions: int,
    _width: int = 0,
    second: Tensor | None = None,
    third: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    given = [part for part in (values, second, third) if part is not None]
    shape = (values.shape[0], num_regions, sum(part.shape[1] for part in given))
    return values.new_empty(shape, dtype=result_dtype(*given)), label.new_empty((values.shape[0], num_regions))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, label, ctx.num_regions, *_ = inputs
    ctx.parts = [(n, *_channels(value)) for n, value in enumerate(inputs) if isinstance(value, Tensor) and n != 1]
    ctx.arguments = len(inputs)
    ctx.save_for_backward(label)
    ctx.mark_non_differentiable(output[1])


def _channels(values: Tensor) -> tuple[int, torch.dtype]:
    return values.shape[1], values.dtype


def _backward(ctx: Any, grad_total: Tensor, _grad_count: Tensor) -> tuple[Tensor | None, ...]:
    (label,) = ctx.saved_tensors
    outside = (label < 0) | (label >= ctx.num_regions)
    slot = label.masked_fill(outside, ctx.num_regions)[:, None]  # [N, 1, P]
    padded = torch.nn.functional.pad(grad_total.transpose(1, 2), (0, 1))  # [N, C, K + 1], 0 for outside
    grads: list[Tensor | None] = [None] * ctx.arguments
    first = 0
    for place, channels, dtype in ctx.parts:
        grad = padded[:, first : first + channels].gather(2, slot.expand(-1, channels, -1))
        grads[place] = grad.to(dtype)
        first += channels
    return tuple(grads)


region_sum = define_op(
    reference.region_sum,
    kernel="gpuvos.kernels.region_sum.kernel",
    fake=_fake,
    save=_save,
    backward=_backward,
)
