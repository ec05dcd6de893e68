"""Op ``gpuvos::region_sum``."""

from gpuvos.kernels.region_sum.op import region_sum

__all__ = ["region_sum"]
