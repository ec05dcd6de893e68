"""Splat, blur and slice over a permutohedral lattice in Triton, without atomics.

Splat: the corners of all pixels lie in order of their lattice points, so it is a segmented sum. A program takes BLOCK
of them, whatever points they belong to (a flat sky gives one point a thousand corners, texture one), scans them with a
flag where a point begins, and stores the sum of every point that begins there. What it holds of a point that began
before goes into ``carry``; ``_carry`` then adds the carries of every point that runs on, in order. Every sum has one
fixed order: runs are equal bit for bit.
Blur: d + 1 launches, each from one buffer into another. Moved one step along an axis, the sorted list of points is
still sorted, so both gathers of a program read memory almost in sequence. Programs past the last point return at once:
the lattice may have more room than points.
Slice: d + 1 gathers a pixel.

Bytes for a frame of 480 x 854, d = 5, one channel, with m lattice points a pixel (0.6 to 1.4 on DAVIS, 4.8 on
noise): splat 12 a corner and the pixel's value, blur 24 (d + 1) m a pixel, slice 8 a corner, 4 out: 30 + 59 m + 21 MB,
110 MB at m = 1, of which 10 MB (weights) and 30 MB (neighbours and values once) are compulsory; 26 us at 4.3 TB/s.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.static import Variant

BLOCK = 1024  # corners, or points
BLOCK_P = 512  # pixels


def lattice_filter(
    values: Tensor,
    index: Tensor,
    weight: Tensor,
    order: Tensor,
    row: Tensor,
    first: Tensor,
    neighbor: Tensor,
    reverse: bool,
) -> Tensor:
    """See ``reference.lattice_filter``."""
    n, channels, p = values.shape
    axes, capacity = neighbor.shape[1:]
    out = values.new_empty((n, channels, p), dtype=torch.float32)
    if out.numel() == 0:
        return out
    entries = order.numel()
    values, index, weight, neighbor = (t.contiguous() for t in (values, index, weight, neighbor))
    source, target = (values.new_empty((channels, capacity), dtype=torch.float32) for _ in range(2))
    blocks = triton.cdiv(entries, BLOCK)
    carry = values.new_empty((channels, blocks), dtype=torch.float32)
    _splat[(blocks, channels)](
        values, weight, order, row, source, carry, entries, channels, p, capacity, axes,
        BLOCK=BLOCK, num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    _carry[(blocks, channels)](
        row,
        source,
        carry,
        entries,
        blocks,
        capacity,
        BLOCK=BLOCK,
        STEP=128,
        num_warps=1,
        enable_fp_fusion=False,
    )
    for axis in reversed(range(axes)) if reverse else range(axes):
        _blur[(triton.cdiv(capacity, BLOCK), channels)](
            source, target, neighbor[0, axis], neighbor[1, axis], first[n:], capacity,
            BLOCK=BLOCK, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
        source, target = target, source
    _slice[(triton.cdiv(p, BLOCK_P), n, channels)](
        source, index, weight, out, p, capacity, AXES=axes, BLOCK=BLOCK_P, num_warps=4, enable_fp_fusion=False
    )
    return out


@triton.jit
def _append(a, began_a, b, began_b):
    """Sums of two neighbouring runs: b alone where a point begins in it."""
    return tl.where(began_b > 0, b, a + b), began_a | began_b


@triton.jit
def _splat(
    values_ptr,  # [N, C, P]
    weight_ptr,  # [N, D + 1, P]
    order_ptr,
    row_ptr,
    point_ptr,  # [C, M]
    carry_ptr,  # [C, blocks]
    E,
    C,
    P,
    M,
    axes,
    BLOCK: tl.constexpr,
):
    block, channel = tl.program_id(0), tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    e = block.to(tl.int64) * BLOCK + lane
    inside = e < E
    row = tl.load(row_ptr + e, mask=inside, other=-1)
    began = (row != tl.load(row_ptr + e - 1, mask=inside & (e > 0), other=-1)).to(tl.int32)
    ends = (row != tl.load(row_ptr + e + 1, mask=e + 1 < E, other=-1)) | (lane == BLOCK - 1)
    entry = tl.load(order_ptr + e, mask=inside, other=0)
    frame = entry // P // axes
    place = (frame * C + channel) * P + entry % P
    value = tl.load(values_ptr + place, mask=inside, other=0).to(tl.float32)
    share = value * tl.load(weight_ptr + entry, mask=inside, other=0).to(tl.float32)
    total, began = tl.associative_scan((share, began), 0, _append)
    ends = ends & inside
    tl.store(point_ptr + channel * M + row, total, mask=ends & (began > 0) & (row < M))
    ours = carry_ptr + channel * tl.num_programs(0) + block
    tl.store(ours + lane * 0, total, mask=ends & (began == 0))  # of at most one lane


@triton.jit
def _carry(
    row_ptr,
    point_ptr,
    carry_ptr,
    E,
    blocks,
    M,
    BLOCK: tl.constexpr,
    STEP: tl.constexpr,
):
    block, channel = tl.program_id(0), tl.program_id(1).to(tl.int64)
    start = block.to(tl.int64) * BLOCK
    if start + BLOCK < E:
        row = tl.load(row_ptr + start + BLOCK - 1)
        before = -1
        if block > 0:
            before = tl.load(row_ptr + start - 1)
        if (row < M) & (before != row):  # the last point begins in this block; now follow it
            total = tl.load(point_ptr + channel * M + row)
            carry_ptr += channel * blocks
            other = block + 1 + tl.arange(0, STEP)
            more = True
            while more:
                inside = other < blocks
                same = inside & (tl.load(row_ptr + other.to(tl.int64) * BLOCK, mask=inside, other=-1) == row)
                total += tl.sum(tl.load(carry_ptr + other, mask=same, other=0), 0)
                more = tl.sum(same.to(tl.int32), 0) == STEP
                other += STEP
            tl.store(point_ptr + channel * M + row, total)


@triton.jit
def _blur(
    source_ptr,  # [C, M]
    target_ptr,
    ahead_ptr,  # [M]
    back_ptr,
    count_ptr,
    M,
    BLOCK: tl.constexpr,
):
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    count = tl.minimum(tl.load(count_ptr), M)
    if begin < count:
        i = begin + tl.arange(0, BLOCK)
        inside = i < count
        source_ptr += tl.program_id(1).to(tl.int64) * M
        target_ptr += tl.program_id(1).to(tl.int64) * M
        ahead = tl.load(ahead_ptr + i, mask=inside, other=0)
        back = tl.load(back_ptr + i, mask=inside, other=0)
        beside = tl.load(source_ptr + ahead, mask=inside & (ahead < M), other=0)
        beside += tl.load(source_ptr + back, mask=inside & (back < M), other=0)
        own = tl.load(source_ptr + i, mask=inside, other=0)
        tl.store(target_ptr + i, own + 0.5 * beside, mask=inside)


@triton.jit
def _slice(
    point_ptr,  # [C, M]
    index_ptr,  # [N, D + 1, P]
    weight_ptr,
    out_ptr,  # [N, C, P]
    P,
    M,
    AXES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    frame, channel = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = p < P
    point_ptr += channel * M
    total = tl.zeros((BLOCK,), tl.float32)
    for i in tl.static_range(AXES):
        place = (frame * AXES + i) * P + p
        index = tl.load(index_ptr + place, mask=inside, other=0)
        weight = tl.load(weight_ptr + place, mask=inside, other=0).to(tl.float32)
        total += weight * tl.load(point_ptr + index, mask=inside & (index < M), other=0)
    tl.store(out_ptr + (frame * tl.num_programs(2) + channel) * P + p, total, mask=inside)


def _variants(kind: str) -> tuple[Variant, ...]:
    integers = dict.fromkeys(("E", "C", "P", "M", "axes"), "i32")
    pointers = {"values_ptr": f"*{kind}", "weight_ptr": "*fp32", "order_ptr": "*i32", "row_ptr": "*i32"}
    splat = pointers | {"point_ptr": "*fp32", "carry_ptr": "*fp32"} | integers | {"BLOCK": "constexpr"}
    return (Variant(_splat, splat, {"BLOCK": BLOCK}, note=kind),)


_CARRY_SIGNATURE = {
    "row_ptr": "*i32", "point_ptr": "*fp32", "carry_ptr": "*fp32", "E": "i32", "blocks": "i32", "M": "i32",
    "BLOCK": "constexpr", "STEP": "constexpr",
}  # fmt: skip
_BLUR_SIGNATURE = {
    "source_ptr": "*fp32", "target_ptr": "*fp32", "ahead_ptr": "*i32", "back_ptr": "*i32", "count_ptr": "*i64",
    "M": "i32", "BLOCK": "constexpr",
}  # fmt: skip
_SLICE_SIGNATURE = {
    "point_ptr": "*fp32", "index_ptr": "*i32", "weight_ptr": "*fp32", "out_ptr": "*fp32", "P": "i32", "M": "i32",
    "AXES": "constexpr", "BLOCK": "constexpr",
}  # fmt: skip
VARIANTS = (
    *(variant for kind in ("fp32", "fp16", "bf16") for variant in _variants(kind)),
    Variant(_carry, _CARRY_SIGNATURE, {"BLOCK": BLOCK, "STEP": 128}, num_warps=1),
    Variant(_blur, _BLUR_SIGNATURE, {"BLOCK": BLOCK}),
    Variant(_slice, _SLICE_SIGNATURE, {"AXES": 6, "BLOCK": BLOCK_P}, note="d = 5"),
    Variant(_slice, _SLICE_SIGNATURE, {"AXES": 4, "BLOCK": BLOCK_P}, note="d = 3"),
)
