"""Op ``gpuvos::shortest_forest``."""

from gpuvos.kernels.shortest_forest.op import shortest_forest

__all__ = ["shortest_forest"]
