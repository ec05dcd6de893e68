"""Op ``gpuvos::link_tracks``."""

from gpuvos.kernels.link_tracks.op import link_tracks

__all__ = ["link_tracks"]
