"""Op ``gpuvos::lattice_filter``."""

from gpuvos.kernels.lattice_filter.op import lattice_filter

__all__ = ["lattice_filter"]
