"""What a front end is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gpuvos.types import Features, Progress


class FrontEnd(Protocol):
    """Anything that turns frames ``[T, 3, h, w]`` (uint8, or float in [0, 1]) into the Features of the clip."""

    def __call__(self, frames: Tensor, /) -> Features:
        """Returns embedding ``[T, D, H, W]``, objectness ``[T, H, W]``, flow ``[T, 2, H, W]`` on one grid."""
        ...


class ClipFeatures(Protocol):
    """How the front ends of the library are called, which are modules."""

    def __call__(self, frames: Tensor, *, validate: bool = True, progress: Progress | None = None) -> Features:
        """Features of the clip; ``validate`` and ``progress`` as of ``VideoSegmenter``."""
        ...


def accepted(function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Those of the options that a front end or a flow names among its arguments.

    A front end need take nothing but frames. One that takes ``validate`` or ``progress`` as well is told not to look at
    values that were looked at, or not to at all, and where to say how far it is.

    Args:
        function: what is about to be called.
        options: what it could be told.

    Example:
        >>> def front_end(frames, *, validate=True): ...
        >>> accepted(front_end, validate=False, progress=None)
        {'validate': False}
    """
    if torch.compiler.is_compiling():  # values are not read then, and nobody waits
        return {}
    target = function.forward if isinstance(function, nn.Module) else function
    try:
        names = inspect.signature(target).parameters
    except (TypeError, ValueError):  # a callable without a signature
        return {}
    return {name: value for name, value in options.items() if name in names}
