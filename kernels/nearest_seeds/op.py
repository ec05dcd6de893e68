"""Registration of ``gpuvos::nearest_seeds``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels.nearest_seeds import reference
from gpuvos.kernels.region_sum import region_sum


@torch.library.custom_op("gpuvos::nearest_seeds", mutates_args=())
def nearest_seeds(
    embedding: Tensor, seed_embedding: Tensor, foreground: Tensor, background: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``[N, D, P]``, ``[N, K, D]``, 2 x ``[N, K]`` bool -> 2 squared distances, 2 seed numbers ``[N, P]``."""
    return reference.nearest_seeds(embedding, seed_embedding, foreground, background)


@nearest_seeds.register_fake
def _fake(
    embedding: Tensor,
    seed_embedding: Tensor,  # noqa: ARG001
    foreground: Tensor,  # noqa: ARG001
    background: Tensor,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, _, p = embedding.shape
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    distance, number = (
        embedding.new_empty((n, p), dtype=dtype),
        embedding.new_empty((n, p), dtype=torch.int64),
    )
    return distance, torch.empty_like(distance), number, torch.empty_like(number)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    embedding, seed_embedding, _, _ = inputs
    ctx.save_for_backward(embedding, seed_embedding, output[2], output[3])
    ctx.mark_non_differentiable(output[2], output[3])


def _backward(ctx: Any, grad_fg: Tensor, grad_bg: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None, None]:
    embedding, seeds, nearest_fg, nearest_bg = ctx.saved_tensors
    n, k, d = seeds.shape
    grad_embedding = embedding.new_zeros(embedding.shape, dtype=grad_fg.dtype)
    grad_seeds = seeds.new_zeros((n, k, d), dtype=grad_fg.dtype)
    padded = torch.nn.functional.pad(seeds.to(grad_fg.dtype).mT, (0, 1))  # [N, D, K + 1], 0 for no seed
    for grad, nearest in ((grad_fg, nearest_fg), (grad_bg, nearest_bg)):
        slot = nearest.masked_fill(nearest < 0, k)[:, None].expand(-1, d, -1)
        difference = embedding.to(grad.dtype) - padded.gather(2, slot)  # [N, D, P]
        flow = 2 * difference * grad.masked_fill(nearest < 0, 0)[:, None]
        grad_embedding += flow
        grad_seeds -= region_sum(flow, nearest, k)[0]
    return grad_embedding.to(embedding.dtype), grad_seeds.to(seeds.dtype), None, None


nearest_seeds.register_autograd(_backward, setup_context=_save)
