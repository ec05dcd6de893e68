"""Op ``gpuvos::minimax_forest``."""

from gpuvos.kernels.minimax_forest.op import minimax_forest

__all__ = ["minimax_forest"]
