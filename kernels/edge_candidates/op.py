"""Registration of ``gpuvos::edge_candidates``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.backend import run
from gpuvos.kernels.edge_candidates import reference


@torch.library.custom_op("gpuvos::edge_candidates", mutates_args=())
def edge_candidates(right: Tensor, down: Tensor, window: int, reduce: str, temperature: float) -> Tensor:
    """Squared distances ``[N, H, W-1]`` and ``[N, H-1, W]`` -> candidates ``[N, H, W]`` bool."""
    return reference.edge_candidates(right, down, window, reduce, temperature)


@edge_candidates.register_kernel("cuda")
def _cuda(right: Tensor, down: Tensor, window: int, reduce: str, temperature: float) -> Tensor:
    candidates: Tensor = run("edge_candidates", right, down, window, reduce, temperature)
    return candidates


@edge_candidates.register_fake
def _fake(right: Tensor, down: Tensor, window: int, reduce: str, temperature: float) -> Tensor:  # noqa: ARG001
    return right.new_empty((*right.shape[:2], down.shape[2]), dtype=torch.bool)
