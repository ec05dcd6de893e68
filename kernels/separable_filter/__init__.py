"""Op ``gpuvos::separable_filter``."""

from gpuvos.kernels.separable_filter.op import separable_filter

__all__ = ["separable_filter"]
