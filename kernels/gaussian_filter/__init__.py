"""Op ``gpuvos::gaussian_filter``."""

from gpuvos.kernels.gaussian_filter.op import gaussian_filter

__all__ = ["gaussian_filter"]
