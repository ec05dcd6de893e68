"""Registration of ``gpuvos::edge_candidates``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuvos.kernels._register import define_op
from gpuvos.kernels.edge_candidates import reference


def _fake(right: Tensor, down: Tensor, *_: Any) -> Tensor:
    return right.new_empty((*right.shape[:2], down.shape[2]), dtype=torch.bool)


edge_candidates = define_op(reference.edge_candidates, kernel="gpuvos.kernels.edge_candidates.kernel", fake=_fake)
