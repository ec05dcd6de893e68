"""Registration of ``gpuvos::foreground_probability`` and of its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op, result_dtype
from gpuvos.kernels.backend import choose
from gpuvos.kernels.foreground_probability import reference

_KERNEL = "gpuvos.kernels.foreground_probability.kernel"


def _fake(embedding: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, p = embedding.shape[0], embedding.shape[2]
    number = embedding.new_empty((n, p), dtype=torch.int32)
    return embedding.new_empty((n, p), dtype=result_dtype(embedding)), number, torch.empty_like(number)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    embedding, seed_embedding, _, _, temperature = inputs
    ctx.save_for_backward(embedding, seed_embedding, output[1], output[2], temperature)
    ctx.mark_non_differentiable(output[1], output[2])


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    gradient: Any = foreground_probability_backward
    if choose(saved[0].device, saved[0].dtype).implementation == "reference":
        gradient = reference.foreground_probability_backward  # plain torch: it can be differentiated once more
    embedding, seeds, temperature = gradient(*saved, grad)
    return embedding, seeds, None, None, temperature


def _fake_backward(
    embedding: Tensor, seed_embedding: Tensor, _fg: Tensor, _bg: Tensor, temperature: Tensor, _grad: Tensor
) -> tuple[Tensor, ...]:
    return tuple(value.new_empty(value.shape) for value in (embedding, seed_embedding, temperature))


foreground_probability = define_op(
    reference.foreground_probability, kernel=_KERNEL, fake=_fake, save=_save, backward=_backward
)
foreground_probability_backward = define_op(
    reference.foreground_probability_backward, kernel=_KERNEL, fake=_fake_backward
)
