"""Op ``gpuvos::edge_candidates``."""

from gpuvos.kernels.edge_candidates.op import edge_candidates

__all__ = ["edge_candidates"]
