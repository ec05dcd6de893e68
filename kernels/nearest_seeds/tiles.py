"""What programs of ``nearest_seeds`` and ``foreground_probability`` do with a tile of pixels."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_pixels(embedding_ptr, d, p, D, P, stride_d, stride_p):
    """A tile ``[BLOCK_P, BLOCK_D]`` of the embedding of one frame; 0 outside."""
    place = d.to(tl.int64)[None, :] * stride_d + p.to(tl.int64)[:, None] * stride_p
    return tl.load(embedding_ptr + place, (d < D)[None, :] & (p < P)[:, None], 0)


@triton.jit
def _nearest(
    e,  # [BLOCK_P, BLOCK_D], all channels if there is one part
    p,
    embedding_ptr,
    rows_ptr,  # of the list, like the next two
    offset_ptr,
    number_ptr,
    centre_ptr,
    size,
    D,
    P,
    stride_d,
    stride_p,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
    FACTOR: tl.constexpr,
):
    """Number of the nearest seed of a list ``[BLOCK_P]``, -1 if the list is empty."""
    BLOCK_P: tl.constexpr = e.shape[0]
    BLOCK_D: tl.constexpr = e.shape[1]
    slot = tl.arange(0, BLOCK_K)
    # Of every column the least score so far and the step of it; columns meet once, after the last step.
    best = tl.full((BLOCK_P, BLOCK_K), float("inf"), tl.float32)
    where = tl.zeros((BLOCK_P, BLOCK_K), tl.int32)
    for start in range(0, size, BLOCK_K):
        row = start + slot
        product = tl.zeros((BLOCK_P, BLOCK_K), tl.float32)
        for part in range(PARTS):
            d = part * BLOCK_D + tl.arange(0, BLOCK_D)
            tile = e if PARTS == 1 else load_pixels(embedding_ptr, d, p, D, P, stride_d, stride_p)
            if rows_ptr.dtype.element_ty == tl.float32:
                tile = tile.to(tl.float32) - tl.load(centre_ptr + d)[None, :]
            s = tl.load(rows_ptr + row[None, :] * (PARTS * BLOCK_D) + d[:, None], (row < size)[None, :], 0)
            product = tl.dot(tile.to(FACTOR), s.to(FACTOR), product, input_precision="tf32x3")
        score = tl.load(offset_ptr + row, row < size, float("inf"))[None, :] - 2 * product
        better = score < best
        best = tl.where(better, score, best)
        where = tl.where(better, start, where)
    least = best == tl.min(best, 1)[:, None]
    row = tl.min(tl.where(least, where + slot[None, :], size), 1)
    return tl.load(number_ptr + row, row < size, -1)  # a pixel with a NaN gets the first


@triton.jit
def nearest_two(
    frame,
    p,
    embedding_ptr,  # of the frame
    rows_ptr,  # of all frames, like the others
    offset_ptr,
    number_ptr,
    size_ptr,
    centre_ptr,
    D,
    P,
    stride_d,
    stride_p,
    L: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PARTS: tl.constexpr,
    FACTOR: tl.constexpr,
):
    """Numbers ``[BLOCK_P]`` of the nearest foreground and background seed, -1 for an empty set."""
    C: tl.constexpr = PARTS * BLOCK_D
    e = load_pixels(embedding_ptr, tl.arange(0, BLOCK_D), p, D, P, stride_d, stride_p)
    centre_ptr += frame * C
    row = frame * 2 * L
    size = tl.load(size_ptr + frame * 2)
    fg = _nearest(
        e, p, embedding_ptr, rows_ptr + row * C, offset_ptr + row, number_ptr + row, centre_ptr, size,
        D, P, stride_d, stride_p, BLOCK_K, PARTS, FACTOR,
    )  # fmt: skip
    row += L
    size = tl.load(size_ptr + frame * 2 + 1)
    bg = _nearest(
        e, p, embedding_ptr, rows_ptr + row * C, offset_ptr + row, number_ptr + row, centre_ptr, size,
        D, P, stride_d, stride_p, BLOCK_K, PARTS, FACTOR,
    )  # fmt: skip
    return fg, bg


@triton.jit
def _seeds(table_ptr, number, d, C: tl.constexpr):
    """Embedding ``[BLOCK_P, STEP]`` of the numbered seeds, 0 for none."""
    return tl.load(table_ptr + number[:, None] * C + d[None, :], (number >= 0)[:, None], 0).to(tl.float32)


@triton.jit
def squared_distances(p, fg, bg, embedding_ptr, table_ptr, D, P, stride_d, stride_p, C: tl.constexpr):
    """``|e - s|^2 [BLOCK_P]`` from the differences to the two numbered seeds; inf where there is none."""
    STEP: tl.constexpr = 16  # channels, so that few registers are taken; the pixels come from L1 now
    near = tl.zeros(p.shape, tl.float32)
    far = tl.zeros(p.shape, tl.float32)
    for start in range(0, C, STEP):
        d = start + tl.arange(0, STEP)
        e = load_pixels(embedding_ptr, d, p, D, P, stride_d, stride_p).to(tl.float32)
        difference = e - _seeds(table_ptr, fg, d, C)
        near += tl.sum(difference * difference, 1)
        difference = e - _seeds(table_ptr, bg, d, C)
        far += tl.sum(difference * difference, 1)
    return tl.where(fg >= 0, near, float("inf")), tl.where(bg >= 0, far, float("inf"))


@triton.jit
def pull_pixels(p, fg, bg, to_fg, to_bg, embedding_ptr, table_ptr, out_ptr, D, P, stride_d, stride_p, C: tl.constexpr):
    """Writes ``2 to_fg (e - s_FG) + 2 to_bg (e - s_BG)`` to ``out [D, P]`` of the frame; a seed that is not pulls 0."""
    STEP: tl.constexpr = 16
    to_fg = tl.where(fg >= 0, 2 * to_fg, 0.0)[:, None]
    to_bg = tl.where(bg >= 0, 2 * to_bg, 0.0)[:, None]
    for start in range(0, C, STEP):
        d = start + tl.arange(0, STEP)
        e = load_pixels(embedding_ptr, d, p, D, P, stride_d, stride_p).to(tl.float32)
        grad = to_fg * (e - _seeds(table_ptr, fg, d, C)) + to_bg * (e - _seeds(table_ptr, bg, d, C))
        place = d.to(tl.int64)[None, :] * P + p[:, None]
        tl.store(out_ptr + place, grad.to(out_ptr.dtype.element_ty), (d < D)[None, :] & (p < P)[:, None])
