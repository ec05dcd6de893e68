"""Sizes that a traced program leaves open."""

from __future__ import annotations

from typing import Any

import torch

LONGEST = 1 << 20  # frames that a program whose T is open takes


def is_open(*sizes: Any) -> bool:
    """Whether one of the sizes is a symbol: the traced program serves many values of it, and no loop may count it.

    Example:
        >>> is_open(3, 4)
        False
    """
    if not torch.compiler.is_compiling():
        return False
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return not all(has_static_value(size) for size in sizes)  # type: ignore[no-untyped-call, unused-ignore]
