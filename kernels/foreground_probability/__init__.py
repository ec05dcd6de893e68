"""Op ``gpuvos::foreground_probability``."""

from gpuvos.kernels.foreground_probability.op import foreground_probability

__all__ = ["foreground_probability"]
