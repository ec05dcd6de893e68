"""Registration of ``gpuvos::grid_edges``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels.backend import run
from gpuvos.kernels.grid_edges import reference


@torch.library.custom_op("gpuvos::grid_edges", mutates_args=())
def grid_edges(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances between 4-neighbours: ``[N, D, H, W]`` -> right ``[N, H, W-1]``, down ``[N, H-1, W]``."""
    return reference.grid_edges(embedding)


@grid_edges.register_kernel("cuda")
def _cuda(embedding: Tensor) -> tuple[Tensor, Tensor]:
    right, down = run("grid_edges", embedding)
    return right, down


@grid_edges.register_fake
def _fake(embedding: Tensor) -> tuple[Tensor, Tensor]:
    n, _, h, w = embedding.shape
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    right = embedding.new_empty((n, h, w - 1), dtype=dtype)
    return right, embedding.new_empty((n, h - 1, w), dtype=dtype)


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


grid_edges.register_autograd(_backward, setup_context=_save)
