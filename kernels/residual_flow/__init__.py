"""Op ``gpuvos::residual_flow``."""

from gpuvos.kernels.residual_flow.op import residual_flow

__all__ = ["residual_flow"]
