"""How optical flow of a clip is asked for."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor

from gpuvos.types import Progress

Direction = Literal["forward", "backward"]


class ClipFlow(Protocol):
    """How the flow modules of the library are called."""

    def __call__(
        self,
        frames: Tensor,
        *,
        size: tuple[int, int] | None = None,
        direction: Direction = "forward",
        validate: bool = True,
        progress: Progress | None = None,
    ) -> Tensor:
        """Flow ``[T, 2, h, w]`` of frames ``[T, 3, H, W]``; see ``clip_flow``."""
        ...
