"""Squared embedding distances along the edges of the 4-neighbour grid, in Triton.

A lane owns a column of ROWS rows and walks the channels once, with the sums of all its edges in registers. It reads a
channel's ROWS + 1 rows side by side, so the pixel below is in its own registers; the pixel to the right comes from the
line that the lane beside has just fetched (L1). Half types of even width are read two pixels a word: half the loads
and twice the bytes in flight, without which bfloat16 would wait for instructions rather than for memory (10 a pixel
and channel, 0.7 of the time that its bytes take). What lies below the last row is read clamped and not stored.

Bytes that must move, a frame: the embedding once and both results, H W (D s + 8) with s bytes an element; 480 x 854,
D = 64: 55.7 MB in bfloat16, 108 MB in float32 (13 and 25 microseconds at 4.3 TB/s). It moves the same from and to DRAM:
the row below a column is the first one of the next, whose program runs at the same time, and comes from L2 (one row
in eight, and the ends of unaligned lines; from L2 to L1 in all 1.2 times the embedding).

The gradient is the plain torch of ``op.py``: training samples pixel pairs and never asks for it.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.static import Variant
from gpuvos.kernels.words import WORD_TYPES, values_of

_ROWS, _LANES = 8, 128  # of a program of four warps; a lane has one word of every row


def grid_edges(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """``[N, D, H, W]`` -> squared distances right ``[N, H, W-1]`` and down ``[N, H-1, W]``, float32."""
    n, d, h, w = embedding.shape
    right = embedding.new_empty((n, h, w - 1), dtype=torch.float32)
    down = embedding.new_empty((n, h - 1, w), dtype=torch.float32)
    if right.numel() + down.numel() == 0:
        return right, down
    embedding = embedding.contiguous()
    paired = embedding.itemsize == 2 and w % 2 == 0 and embedding.data_ptr() % 4 == 0
    rows = _ROWS if h >= _ROWS else 1
    words = w // 2 if paired else w
    tiles = triton.cdiv(triton.cdiv(h, rows) * words, _LANES)
    _grid_edges[(n * tiles,)](
        embedding.view(torch.int32) if paired else embedding, right, down, d, h, w,
        TYPE=WORD_TYPES[embedding.dtype], PIXELS=1 + paired, ROWS=rows, LANES=_LANES,
        num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    return right, down


@triton.jit(do_not_specialize=("D", "H", "W"))
def _grid_edges(
    embedding_ptr,  # [N, D, H, W], or words [N, D, H, W / 2] of two pixels
    right_ptr,  # [N, H, W - 1]
    down_ptr,  # [N, H - 1, W]
    D,
    H,
    W,
    TYPE: tl.constexpr,
    PIXELS: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    """One program for LANES columns of ROWS rows; columns are counted through the frame, so that no lane idles."""
    words = W // PIXELS
    tiles = tl.cdiv(tl.cdiv(H, ROWS) * words, LANES)
    n = (tl.program_id(0) // tiles).to(tl.int64)
    column = tl.program_id(0) % tiles * LANES + tl.arange(0, LANES)
    k = column % words
    first = column // words * ROWS  # row
    y = tl.minimum(first, H - ROWS)  # rows that others have as well are not stored

    plane = H.to(tl.int64) * words
    embedding_ptr += n * D * plane
    top = embedding_ptr + y.to(tl.int64) * words + k
    bottom = embedding_ptr + tl.minimum(y + ROWS, H - 1).to(tl.int64) * words + k
    inside = k + 1 < words  # there is a word to the right
    right, down = (), ()  # a tensor for every pixel of a word of every row
    for _ in tl.static_range(ROWS * PIXELS):
        right = right + (tl.zeros((LANES,), tl.float32),)
        down = down + (tl.zeros((LANES,), tl.float32),)
    for _ in range(D):
        here, beside = (), ()
        for r in tl.static_range(ROWS):
            here = here + values_of(tl.load(top + r * words), TYPE, PIXELS)
            beside = beside + values_of(tl.load(top + r * words + 1, mask=inside), TYPE, PIXELS)
        here = here + values_of(tl.load(bottom), TYPE, PIXELS)
        new_right, new_down = (), ()
        for i in tl.static_range(ROWS * PIXELS):
            to_right = (here[i + 1] if i % PIXELS + 1 < PIXELS else beside[i + 1 - PIXELS]) - here[i]
            to_down = here[i + PIXELS] - here[i]
            new_right = new_right + (right[i] + to_right * to_right,)
            new_down = new_down + (down[i] + to_down * to_down,)
        right, down = new_right, new_down
        top += plane
        bottom += plane

    right_ptr += n * H * (W - 1)
    down_ptr += n * (H - 1) * W
    for i in tl.static_range(ROWS * PIXELS):
        x = k * PIXELS + i % PIXELS
        row = (y + i // PIXELS).to(tl.int64)
        mine = row >= first
        tl.store(right_ptr + row * (W - 1) + x, right[i], mask=mine & (x + 1 < W))
        tl.store(down_ptr + row * W + x, down[i], mask=mine & (row + 1 < H))


def _variant(kind: str, paired: bool, rows: int) -> Variant:
    names = ("embedding_ptr", "right_ptr", "down_ptr", "D", "H", "W")
    types = ("*i32" if paired else f"*{kind}", "*fp32", "*fp32", "i32", "i32", "i32")
    type_ = {"fp32": tl.float32, "fp16": tl.float16, "bf16": tl.bfloat16}[kind]
    constants: dict[str, Any] = {"TYPE": type_, "PIXELS": 1 + paired, "ROWS": rows, "LANES": _LANES}
    signature = dict(zip(names, types, strict=True)) | dict.fromkeys(constants, "constexpr")
    note = f"{kind}, {'two pixels a word' if paired else 'one pixel a word'}, {rows} rows"
    return Variant(_grid_edges, signature, constants, note=note)


VARIANTS = (
    *(_variant(kind, False, _ROWS) for kind in ("fp32", "bf16", "fp16")),
    *(_variant(kind, True, _ROWS) for kind in ("bf16", "fp16")),
    _variant("fp32", False, 1),
    _variant("bf16", True, 1),
)
