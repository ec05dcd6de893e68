"""Mean label of the nearest points in Triton.

Design. In ``_search`` a program takes 32 rows: tensor cores multiply them with all points, 64 at a time, and the
distances go to the program's own scratch, ``32 A`` numbers that stay in L2 or near it. Then, a few rows at a time in
registers, the bits of the radius are found by bisection: each step counts what lies below, and ends as soon as every
row has what it wants. The sum of the labels within the radius, in float64 and always in one order, takes the same
registers. A fixed number of programs walks all rows, so that the scratch does not grow with them. ``_within`` is the
mean of another label: the same products again, compared with the radius as they come. They have the same bits, for the
tiles have one shape; to write them down would cost more than to take them again.

Bytes that must move: ``4 (R D + A D + A)`` read and ``8 R`` written, 8.9 MB for 24,000 rows, 4,800 points, D = 64; the
scratch moves ``8 R A`` more, 0.92 GB, most of it in L2. Arithmetic: ``2 R A D``, 14.7 Gflop three times over ("tf32x3",
as exact as float32 to a few units), 0.1 ms at 495 Tflop/s; bisection 13 to 31 steps of two instructions a distance.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.neighbor_mean import reference
from gpuvos.kernels.static import Variant

BLOCK_R, BLOCK_A = 32, 64
_HELD = 8192  # distances that a program holds in registers, 32 a thread
_WARPS = 8
neighbor_mean_backward = reference.neighbor_mean_backward  # a training step is not bound by these launches


def neighbor_mean(
    rows: Tensor, points: Tensor, valid: Tensor, label: Tensor, wanted: Tensor, most: int
) -> tuple[Tensor, Tensor]:
    """Takes and returns what the reference does."""
    mean = rows.new_empty(rows.shape[:2], dtype=torch.float32)
    radius = torch.empty_like(mean)
    if mean.numel() == 0 or points.shape[1] == 0:
        return reference.neighbor_mean(rows, points, valid, label, wanted, most)
    given = _given(rows, points, valid, label)
    b, r, d, a = *rows.shape, points.shape[1]
    blocks = b * triton.cdiv(r, BLOCK_R)
    programs = min(blocks, _programs(rows.device))
    width = triton.cdiv(a, BLOCK_A) * BLOCK_A
    size = triton.next_power_of_2(width)
    scratch = rows.new_empty((programs, BLOCK_R, width), dtype=torch.float32)
    _search[(programs,)](
        *given, wanted, scratch, mean, radius, r, a, d, blocks, programs, width, **_cut(d), SIZE=size,
        TOGETHER=max(1, min(BLOCK_R, _HELD // size)), num_warps=_WARPS, num_stages=1, enable_fp_fusion=True,
    )  # fmt: skip
    return mean, radius


def mean_within(rows: Tensor, points: Tensor, valid: Tensor, label: Tensor, radius: Tensor, most: int) -> Tensor:
    """Takes and returns what the reference does."""
    mean = rows.new_empty(rows.shape[:2], dtype=torch.float32)
    if mean.numel() == 0 or points.shape[1] == 0:
        return reference.mean_within(rows, points, valid, label, radius, most)
    given = _given(rows, points, valid, label)
    b, r, d, a = *rows.shape, points.shape[1]
    _within[(b * triton.cdiv(r, BLOCK_R),)](
        *given, radius.contiguous(), mean, r, a, d, **_cut(d), num_warps=_WARPS, num_stages=1, enable_fp_fusion=True
    )  # fmt: skip
    return mean


def _given(rows: Tensor, points: Tensor, valid: Tensor, label: Tensor) -> tuple[Tensor, ...]:
    return (
        rows.float().contiguous(),
        points.float().contiguous(),
        valid.contiguous().view(torch.uint8),
        label.contiguous(),
    )


def _cut(d: int) -> dict[str, int]:
    block = min(32, max(16, triton.next_power_of_2(d)))  # more take more registers than there are
    return {"BLOCK_R": BLOCK_R, "BLOCK_A": BLOCK_A, "BLOCK_D": block, "PARTS": triton.cdiv(d, block)}


@cache
def _programs(device: torch.device) -> int:
    """One to a multiprocessor, whose registers it fills."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2


@triton.jit
def _distances(rows_ptr, points_ptr, valid_ptr, row, point, R, A, D, BLOCK_D: tl.constexpr, PARTS: tl.constexpr):
    """``|p|^2 - 2 r.p [BLOCK_R, BLOCK_A]`` of a video."""
    product = tl.zeros((row.shape[0], point.shape[0]), tl.float32)
    offset = tl.zeros((point.shape[0],), tl.float32)
    for part in range(PARTS):
        d = part * BLOCK_D + tl.arange(0, BLOCK_D)
        one = tl.load(rows_ptr + row[:, None] * D + d[None, :], (row < R)[:, None] & (d < D)[None, :], 0)
        two = tl.load(points_ptr + point[None, :] * D + d[:, None], (point < A)[None, :] & (d < D)[:, None], 0)
        product = tl.dot(one, two, product, input_precision="tf32x3")
        offset += tl.sum(two * two, 0)
    valid = tl.load(valid_ptr + point, point < A, 0) != 0
    return tl.where(valid, offset, float("inf"))[None, :] - 2 * product


@triton.jit
def _flip(bits):
    """Bits of floats as integers of the same order, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _radius(key, wanted):
    """The wanted smallest of the keys ``[TOGETHER, SIZE]`` of each row."""
    low = tl.min(key, 1).to(tl.int64)
    high = tl.max(key, 1).to(tl.int64)  # as many as wanted lie at or below it, or it is that of inf
    going = 1
    while going > 0:
        middle = low + ((high - low) >> 1)
        count = tl.sum((key <= middle.to(tl.int32)[:, None]).to(tl.int32), 1)
        enough = (count >= wanted) & (low < high)
        short = (count < wanted) & (low < high)
        high = tl.where(enough, middle, high)
        low = tl.where(short, middle + 1, tl.where(count == wanted, high, low))
        going = tl.max((low < high).to(tl.int32), 0)
    return tl.max(tl.where(key <= high.to(tl.int32)[:, None], key, -0x80000000), 1)


@triton.jit(do_not_specialize=["R", "A", "blocks", "programs"])
def _search(
    rows_ptr,  # [B, R, D]
    points_ptr,  # [B, A, D]
    valid_ptr,  # [B, A] 0 or 1
    label_ptr,  # [B, A]
    wanted_ptr,  # [B] int64
    scratch_ptr,  # [programs, BLOCK_R, width]
    mean_ptr,  # [B, R]
    radius_ptr,  # [B, R]
    R,
    A,
    D,
    blocks,
    programs,
    width,
    BLOCK_R: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PARTS: tl.constexpr,
    SIZE: tl.constexpr,
    TOGETHER: tl.constexpr,
):
    LARGEST: tl.constexpr = 0x7F7FFFFF  # bits of the largest finite number
    scratch_ptr += tl.program_id(0).to(tl.int64) * BLOCK_R * width
    a = tl.arange(0, SIZE)
    for block in range(tl.program_id(0), blocks, programs):
        video = (block // tl.cdiv(R, BLOCK_R)).to(tl.int64)
        first = block % tl.cdiv(R, BLOCK_R) * BLOCK_R
        slot = tl.arange(0, BLOCK_R)
        for start in range(0, width, BLOCK_A):
            point = start + tl.arange(0, BLOCK_A)
            distance = _distances(
                rows_ptr + video * R * D, points_ptr + video * A * D, valid_ptr + video * A, first + slot, point,
                R, A, D, BLOCK_D, PARTS,
            )  # fmt: skip
            tl.store(scratch_ptr + slot[:, None] * width + point[None, :], distance)
        tl.debug_barrier()  # distances are read by other threads than wrote them
        label = tl.load(label_ptr + video * A + a, a < A, 0)
        wanted = tl.load(wanted_ptr + video).to(tl.int32)
        for start in range(0, BLOCK_R, TOGETHER):
            some = start + tl.arange(0, TOGETHER)
            distance = tl.load(scratch_ptr + some[:, None] * width + a[None, :], (a < width)[None, :], float("inf"))
            key = _flip(distance.to(tl.int32, bitcast=True))
            radius = tl.minimum(_radius(key, wanted), LARGEST)
            near = key <= radius[:, None]
            total = tl.sum(tl.where(near, label[None, :], 0.0).to(tl.float64), 1)
            count = tl.maximum(tl.sum(near.to(tl.int32), 1), 1)
            place = video * R + first + some
            mask = first + some < R
            tl.store(mean_ptr + place, (total / count.to(tl.float64)).to(tl.float32), mask)
            tl.store(radius_ptr + place, _flip(radius).to(tl.float32, bitcast=True), mask)
        tl.debug_barrier()  # before the next rows overwrite them


@triton.jit(do_not_specialize=["R", "A"])
def _within(
    rows_ptr,  # [B, R, D]
    points_ptr,  # [B, A, D]
    valid_ptr,  # [B, A] 0 or 1
    label_ptr,  # [B, A]
    radius_ptr,  # [B, R]
    mean_ptr,  # [B, R]
    R,
    A,
    D,
    BLOCK_R: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PARTS: tl.constexpr,
):
    video = (tl.program_id(0) // tl.cdiv(R, BLOCK_R)).to(tl.int64)
    row = tl.program_id(0) % tl.cdiv(R, BLOCK_R) * BLOCK_R + tl.arange(0, BLOCK_R)
    radius = tl.load(radius_ptr + video * R + row, row < R, float("-inf"))
    total = tl.zeros((BLOCK_R, BLOCK_A), tl.float64)
    count = tl.zeros((BLOCK_R, BLOCK_A), tl.int32)
    for start in range(0, A, BLOCK_A):
        point = start + tl.arange(0, BLOCK_A)
        distance = _distances(
            rows_ptr + video * R * D, points_ptr + video * A * D, valid_ptr + video * A, row, point,
            R, A, D, BLOCK_D, PARTS,
        )  # fmt: skip
        near = distance <= radius[:, None]
        label = tl.load(label_ptr + video * A + point, point < A, 0).to(tl.float64)
        total += tl.where(near, label[None, :], 0.0)
        count += near.to(tl.int32)
    mean = tl.sum(total, 1) / tl.maximum(tl.sum(count, 1), 1).to(tl.float64)
    tl.store(mean_ptr + video * R + row, mean.to(tl.float32), row < R)


_POINTERS = {"rows_ptr": "*fp32", "points_ptr": "*fp32", "valid_ptr": "*u8", "label_ptr": "*fp32"}
_CUT = {"BLOCK_R": BLOCK_R, "BLOCK_A": BLOCK_A, "BLOCK_D": 32, "PARTS": 2}
VARIANTS = (
    *(
        Variant(
            _search,
            {**_POINTERS, "wanted_ptr": "*i64", "scratch_ptr": "*fp32", "mean_ptr": "*fp32", "radius_ptr": "*fp32",
             **dict.fromkeys(("R", "A", "D", "blocks", "programs", "width"), "i32"),
             **dict.fromkeys((*_CUT, "SIZE", "TOGETHER"), "constexpr")},
            {**_CUT, "SIZE": size, "TOGETHER": max(1, _HELD // size)},
            num_warps=_WARPS,
            num_stages=1,
            note=f"{size} points, D = 64",
        )
        for size in (2048, 8192)
    ),
    Variant(
        _within,
        {**_POINTERS, "radius_ptr": "*fp32", "mean_ptr": "*fp32", **dict.fromkeys(("R", "A", "D"), "i32"),
         **dict.fromkeys(_CUT, "constexpr")},
        _CUT,
        num_warps=_WARPS,
        num_stages=1,
        note="D = 64",
    ),
)  # fmt: skip
