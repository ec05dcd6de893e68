"""Registration of ``gpuvos::neighbor_mean``, ``gpuvos::mean_within`` and their gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op, result_dtype
from gpuvos.kernels.neighbor_mean import reference

_KERNEL = "gpuvos.kernels.neighbor_mean.kernel"


def _fake(rows: Tensor, points: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    mean = rows.new_empty(rows.shape[:2], dtype=result_dtype(rows, points))
    return mean, torch.empty_like(mean)


def _fake_within(rows: Tensor, points: Tensor, *_: Any) -> Tensor:
    return rows.new_empty(rows.shape[:2], dtype=result_dtype(rows, points))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    rows, points, valid, label, _, ctx.most = inputs
    ctx.label = label.dtype
    ctx.save_for_backward(rows, points, valid, output[1])
    ctx.mark_non_differentiable(output[1])


def _save_within(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    rows, points, valid, label, radius, ctx.most = inputs
    ctx.label = label.dtype
    ctx.save_for_backward(rows, points, valid, radius)


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    gradient: Any = neighbor_mean_backward
    if torch.is_grad_enabled():
        gradient = reference.neighbor_mean_backward  # plain torch: it can be differentiated once more
    to_label = gradient(*ctx.saved_tensors, ctx.most, grad)
    return None, None, None, to_label.to(ctx.label), None, None


def _fake_backward(rows: Tensor, points: Tensor, *_: Any) -> Tensor:
    return rows.new_empty(points.shape[:2], dtype=result_dtype(rows, points))


neighbor_mean = define_op(reference.neighbor_mean, kernel=_KERNEL, fake=_fake, save=_save, backward=_backward)
mean_within = define_op(reference.mean_within, kernel=_KERNEL, fake=_fake_within, save=_save_within, backward=_backward)
neighbor_mean_backward = define_op(reference.neighbor_mean_backward, kernel=_KERNEL, fake=_fake_backward)
