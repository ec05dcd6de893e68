"""Points of the permutohedral lattice as one 64-bit integer each.

The lattice of d-dimensional features is Z^(d+1) modulo (1, ..., 1): a point is a vector m of d + 1 integers, and adding
one to all of them changes nothing. Its d digits

    f_k(m) = m_0 + ... + m_k - (k + 1) m_(k+1),    k = 0, ..., d - 1,

have no such freedom, and digit k is about sqrt(2/3 (k+1) (k+2)) times feature k. The key is the number that the
digits spell, each in its own radix. It is linear in m: a step along axis i (m_i + 1) adds ``axes[i]`` to every key, so
the sorted list of points, moved one step along an axis, is still sorted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from gpuvos.errors import fail

MAX_BITS = 62


class Packing(NamedTuple):
    """How keys are made of lattice points, for features in ``[0, extent]``."""

    scale: list[float]  # of feature k, before it is spread over the axes
    axes: list[int]  # what a step along an axis adds to a key
    offset: int  # keys of a frame begin here
    frame: int  # and the next frame's this much later


def key_bits(extent: Sequence[float], frames: int) -> float:
    """Bits that a key needs; above ``MAX_BITS`` there is no packing."""
    return sum(map(math.log2, _radices(extent))) + math.log2(max(frames, 1))


def packing(extent: Sequence[float], frames: int) -> Packing:
    """The packing for features of which number k lies in ``[0, extent[k]]``.

    Raises:
        InputError: more than ``MAX_BITS`` bits are needed.
    """
    if key_bits(extent, frames) > MAX_BITS:
        raise fail("extent", f"{list(extent)}", f"lattice keys of {MAX_BITS} bits", "use larger scales")
    radices = _radices(extent)
    strides = [math.prod(radices[k + 1 :]) for k in range(len(radices))]
    axes = [sum(strides[i:]) - (i * strides[i - 1] if i else 0) for i in range(len(radices) + 1)]
    offset = sum(stride * (2 * k + 3) for k, stride in enumerate(strides))
    scale = [math.sqrt(2 / 3 / ((k + 1) * (k + 2))) for k in range(len(radices))]
    return Packing(scale, axes, offset, math.prod(radices))


def _radices(extent: Sequence[float]) -> list[int]:
    """Values of each digit: corners of a simplex are up to k + 1 away, their neighbours as much again, 1 to round."""
    return [math.ceil(math.sqrt(2 / 3 * (k + 1) * (k + 2)) * e) + 4 * k + 7 for k, e in enumerate(extent)]
