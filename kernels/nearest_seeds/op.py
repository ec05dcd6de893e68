"""Registration of ``gpuvos::nearest_seeds``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels.backend import choose, run
from gpuvos.kernels.nearest_seeds import reference


@torch.library.custom_op("gpuvos::nearest_seeds", mutates_args=())
def nearest_seeds(
    embedding: Tensor, seed_embedding: Tensor, foreground: Tensor, background: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``[N, D, P]``, ``[N, K, D]``, 2 x ``[N, K]`` bool -> 2 squared distances, 2 seed numbers ``[N, P]``."""
    return reference.nearest_seeds(embedding, seed_embedding, foreground, background)


@nearest_seeds.register_kernel("cuda")
def _cuda(
    embedding: Tensor, seed_embedding: Tensor, foreground: Tensor, background: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor, Tensor] = run(
        "nearest_seeds", embedding, seed_embedding, foreground, background
    )
    return result


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
    saved = ctx.saved_tensors
    backward: Any = nearest_seeds_backward
    if choose(saved[0].device, saved[0].dtype).implementation == "reference":
        backward = reference.nearest_seeds_backward  # plain torch: it can be differentiated once more
    return *backward(*saved, grad_fg, grad_bg), None, None


nearest_seeds.register_autograd(_backward, setup_context=_save)


@torch.library.custom_op("gpuvos::nearest_seeds_backward", mutates_args=())
def nearest_seeds_backward(
    embedding: Tensor,
    seed_embedding: Tensor,
    nearest_fg: Tensor,
    nearest_bg: Tensor,
    grad_fg: Tensor,
    grad_bg: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients ``[N, D, P]`` and ``[N, K, D]`` from those of the distances ``[N, P]`` to the named seeds."""
    return reference.nearest_seeds_backward(
        embedding, seed_embedding, nearest_fg, nearest_bg, grad_fg, grad_bg
    )


@nearest_seeds_backward.register_kernel("cuda")
def _cuda_backward(
    embedding: Tensor,
    seed_embedding: Tensor,
    nearest_fg: Tensor,
    nearest_bg: Tensor,
    grad_fg: Tensor,
    grad_bg: Tensor,
) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = run(
        "nearest_seeds",
        embedding,
        seed_embedding,
        nearest_fg,
        nearest_bg,
        grad_fg,
        grad_bg,
        function="nearest_seeds_backward",
    )
    return result


@nearest_seeds_backward.register_fake
def _fake_backward(
    embedding: Tensor,
    seed_embedding: Tensor,
    nearest_fg: Tensor,  # noqa: ARG001
    nearest_bg: Tensor,  # noqa: ARG001
    grad_fg: Tensor,  # noqa: ARG001
    grad_bg: Tensor,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return embedding.new_empty(embedding.shape), seed_embedding.new_empty(seed_embedding.shape)
