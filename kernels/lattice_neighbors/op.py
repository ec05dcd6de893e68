"""Registration of ``gpuvos::lattice_neighbors``."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op
from gpuvos.kernels.lattice_neighbors import reference


def _fake(key: Tensor, extent: list[float], _frames: int, capacity: int) -> Tensor:
    return key.new_empty((2, len(extent) + 1, capacity), dtype=torch.int32)


lattice_neighbors = define_op(reference.lattice_neighbors, kernel="gpuvos.kernels.lattice_neighbors.kernel", fake=_fake)
