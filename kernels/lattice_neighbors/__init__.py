"""Op ``gpuvos::lattice_neighbors``."""

from gpuvos.kernels.lattice_neighbors.op import lattice_neighbors

__all__ = ["lattice_neighbors"]
