"""Op ``gpuvos::farthest_points``."""

from gpuvos.kernels.farthest_points.op import farthest_points

__all__ = ["farthest_points"]
