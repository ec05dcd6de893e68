"""Op ``gpuvos::initial_foreground``."""

from gpuvos.kernels.initial_foreground.op import initial_foreground

__all__ = ["initial_foreground"]
