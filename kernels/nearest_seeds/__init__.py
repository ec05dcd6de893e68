"""Op ``gpuvos::nearest_seeds``."""

from gpuvos.kernels.nearest_seeds.op import nearest_seeds

__all__ = ["nearest_seeds"]
