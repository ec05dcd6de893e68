"""Points of the permutohedral lattice as one 64-bit integer each.

The lattice of d-dimensional features is Z^(d+1) modulo (1, ..., 1): a point is a vector m of d + 1 integers, and adding
one to all of them changes nothing. Its d digits

    f_k(m) = m_0 + ... + m_k - (k + 1) m_(k+1),    k = 0, ..., d - 1,

have no such freedom, and digit k is about sqrt(2/3 (k+1) (k+2)) times feature k. The key is the number that the
digits spell in binary, each in its own bits. It is linear in m: a step along axis i (m_i + 1) adds ``axes[i]`` to every
key, so the sorted list of points, moved one step along an axis, is still sorted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from gpuvos.errors import fail

MAX_BITS = 62
MAX_FEATURES = 10  # whose shifts, 6 bits each, fit into one word for the kernels


class Packing(NamedTuple):
    """How keys are made of lattice points, for features in ``[0, extent]``."""

    scale: list[float]  # of feature k, before it is spread over the axes
    shift: list[int]  # of digit k in a key
    axes: list[int]  # what a step along an axis adds to a key
    offset: int  # the key of m = 0 in frame 0
    frame: int  # shift of the frame's number

    @property
    def word(self) -> int:
        """All shifts in one integer, that of digit k at bit 6 k."""
        return sum(shift << (6 * k) for k, shift in enumerate(self.shift))


def key_bits(extent: Sequence[float], frames: int) -> int:
    """Bits that a key needs; above ``MAX_BITS`` there is no packing."""
    return sum(_bits(extent)) + max(frames - 1, 0).bit_length()


def packing(extent: Sequence[float], frames: int) -> Packing:
    """The packing for features of which number k lies in ``[0, extent[k]]``.

    Raises:
        InputError: there are too many features, or more than ``MAX_BITS`` bits are needed.
    """
    d = len(extent)
    if not 1 <= d <= MAX_FEATURES:
        raise fail("extent", f"{d} numbers", f"1 to {MAX_FEATURES}")
    if key_bits(extent, frames) > MAX_BITS:
        raise fail("extent", f"{list(extent)}", f"lattice keys of {MAX_BITS} bits", "use larger scales")
    bits = _bits(extent)
    shift = [sum(bits[k + 1 :]) for k in range(d)]
    axes = [sum(1 << s for s in shift[i:]) - (i << shift[i - 1] if i else 0) for i in range(d + 1)]
    offset = sum((2 * k + 3) << s for k, s in enumerate(shift))
    scale = [math.sqrt(2 / 3 / ((k + 1) * (k + 2))) for k in range(d)]
    return Packing(scale, shift, axes, offset, sum(bits))


def _bits(extent: Sequence[float]) -> list[int]:
    """Bits of each digit: corners of a simplex are up to k + 1 away, their neighbours as much again, 1 to round."""
    return [
        (math.ceil(math.sqrt(2 / 3 * (k + 1) * (k + 2)) * e) + 4 * k + 6).bit_length() for k, e in enumerate(extent)
    ]
