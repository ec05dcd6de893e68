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
def _halve(value):
    """The smaller of neighbours of the last dimension."""
    one, two = tl.split(tl.reshape(value, (value.shape[0], value.shape[1], value.shape[2] // 2, 2)))
    return tl.minimum(one, two)


@triton.jit
def _least(score, none, GROUPS: tl.constexpr):
    """Least of every eighth score ``[BLOCK_P, 8]``, its lowest bits the group of eight that it was in.

    A group costs one operation on bits and one minimum, instead of a comparison and two selections. The bits are those
    of 8 units in the last place at most, about as many as the sum of a product is unsure of. ``none`` is a 0 that
    the compiler does not know, so that the mask is in a register and both constants fit into one instruction.
    """
    group = tl.arange(0, GROUPS)[None, None, :]
    eighth = tl.permute(tl.reshape(score, (score.shape[0], GROUPS, 8)), (0, 2, 1))
    value = (eighth.to(tl.int32, bitcast=True) & (none - GROUPS) | group).to(tl.float32, bitcast=True)
    if GROUPS >= 8:
        value = _halve(value)
    if GROUPS >= 4:
        value = _halve(value)
    if GROUPS >= 2:
        value = _halve(value)
    return tl.reshape(value, (score.shape[0], 8))


@triton.jit
def _nearest(
    e,  # [BLOCK_P, BLOCK_D], all channels if there is one part; in float32 and one part without the centre
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
    GROUPS: tl.constexpr = BLOCK_K // 8
    slot = tl.arange(0, BLOCK_K)
    # Of every eighth column the least score so far and the step of it; columns meet once, after the last step.
    none = tl.load(number_ptr) >> 31
    best = tl.full((BLOCK_P, 8), float("inf"), tl.float32)
    where = tl.zeros((BLOCK_P, 8), tl.int32)
    for start in tl.range(0, size, BLOCK_K, num_stages=2 if PARTS == 1 else 1):
        row = start + slot
        if PARTS == 1:
            s = tl.load(rows_ptr + row[None, :] * BLOCK_D + tl.arange(0, BLOCK_D)[:, None])
            product = tl.dot(e.to(FACTOR), s.to(FACTOR), input_precision="tf32x3")
        else:
            product = tl.zeros((BLOCK_P, BLOCK_K), tl.float32)
            for part in range(PARTS):
                d = part * BLOCK_D + tl.arange(0, BLOCK_D)
                tile = load_pixels(embedding_ptr, d, p, D, P, stride_d, stride_p)
                if rows_ptr.dtype.element_ty == tl.float32:
                    tile = tile.to(tl.float32) - tl.load(centre_ptr + d)[None, :]
                s = tl.load(rows_ptr + row[None, :] * (PARTS * BLOCK_D) + d[:, None])
                product = tl.dot(tile.to(FACTOR), s.to(FACTOR), product, input_precision="tf32x3")
        value = _least(tl.load(offset_ptr + row)[None, :] - 2 * product, none, GROUPS)
        better = value < best
        best = tl.where(better, value, best)
        where = tl.where(better, start, where)
    where += (best.to(tl.int32, bitcast=True) & (GROUPS - 1)) * 8 + tl.arange(0, 8)[None, :]
    row = tl.min(tl.where(best == tl.min(best, 1)[:, None], where, size), 1)
    row = tl.where(row < size, row, 0)  # of a pixel with a NaN
    return tl.load(number_ptr + row, (row >= 0) & (row < size), -1)


@triton.jit
def nearest_two(
    e,  # [BLOCK_P, BLOCK_D]
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
    PARTS: tl.constexpr,
    FACTOR: tl.constexpr,
):
    """Numbers ``[BLOCK_P]`` of the nearest foreground and background seed, -1 for an empty set."""
    C: tl.constexpr = PARTS * e.shape[1]
    centre_ptr += frame * C
    if PARTS == 1 and rows_ptr.dtype.element_ty == tl.float32:
        e = e.to(tl.float32) - tl.load(centre_ptr + tl.arange(0, C))[None, :]
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
def _pairs(x):
    """Even and odd channels."""
    return tl.split(tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2)))


@triton.jit
def _squares(x, EIGHT: tl.constexpr):
    """``|x|^2 [BLOCK_P]``: first of the channels that a thread holds, 8 or 4 in a row, one operation each."""
    a, b = _pairs(x)
    a, c = _pairs(a)
    b, d = _pairs(b)
    if EIGHT:
        a, e = _pairs(a)
        b, f = _pairs(b)
        c, g = _pairs(c)
        d, h = _pairs(d)
        total = e * e
        total = tl.fma(f, f, total)
        total = tl.fma(g, g, total)
        total = tl.fma(h, h, total)
        total = tl.fma(a, a, total)
    else:
        total = a * a
    total = tl.fma(b, b, total)
    total = tl.fma(c, c, total)
    return tl.sum(tl.fma(d, d, total), 1)


@triton.jit
def held_distances(e, fg, bg, table_ptr):
    """``|e - s|^2 [BLOCK_P]`` of a tile with all channels to the two numbered seeds; inf where there is none."""
    EIGHT: tl.constexpr = table_ptr.dtype.element_ty != tl.float32  # 16 bytes are a thread's
    C: tl.constexpr = e.shape[1]
    d = tl.arange(0, C)
    s = tl.load(table_ptr + tl.maximum(fg, 0)[:, None] * C + d[None, :])
    near = _squares(e.to(tl.float32) - s.to(tl.float32), EIGHT)
    s = tl.load(table_ptr + tl.maximum(bg, 0)[:, None] * C + d[None, :])
    far = _squares(e.to(tl.float32) - s.to(tl.float32), EIGHT)
    return tl.where(fg >= 0, near, float("inf")), tl.where(bg >= 0, far, float("inf"))


@triton.jit
def squared_distances(p, fg, bg, embedding_ptr, table_ptr, D, P, stride_d, stride_p, C: tl.constexpr):
    """``|e - s|^2 [BLOCK_P]`` from the differences to the two numbered seeds; inf where there is none."""
    STEP: tl.constexpr = 16  # channels, so that few registers are taken
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
