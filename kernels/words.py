"""Words of 32 bits that hold one value, or two of a half type."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

WORD_TYPES: dict[torch.dtype, Any] = {
    torch.float32: tl.float32,
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
}


@triton.jit
def values_of(word, TYPE: tl.constexpr, COUNT: tl.constexpr):
    """The values of words in float32, a tensor for each of the COUNT in a word."""
    if COUNT == 1:
        values = (word.to(tl.float32),)
    elif TYPE == tl.bfloat16:
        values = ((word << 16).to(tl.float32, bitcast=True), (word & -65536).to(tl.float32, bitcast=True))
    else:
        first = word.to(tl.int16).to(TYPE, bitcast=True).to(tl.float32)
        values = (first, (word >> 16).to(tl.int16).to(TYPE, bitcast=True).to(tl.float32))
    return values
