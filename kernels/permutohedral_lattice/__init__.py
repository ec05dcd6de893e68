"""Op ``gpuvos::permutohedral_lattice``."""

from gpuvos.kernels.permutohedral_lattice.op import permutohedral_lattice

__all__ = ["permutohedral_lattice"]
