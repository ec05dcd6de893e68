"""Registration of ``gpuvos::lattice_neighbors``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.backend import run
from gpuvos.kernels.lattice_neighbors import reference


@torch.library.custom_op("gpuvos::lattice_neighbors", mutates_args=())
def lattice_neighbors(key: Tensor, extent: list[float], frames: int, capacity: int) -> Tensor:
    """Sorted keys ``[E]`` of lattice points -> numbers ``[2, d+1, capacity]`` int32 of the points beside each."""
    return reference.lattice_neighbors(key, extent, frames, capacity)


@lattice_neighbors.register_kernel("cuda")
def _cuda(key: Tensor, extent: list[float], frames: int, capacity: int) -> Tensor:
    neighbor: Tensor = run("lattice_neighbors", key, extent, frames, capacity)
    return neighbor


@lattice_neighbors.register_fake
def _fake(key: Tensor, extent: list[float], frames: int, capacity: int) -> Tensor:  # noqa: ARG001
    return key.new_empty((2, len(extent) + 1, capacity), dtype=torch.int32)
