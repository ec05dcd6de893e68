"""Ops ``gpuvos::neighbor_mean`` and ``gpuvos::mean_within``."""

from gpuvos.kernels.neighbor_mean.op import mean_within, neighbor_mean

__all__ = ["mean_within", "neighbor_mean"]
