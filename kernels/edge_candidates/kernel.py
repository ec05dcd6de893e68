"""Edge weights and candidate points from squared distances, in Triton: edge map and window minimum in one pass.

A program is one warp and owns ROWS x (LANES - 2 r) pixels, r = window // 2. It makes the edge values of ROWS + 2 r
rows of LANES pixels, each row a tensor of its own, so that the minimum over rows needs registers only; that over
columns takes exchanges inside the warp. Either doubles its width from step to step: window 9 takes four. The edge map
is never written.

Bytes that must move, a frame: both distances once and a mask, 9 H W = 3.7 MB at 480 x 854 (0.9 microseconds at
4.3 TB/s). From DRAM it moves the same; halos (of window 9: 1.7 times the 8 bytes a pixel in all) come from L2. With
``mean`` torch takes 1 - R of the distances first, 16 bytes a pixel more.

Windows above MAX_WINDOW take the reference, whose minima are as few.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.edge_candidates import reference
from gpuvos.kernels.static import Variant

MAX_WINDOW = 17
_ROWS, _LANES = 16, 64  # of a program of one warp


def edge_candidates(right: Tensor, down: Tensor, window: int, reduce: str, temperature: float) -> Tensor:
    """Squared distances ``[N, H, W-1]`` and ``[N, H-1, W]`` -> candidates ``[N, H, W]`` bool."""
    if window > MAX_WINDOW:
        return reference.edge_candidates(right, down, window, reduce, temperature)
    n, h, w = *right.shape[:2], down.shape[2]
    candidates = right.new_empty((n, h, w), dtype=torch.bool)
    if candidates.numel() == 0:
        return candidates
    mean = reduce == "mean"
    if mean:  # torch's own tanh, so that the order is that of the reference to the last bit
        right, down = (reference.dissimilarity(value.float(), temperature) for value in (right, down))
    tiles = triton.cdiv(w, _LANES - window // 2 * 2) * triton.cdiv(h, _ROWS)
    _edge_candidates[(n * tiles,)](
        right.contiguous(), down.contiguous(), candidates, h, w,
        MEAN=mean, REACH=window // 2, ROWS=_ROWS, LANES=_LANES, num_warps=1, enable_fp_fusion=False,
    )  # fmt: skip
    return candidates


@triton.jit(do_not_specialize=("H", "W"))
def _edge_candidates(
    right_ptr,  # [N, H, W - 1], with mean: of 1 - R
    down_ptr,  # [N, H - 1, W]
    candidates_ptr,  # [N, H, W] bool
    H,
    W,
    MEAN: tl.constexpr,
    REACH: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    """One program a tile."""
    across = tl.cdiv(W, LANES - 2 * REACH)
    along = tl.cdiv(H, ROWS)
    tile = tl.program_id(0)
    lane = tl.arange(0, LANES)
    x = tile % across * (LANES - 2 * REACH) - REACH + lane
    top = tile // across % along * ROWS
    n = (tile // across // along).to(tl.int64)
    right_ptr += n * H * (W - 1)
    down_ptr += n * (H - 1) * W
    candidates_ptr += n * H * W

    mine = (lane >= REACH) & (lane < LANES - REACH) & (x < W)
    rows = tl.zeros((LANES,), tl.int32) + (H - top)  # that are left
    # Outside the grid stands a copy of its border, which every window there has inside, and for an edge that is not
    # there the one on the other side: neither changes a minimum or a maximum.
    column = tl.minimum(tl.maximum(x, 0), W - 1)
    after_ptr = right_ptr + tl.minimum(column, W - 2)
    before_ptr = right_ptr + tl.maximum(column - 1, 0)
    below_ptr = down_ptr + column
    above = _load(below_ptr + tl.maximum(top - REACH - 1, 0) * W, H)
    values = ()  # of the edge map, a row each
    for r in tl.static_range(ROWS + 2 * REACH):
        y = tl.minimum(tl.maximum(top - REACH + r, 0), H - 1)
        after = _load(after_ptr + y * (W - 1), W)
        before = _load(before_ptr + y * (W - 1), W)
        below = _load(below_ptr + tl.minimum(y, H - 2) * W, H)
        if MEAN:
            total = tl.where(column + 1 < W, after, 0.0) + tl.where(column > 0, before, 0.0)
            total += tl.where(y + 1 < H, below, 0.0)
            total += tl.where(y > 0, above, 0.0)
            count = (column + 1 < W).to(tl.int32) + (column > 0).to(tl.int32)
            count += (y + 1 < H).to(tl.int32) + (y > 0).to(tl.int32)
            values = values + (tl.div_rn(total, tl.maximum(count, 1).to(tl.float32)),)
        else:
            values = values + (tl.maximum(tl.maximum(after, before), tl.maximum(below, above)),)
        above = below

    smallest = _rows_minimum(values, ROWS + 2 * REACH, 1, 2 * REACH + 1)
    for r in tl.static_range(ROWS):
        least = _lanes_minimum(smallest[r], lane, REACH, 1)
        tl.store(candidates_ptr + (top + r) * W + x, values[r + REACH] == least, mask=mine & (r < rows))


@triton.jit
def _load(pointer, length):
    """Values of edges in float32; zeros where a line of ``length`` pixels has none."""
    return tl.load(pointer, mask=tl.full(pointer.shape, 1, tl.int32) < length, other=0.0).to(tl.float32)


@triton.jit
def _rows_minimum(rows, COUNT: tl.constexpr, WIDTH: tl.constexpr, WINDOW: tl.constexpr):
    """Minima of WINDOW rows, for each that is the first of so many, from minima of WIDTH rows."""
    if WIDTH < WINDOW:
        STEP: tl.constexpr = WIDTH if 2 * WIDTH <= WINDOW else WINDOW - WIDTH
        wider = ()
        for r in tl.static_range(COUNT - STEP):
            wider = wider + (tl.minimum(rows[r], rows[r + STEP]),)
        result = _rows_minimum(wider, COUNT - STEP, WIDTH + STEP, WINDOW)
    else:
        result = rows
    return result


@triton.jit
def _lanes_minimum(row, lane, REACH: tl.constexpr, WIDTH: tl.constexpr):
    """Minimum of the lanes at most REACH away, from those of WIDTH lanes; meant for lanes that have them all."""
    if 2 * WIDTH <= 2 * REACH + 1:
        wider = tl.minimum(row, _from_lane(row, lane + WIDTH))
        result = _lanes_minimum(wider, lane, REACH, 2 * WIDTH)
    else:
        result = tl.minimum(_from_lane(row, lane - REACH), _from_lane(row, lane + REACH + 1 - WIDTH))
    return result


@triton.jit
def _from_lane(row, lane):
    LANES: tl.constexpr = row.shape[0]
    return tl.gather(row, lane & (LANES - 1), 0)


def _variant(kind: str, window: int, mean: bool) -> Variant:
    names = ("right_ptr", "down_ptr", "candidates_ptr", "H", "W")
    types = (f"*{kind}", f"*{kind}", "*i1", "i32", "i32")
    constants: dict[str, Any] = {"MEAN": mean, "REACH": window // 2, "ROWS": _ROWS, "LANES": _LANES}
    signature = dict(zip(names, types, strict=True)) | dict.fromkeys(constants, "constexpr")
    note = f"window {window}, {'mean' if mean else 'max'}"
    return Variant(_edge_candidates, signature, constants, num_warps=1, note=note)


VARIANTS = tuple(
    _variant("fp32", window, mean) for window, mean in ((9, False), (9, True), (5, False), (MAX_WINDOW, False))
)
