"""Op ``gpuvos::following_seeds``."""

from gpuvos.kernels.following_seeds.op import following_seeds

__all__ = ["following_seeds"]
