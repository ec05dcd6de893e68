"""Registration of ``gpuvos::initial_foreground``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.backend import run
from gpuvos.kernels.initial_foreground import reference


@torch.library.custom_op("gpuvos::initial_foreground", mutates_args=())
def initial_foreground(
    label: Tensor, distance: Tensor, seed_distance: Tensor, foreground_seed: Tensor, background: Tensor
) -> Tensor:
    """2 x ``[N, P]``, ``[N, K, K]``, ``[N]``, ``[N, K]`` bool -> ``[N, P]`` bool."""
    return reference.initial_foreground(label, distance, seed_distance, foreground_seed, background)


@initial_foreground.register_kernel("cuda")
def _cuda(
    label: Tensor, distance: Tensor, seed_distance: Tensor, foreground_seed: Tensor, background: Tensor
) -> Tensor:
    result: Tensor = run(
        "initial_foreground",
        label,
        distance,
        seed_distance,
        foreground_seed,
        background,
        dtype=distance.dtype,
    )
    return result


@initial_foreground.register_fake
def _fake(
    label: Tensor,
    distance: Tensor,  # noqa: ARG001
    seed_distance: Tensor,  # noqa: ARG001
    foreground_seed: Tensor,  # noqa: ARG001
    background: Tensor,  # noqa: ARG001
) -> Tensor:
    return label.new_empty(label.shape, dtype=torch.bool)
