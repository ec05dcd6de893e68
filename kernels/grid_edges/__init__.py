"""Op ``gpuvos::grid_edges``."""

from gpuvos.kernels.grid_edges.op import grid_edges

__all__ = ["grid_edges"]
