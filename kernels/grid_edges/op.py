"""Registration of ``gpuvos::grid_edges``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op, result_dtype
from gpuvos.kernels.grid_edges import reference


def _fake(embedding: Tensor) -> tuple[Tensor, Tensor]:
    n, _, h, w = embedding.shape
    dtype = result_dtype(embedding)
    return embedding.new_empty((n, h, w - 1), dtype=dtype), embedding.new_empty((n, h - 1, w), dtype=dtype)


def _save(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:  # noqa: ARG001
    ctx.save_for_backward(inputs[0])


def _backward(ctx: Any, grad_right: Tensor, grad_down: Tensor) -> Tensor:
    (embedding,) = ctx.saved_tensors
    e = embedding.to(grad_right.dtype)
    across = 2 * (e[..., 1:] - e[..., :-1]) * grad_right[:, None]  # [N, D, H, W-1]
    along = 2 * (e[..., 1:, :] - e[..., :-1, :]) * grad_down[:, None]  # [N, D, H-1, W]
    pad = torch.nn.functional.pad
    grad = pad(across, (1, 0)) - pad(across, (0, 1)) + pad(along, (0, 0, 1, 0)) - pad(along, (0, 0, 0, 1))
    return grad.to(embedding.dtype)


grid_edges = define_op(
    reference.grid_edges,
    kernel="gpuvos.kernels.grid_edges.kernel",
    fake=_fake,
    save=_save,
    backward=_backward,
)
