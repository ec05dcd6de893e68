"""Flow without the motion of the camera in Triton.

Design. Two launches, whatever the number of frames. In ``_fit`` one program of 16 warps holds the samples of a frame
in registers, 8 a thread (16 in grids of 4,097 to 9,216 pixels, which spills a few), and does all rounds: the 15
weighted moments of the coordinates up to degree 4 and the 12 of coordinates and flow; Gauss-Jordan elimination of the
6 x 8 system that they make (it is symmetric and positive, so there is nothing to pivot); the median of the errors by
bisection of their bits, two bits a step with the three counts of a step in one sum. ``_subtract`` evaluates the models
and subtracts them.

Bytes that must move: ``N P 16`` for a flow in float32, 6.6 MB a frame of 480 x 854, and so many do; the samples are
1 % of them. A round is 27 sums and 16 counts over 4,096 samples by 16 warps, about 9,000 cycles, so 8 rounds take
40 us, those of 80 frames at the same time on as many multiprocessors.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.residual_flow.reference import sample_step
from gpuvos.kernels.static import Variant

BLOCK = 1024
_WARPS = 16


def residual_flow(flow: Tensor, weight: Tensor, iterations: int) -> Tensor:
    """Takes and returns what the reference does."""
    n, _, h, w = flow.shape
    residual = flow.new_empty(flow.shape, dtype=torch.float32)
    if residual.numel() == 0:
        return residual
    step = sample_step(h, w)
    (first_row, rows, row_step), (first_column, columns, column_step) = (_grid(size, step) for size in (h, w))
    model = flow.new_empty((n, 8, 8), dtype=torch.float32)
    _fit[(n,)](
        flow, weight, model, h, w, rows, columns, first_row, first_column, row_step, column_step, iterations,
        *flow.stride(), *weight.stride(), SIZE=max(_WARPS * 32, triton.next_power_of_2(rows * columns)),
        num_warps=_WARPS, enable_fp_fusion=True,
    )  # fmt: skip
    programs = triton.cdiv(h * w, BLOCK)
    _subtract[(n * programs,)](
        flow, model, residual, h, w, programs, *flow.stride(), BLOCK=BLOCK, num_warps=4, enable_fp_fusion=True
    )
    return residual


def _grid(length: int, step: int) -> tuple[int, int, int]:
    """The first sample along a side, how many there are, and the step between them."""
    if length <= step:
        return 0, length, 1
    return step // 2, len(range(step // 2, length, step)), step


@triton.jit
def _coordinate(i, length):
    """Number i of ``linspace(-1, 1, length)``."""
    step = 2.0 / tl.maximum(length - 1, 1).to(tl.float32)
    early = -1 + i.to(tl.float32) * step
    late = 1 - (length - 1 - i).to(tl.float32) * step
    return tl.where((i < length // 2) | (length == 1), early, late)


@triton.jit
def _system(trust, x, y, across, along):
    """The weighted normal equations ``[8, 8]``: rows 0 to 5 are terms of the model, columns 6 and 7 the flow."""
    X: tl.constexpr = (0, 1, 0, 2, 1, 0)  # exponents of the terms 1, x, y, xx, xy, yy
    Y: tl.constexpr = (0, 0, 1, 0, 1, 2)
    row = tl.arange(0, 8)[:, None]
    column = tl.arange(0, 8)[None, :]
    scale = tl.maximum(tl.sum(trust, 0), 1e-6)
    system = tl.where((row == column) & (row < 6), 1e-6, 0.0)
    # Products begin with the trust, or all monomials would be kept from round to round and fill the registers.
    outer = trust
    for b in tl.static_range(5):
        inner = outer
        for a in tl.static_range(5 - b):
            moment = tl.sum(inner, 0) / scale
            for i in tl.static_range(6):
                for j in tl.static_range(6):
                    if (X[i] + X[j] == a) and (Y[i] + Y[j] == b):
                        system += tl.where((row == i) & (column == j), moment, 0.0)
                if X[i] == a and Y[i] == b:
                    system += tl.where((row == i) & (column == 6), tl.sum(inner * across, 0) / scale, 0.0)
                    system += tl.where((row == i) & (column == 7), tl.sum(inner * along, 0) / scale, 0.0)
            inner = inner * x
        outer = outer * y
    return system


@triton.jit
def _solve(system):
    """Gauss-Jordan elimination: columns 6 and 7 become the coefficients."""
    row = tl.arange(0, 8)[:, None]
    column = tl.arange(0, 8)[None, :]
    for i in tl.static_range(6):
        pivot = tl.sum(tl.where(row == i, system, 0.0), 0)[None, :]
        factor = tl.sum(tl.where(column == i, system, 0.0), 1)[:, None]
        diagonal = tl.sum(tl.sum(tl.where((row == i) & (column == i), system, 0.0), 1), 0)
        pivot = pivot / tl.maximum(diagonal, 1e-7)  # the ridge is 1e-6
        system = tl.where(row == i, pivot, system - factor * pivot)
    return system


@triton.jit
def _coefficient(system, i, TERM: tl.constexpr):
    row = tl.arange(0, 8)[:, None]
    column = tl.arange(0, 8)[None, :]
    return tl.sum(tl.sum(tl.where((row == TERM) & (column == 6 + i), system, 0.0), 1), 0)


@triton.jit
def _predict(system, i, x, y):
    by_x = _coefficient(system, i, 1) + _coefficient(system, i, 3) * x + _coefficient(system, i, 4) * y
    by_y = _coefficient(system, i, 2) + _coefficient(system, i, 5) * y
    return _coefficient(system, i, 0) + by_x * x + by_y * y


@triton.jit
def _ranked(error, mask, rank):
    """The value of a rank among the masked, which are not negative."""
    bits = error.to(tl.uint32, bitcast=True)
    lowest = tl.zeros((), tl.uint32)
    digit = tl.full((), 1 << 30, tl.uint32)
    for _ in range(16):
        # Counts of what lies below three values, 20 bits each: how many of them the rank reaches is the digit.
        counts = (mask & (bits < lowest + digit)).to(tl.int64)
        counts += (mask & (bits < lowest + 2 * digit)).to(tl.int64) << 20
        counts += (mask & (bits < lowest + 3 * digit)).to(tl.int64) << 40
        total = tl.sum(counts, 0)
        reached = ((total & 0xFFFFF) <= rank).to(tl.uint32) + ((total >> 40) <= rank).to(tl.uint32)
        reached += (((total >> 20) & 0xFFFFF) <= rank).to(tl.uint32)
        lowest += reached * digit
        digit = digit >> 2
    return lowest.to(tl.float32, bitcast=True)


@triton.jit(
    do_not_specialize=[
        "h",
        "w",
        "rows",
        "columns",
        "first_row",
        "first_column",
        "row_step",
        "column_step",
        "iterations",
    ]
)
def _fit(
    flow_ptr,  # [N, 2, H, W]
    weight_ptr,  # [N, H, W]
    model_ptr,  # [N, 8, 8], the coefficients in columns 6 and 7
    h,
    w,
    rows,
    columns,
    first_row,
    first_column,
    row_step,
    column_step,
    iterations,
    flow_n,
    flow_c,
    flow_h,
    flow_w,
    weight_n,
    weight_h,
    weight_w,
    SIZE: tl.constexpr,
):
    frame = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, SIZE)
    mask = i < rows * columns
    row = first_row + i // columns * row_step
    column = first_column + i % columns * column_step
    y = _coordinate(row, h)
    x = _coordinate(column, w)
    place = flow_ptr + frame * flow_n + row.to(tl.int64) * flow_h + column.to(tl.int64) * flow_w
    across = tl.load(place, mask, 0).to(tl.float32)
    along = tl.load(place + flow_c, mask, 0).to(tl.float32)
    place = weight_ptr + frame * weight_n + row.to(tl.int64) * weight_h + column.to(tl.int64) * weight_w
    prior = tl.load(place, mask, 0).to(tl.float32)
    trust = prior
    system = tl.zeros((8, 8), tl.float32)
    for _ in range(iterations):
        system = _solve(_system(trust, x, y, across, along))
        off_across = across - _predict(system, 0, x, y)
        off_along = along - _predict(system, 1, x, y)
        error = off_across * off_across + off_along * off_along
        spread = tl.maximum(4 * _ranked(error, mask, rows * columns // 2), 1e-4)
        ratio = 1 + error / spread
        trust = prior / (ratio * ratio)
    cell = tl.arange(0, 8)[:, None] * 8 + tl.arange(0, 8)[None, :]
    tl.store(model_ptr + frame * 64 + cell, system)


@triton.jit(do_not_specialize=["h", "w", "programs"])
def _subtract(
    flow_ptr,  # [N, 2, H, W]
    model_ptr,  # [N, 8, 8]
    residual_ptr,  # [N, 2, H, W]
    h,
    w,
    programs,  # of a frame
    flow_n,
    flow_c,
    flow_h,
    flow_w,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    frame = program // programs
    pixel = (program % programs).to(tl.int32) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < h * w
    row = pixel // w
    column = pixel % w
    y = _coordinate(row, h)
    x = _coordinate(column, w)
    place = flow_ptr + frame * flow_n + row.to(tl.int64) * flow_h + column.to(tl.int64) * flow_w
    model_ptr += frame * 64
    for i in tl.static_range(2):
        value = tl.load(place + i * flow_c, mask, 0).to(tl.float32)
        by_x = tl.load(model_ptr + 14 + i) + tl.load(model_ptr + 30 + i) * x + tl.load(model_ptr + 38 + i) * y
        by_y = tl.load(model_ptr + 22 + i) + tl.load(model_ptr + 46 + i) * y
        model = tl.load(model_ptr + 6 + i) + by_x * x + by_y * y
        tl.store(residual_ptr + (frame * 2 + i) * h * w + pixel, value - model, mask)


_STRIDES = {"flow_n": "i64", "flow_c": "i64", "flow_h": "i32", "flow_w": "constexpr"}
_SIZES = dict.fromkeys(("h", "w"), "i32")
_GRID = dict.fromkeys(("rows", "columns", "first_row", "first_column", "row_step", "column_step", "iterations"), "i32")
VARIANTS = (
    Variant(
        _fit,
        {"flow_ptr": "*fp32", "weight_ptr": "*fp32", "model_ptr": "*fp32", **_SIZES, **_GRID, **_STRIDES,
         "weight_n": "i64", "weight_h": "i32", "weight_w": "constexpr", "SIZE": "constexpr"},
        {"flow_w": 1, "weight_w": 1, "SIZE": 4096},
        num_warps=_WARPS,
        note="fp32, 4,096 samples",
    ),
    Variant(
        _subtract,
        {"flow_ptr": "*fp32", "model_ptr": "*fp32", "residual_ptr": "*fp32", **_SIZES, "programs": "i32", **_STRIDES,
         "BLOCK": "constexpr"},
        {"flow_w": 1, "BLOCK": BLOCK},
        note="fp32",
    ),
)  # fmt: skip
