"""Registration of ``gpuvos::foreground_probability``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels.backend import choose, run
from gpuvos.kernels.foreground_probability import reference


@torch.library.custom_op("gpuvos::foreground_probability", mutates_args=())
def foreground_probability(
    embedding: Tensor, seed_embedding: Tensor, foreground: Tensor, background: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``[N, D, P]``, ``[N, K, D]``, 2 x ``[N, K]`` bool, ``[]`` -> ``[N, P]``, 2 seed numbers ``[N, P]`` int32."""
    return reference.foreground_probability(embedding, seed_embedding, foreground, background, temperature)


@foreground_probability.register_kernel("cuda")
def _cuda(
    embedding: Tensor, seed_embedding: Tensor, foreground: Tensor, background: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = run(
        "foreground_probability", embedding, seed_embedding, foreground, background, temperature
    )
    return result


@foreground_probability.register_fake
def _fake(
    embedding: Tensor,
    seed_embedding: Tensor,  # noqa: ARG001
    foreground: Tensor,  # noqa: ARG001
    background: Tensor,  # noqa: ARG001
    temperature: Tensor,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor]:
    n, _, p = embedding.shape
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    number = embedding.new_empty((n, p), dtype=torch.int32)
    return embedding.new_empty((n, p), dtype=dtype), number, torch.empty_like(number)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    embedding, seed_embedding, _, _, temperature = inputs
    ctx.save_for_backward(embedding, seed_embedding, output[1], output[2], temperature)
    ctx.mark_non_differentiable(output[1], output[2])


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    backward: Any = foreground_probability_backward
    if choose(saved[0].device, saved[0].dtype).implementation == "reference":
        backward = (
            reference.foreground_probability_backward
        )  # plain torch: it can be differentiated once more
    embedding, seeds, temperature = backward(*saved, grad)
    return embedding, seeds, None, None, temperature


foreground_probability.register_autograd(_backward, setup_context=_save)


@torch.library.custom_op("gpuvos::foreground_probability_backward", mutates_args=())
def foreground_probability_backward(
    embedding: Tensor,
    seed_embedding: Tensor,
    nearest_fg: Tensor,
    nearest_bg: Tensor,
    temperature: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of embedding, seeds and temperature from that of the probability ``[N, P]``."""
    return reference.foreground_probability_backward(
        embedding, seed_embedding, nearest_fg, nearest_bg, temperature, grad
    )


@foreground_probability_backward.register_kernel("cuda")
def _cuda_backward(
    embedding: Tensor,
    seed_embedding: Tensor,
    nearest_fg: Tensor,
    nearest_bg: Tensor,
    temperature: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = run(
        "foreground_probability",
        embedding,
        seed_embedding,
        nearest_fg,
        nearest_bg,
        temperature,
        grad,
        function="foreground_probability_backward",
    )
    return result


@foreground_probability_backward.register_fake
def _fake_backward(
    embedding: Tensor,
    seed_embedding: Tensor,
    nearest_fg: Tensor,  # noqa: ARG001
    nearest_bg: Tensor,  # noqa: ARG001
    temperature: Tensor,
    grad: Tensor,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor]:
    given = (embedding, seed_embedding, temperature)
    to_embedding, to_seeds, to_temperature = (value.new_empty(value.shape) for value in given)
    return to_embedding, to_seeds, to_temperature
