"""Registration of ``gpuvos::nearest_seeds`` and of its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op, result_dtype
from gpuvos.kernels.backend import choose
from gpuvos.kernels.nearest_seeds import reference

_KERNEL = "gpuvos.kernels.nearest_seeds.kernel"


def _fake(embedding: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, p = embedding.shape[0], embedding.shape[2]
    distance = embedding.new_empty((n, p), dtype=result_dtype(embedding))
    number = embedding.new_empty((n, p), dtype=torch.int64)
    return distance, torch.empty_like(distance), number, torch.empty_like(number)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    embedding, seed_embedding, _, _ = inputs
    ctx.save_for_backward(embedding, seed_embedding, output[2], output[3])
    ctx.mark_non_differentiable(output[2], output[3])


def _backward(ctx: Any, grad_fg: Tensor, grad_bg: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None, None]:
    saved = ctx.saved_tensors
    gradient: Any = nearest_seeds_backward
    if choose(saved[0].device, saved[0].dtype).implementation == "reference":
        gradient = reference.nearest_seeds_backward  # plain torch: it can be differentiated once more
    return *gradient(*saved, grad_fg, grad_bg), None, None


def _fake_backward(embedding: Tensor, seed_embedding: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
    return embedding.new_empty(embedding.shape), seed_embedding.new_empty(seed_embedding.shape)


nearest_seeds = define_op(reference.nearest_seeds, kernel=_KERNEL, fake=_fake, save=_save, backward=_backward)
nearest_seeds_backward = define_op(reference.nearest_seeds_backward, kernel=_KERNEL, fake=_fake_backward)
