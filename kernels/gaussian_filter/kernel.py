"""Gaussian filter of grids in Triton: one pass down the columns, one along the rows.

A program takes BLOCK pixels in raster order; every tap is two coalesced loads at a fixed distance, of which all but the
first touch of a line come from L1 or L2, so device memory sees each pass read its input and write its output once:
16 bytes a pixel in all, 6.6 MB for a frame of 480 x 854. 8 are compulsory. The taps are computed, not read: nothing has
to be copied to the device. Each pixel sums its taps from the centre
outwards, in one thread: runs are equal bit for bit.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.static import Variant

BLOCK = 1024


def gaussian_filter(values: Tensor, sigma: float, reach: int) -> Tensor:
    """See ``reference.gaussian_filter``."""
    n, h, w = values.shape
    down = values.new_empty((n, h, w), dtype=torch.float32)
    out = torch.empty_like(down)
    if out.numel() == 0:
        return out
    grid, factor = (triton.cdiv(out.numel(), BLOCK),), -0.5 / sigma**2
    for source, target, step, length in ((values.contiguous(), down, w, h), (down, out, 1, w)):
        _convolve[grid](
            source, target, out.numel(), step, length, factor,
            REACH=reach, BLOCK=BLOCK, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return out


@triton.jit
def _convolve(
    source_ptr,
    target_ptr,
    total,
    step,  # from a pixel to the next along the axis
    length,  # of the axis
    factor,  # -1 / (2 sigma^2)
    REACH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < total
    along = (place // step % length).to(tl.int32)
    out = tl.load(source_ptr + place, mask=inside, other=0).to(tl.float32)
    for distance in range(1, REACH + 1):
        tap = tl.exp(factor * distance * distance)
        jump = tl.cast(distance, tl.int64) * step
        before = tl.load(source_ptr + place - jump, mask=inside & (along >= distance), other=0)
        after = tl.load(source_ptr + place + jump, mask=inside & (along + distance < length), other=0)
        out += tap * (before.to(tl.float32) + after.to(tl.float32))
    tl.store(target_ptr + place, out, mask=inside)


def _variant(kind: str) -> Variant:
    signature = {
        "source_ptr": f"*{kind}", "target_ptr": "*fp32", "total": "i64", "step": "i32", "length": "i32",
        "factor": "fp32", "REACH": "constexpr", "BLOCK": "constexpr",
    }  # fmt: skip
    return Variant(_convolve, signature, {"REACH": 5, "BLOCK": BLOCK}, note=f"{kind}, reach 5")


_DOWN = _variant("fp32")
_ALONG = _DOWN._replace(
    signature=_DOWN.signature | {"step": "constexpr"},
    constants=_DOWN.constants | {"step": 1},
    note="fp32, rows",
)
VARIANTS = (_DOWN, _ALONG, _variant("fp16"), _variant("bf16"))
