"""Registration of ``gpuvos::region_sum``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op, result_dtype
from gpuvos.kernels.region_sum import reference


def _fake(values: Tensor, label: Tensor, num_regions: int, _width: int = 0) -> tuple[Tensor, Tensor]:
    n, c, _ = values.shape
    total = values.new_empty((n, num_regions, c), dtype=result_dtype(values))
    return total, label.new_empty((n, num_regions))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    values, label, ctx.num_regions, *_ = inputs
    ctx.others = len(inputs) - 1
    ctx.dtype = values.dtype
    ctx.save_for_backward(label)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad_total: Tensor, _grad_count: Tensor) -> tuple[Tensor | None, ...]:
    (label,) = ctx.saved_tensors
    outside = (label < 0) | (label >= ctx.num_regions)
    slot = label.masked_fill(outside, ctx.num_regions)[:, None]  # [N, 1, P]
    padded = torch.nn.functional.pad(grad_total.transpose(1, 2), (0, 1))  # [N, C, K + 1], 0 for outside
    grad = padded.gather(2, slot.expand(-1, padded.shape[1], -1))
    return grad.to(ctx.dtype), *[None] * ctx.others


region_sum = define_op(
    reference.region_sum,
    kernel="gpuvos.kernels.region_sum.kernel",
    fake=_fake,
    save=_save,
    backward=_backward,
)
