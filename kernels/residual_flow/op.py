"""Registration of ``gpuvos::residual_flow``."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gpuvos.kernels._register import define_op, result_dtype
from gpuvos.kernels.residual_flow import reference


def _fake(flow: Tensor, *_: Any) -> Tensor:
    return flow.new_empty(flow.shape, dtype=result_dtype(flow))


residual_flow = define_op(reference.residual_flow, kernel="gpuvos.kernels.residual_flow.kernel", fake=_fake)
