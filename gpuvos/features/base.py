"""What a front end is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from gpuvos.types import Features


class FrontEnd(Protocol):
    """Anything that turns frames ``[T, 3, h, w]`` (uint8, or float in [0, 1]) into the Features of the clip."""

    def __call__(self, frames: Tensor) -> Features:
        """Returns embedding ``[T, D, H, W]``, objectness ``[T, H, W]``, flow ``[T, 2, H, W]`` on one grid."""
        ...
