"""Op ``gpuvos::edge_candidates``, and the steps of Eq. 4-5 that it fuses as functions of their own."""

from gpuvos.kernels.edge_candidates.op import edge_candidates
from gpuvos.kernels.edge_candidates.reference import dissimilarity, is_window_minimum, reduce_edges

__all__ = ["dissimilarity", "edge_candidates", "is_window_minimum", "reduce_edges"]
