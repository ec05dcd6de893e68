"""Greedy farthest-point sampling among candidates, in Triton: one program a frame walks all K dependent steps.

Candidates are few and scattered, and channels lie P apart, so every element of theirs is in a sector of its own. They
are therefore put side by side first, in the order of their indices and without a shape that depends on their number:
``_count`` counts those of every CHUNK pixels; ``_gather`` adds up the counts before its own chunk and writes indices
and embeddings to their places. ``_sample`` then works on rows of D channels: up to HELD candidates stay in registers
with their distances, and a step is one row read and one arg-max. Rows of more candidates stay in memory, in tiles of
BLOCK_M. Distances only shrink, so the largest that a tile had is a bound of what it has now: in a step the tile of the
largest bound catches up with the points chosen since it was last looked at, until the largest of all belongs to a tile
that has caught up. With 12,099 rows of a frame of DAVIS (K = 300) that are 4.0 of 48 tiles a step, with 757 rows 1.7 of
3; nine tenths of the distances are taken in the end, but a tile is read once for many of them. The arg-max is a maximum
of 64-bit keys, value above place, the largest of which is the lowest place of the highest value.

The rows have room for a sixteenth of the pixels (without ties a 9 x 9 window has a candidate in 25 pixels at most). A
frame with more, flat in large parts, is sampled where it lies: so many pixels fill the sectors that are read.

Bytes that must move, a frame of P pixels and M candidates: mask, embedding and priority, P + M (D s + 4); 480 x 854,
M = 5000, D = 64, bfloat16: 1.1 MB. It moves 2 P + M (32 D + 2 D s + 40), a sector for every element, then rows written
and read: 12.5 MB (3 microseconds at 4.3 TB/s). Time goes into K dependent steps: of rows that are held about 0.8
microseconds each, else two reductions over 16 warps for every tile that catches up and 136 instructions a warp for each
tile and point. ``gpuvos bench --static`` estimates what that is for a video; nothing of it is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.static import Variant
from gpuvos.kernels.words import WORD_TYPES, values_of

_CHUNK = 2048  # pixels of a program that counts or gathers
_ROOM = 1024  # rows that every frame has room for


def farthest_points(embedding: Tensor, priority: Tensor, candidates: Tensor, num_points: int) -> Tensor:
    """``[N, D, P]``, ``[N, P]``, ``[N, P]`` bool -> ``[N, K]`` int64 indices in the order of choice, -1 at the end."""
    n, d, p = embedding.shape
    chosen = embedding.new_empty((n, num_points), dtype=torch.int64)
    if chosen.numel() == 0 or p == 0:
        return chosen.fill_(-1)
    priority, candidates = priority.contiguous(), candidates.contiguous()
    room = min(p, max(_ROOM, p // 16))
    half = embedding.dtype.itemsize == 2
    tiling = _tiling(d, half=half, in_place=False)
    chunk = min(_CHUNK, triton.next_power_of_2(p))
    chunks = triton.cdiv(p, chunk)
    found = embedding.new_empty((n, chunks), dtype=torch.int32)
    index = embedding.new_empty((n, p), dtype=torch.int32)
    count = embedding.new_empty((n,), dtype=torch.int32)
    rows = embedding.new_empty((n, room, tiling["WIDTH"]))
    gap = embedding.new_empty((n, p), dtype=torch.float32)
    order = embedding.new_empty((n, num_points), dtype=torch.int32)
    _count[(n * chunks,)](candidates, found, p, CHUNK=chunk, num_warps=4)
    _gather[(n * chunks,)](
        embedding, candidates, found, index, count, rows, d, p, room, *embedding.stride(),
        CHUNK=chunk, WIDTH=tiling["WIDTH"], BLOCK_D=tiling["BLOCK_D"], num_warps=4,
    )  # fmt: skip
    words, tiles = (
        rows.view(torch.int32) if half else rows,
        triton.next_power_of_2(triton.cdiv(room, tiling["BLOCK_M"])),
    )
    for in_place in (False, True)[: 1 + (room < p)]:
        _sample[(n,)](
            embedding, words, index, count, priority, gap, order, chosen, num_points, d, p, room, *embedding.stride(),
            TYPE=WORD_TYPES[embedding.dtype], TILES=tiles, IN_PLACE=in_place,
            **_tiling(d, half=half, in_place=in_place), enable_fp_fusion=True,
        )  # fmt: skip
    return chosen


def _tiling(d: int, *, half: bool, in_place: bool) -> dict[str, int]:
    """Constants of ``_sample``: 32 values a thread and tile, of half types twice as many of rows that are held."""
    block_d = max(16, min(128, triton.next_power_of_2(d)))
    width = triton.cdiv(d, block_d) * block_d
    if in_place:  # channels are walked one by one
        tile = {"BLOCK_M": 1024, "HELD": 0}
    else:
        block_m = min(256, 16384 // block_d) >> (width > block_d)  # channels in parts take registers
        tile = {"BLOCK_M": block_m, "HELD": (1 + half) * block_m * (width == block_d)}
    return {"WIDTH": width, "BLOCK_D": block_d, "VALUES": 1 + half, **tile, "num_warps": 16}


@triton.jit(do_not_specialize=("P",))
def _count(
    candidates_ptr,  # [N, P] bool
    found_ptr,  # [N, chunks] int32
    P,
    CHUNK: tl.constexpr,
):
    """Candidates of every chunk."""
    chunks = tl.cdiv(P, CHUNK)
    n = (tl.program_id(0) // chunks).to(tl.int64)
    p = tl.program_id(0) % chunks * CHUNK + tl.arange(0, CHUNK)
    mask = tl.load(candidates_ptr + n * P + p, mask=p < P, other=0)
    tl.store(found_ptr + tl.program_id(0), tl.sum(mask.to(tl.int32), 0))


@triton.jit(do_not_specialize=("D", "P", "room"))
def _gather(
    embedding_ptr,  # [N, D, P]
    candidates_ptr,  # [N, P] bool
    found_ptr,  # [N, chunks] int32
    index_ptr,  # [N, P] int32: pixels of the candidates in order
    count_ptr,  # [N] int32
    rows_ptr,  # [N, room, WIDTH]: the embedding of as many, zeros from channel D on
    D,
    P,
    room,
    stride_n,
    stride_d,
    stride_p,
    CHUNK: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Writes the candidates of a chunk to their places."""
    BLOCK_M: tl.constexpr = 2048 // BLOCK_D
    SUMS: tl.constexpr = 256
    chunks = tl.cdiv(P, CHUNK)
    n = (tl.program_id(0) // chunks).to(tl.int64)
    chunk = tl.program_id(0) % chunks
    total = tl.zeros((SUMS,), tl.int32)
    for start in range(0, chunk, SUMS):
        i = start + tl.arange(0, SUMS)
        total += tl.load(found_ptr + n * chunks + i, mask=i < chunk, other=0)
    first = tl.sum(total, 0)
    p = chunk * CHUNK + tl.arange(0, CHUNK)
    mask = tl.load(candidates_ptr + n * P + p, mask=p < P, other=0) != 0
    end = first + tl.sum(mask.to(tl.int32), 0)
    index_ptr += n * P
    tl.store(index_ptr + first + tl.cumsum(mask.to(tl.int32), 0) - 1, p, mask=mask)
    if chunk == chunks - 1:
        tl.store(count_ptr + n, end)
    tl.debug_barrier()  # the other threads' indices are read below
    embedding_ptr += n * stride_n
    rows_ptr += n * room * WIDTH
    for start in range(first, tl.minimum(end, room), BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)
        valid = m < tl.minimum(end, room)
        place = tl.load(index_ptr + m, mask=valid, other=0).to(tl.int64) * stride_p
        for part in tl.static_range(0, WIDTH, BLOCK_D):
            d = part + tl.arange(0, BLOCK_D)
            e = embedding_ptr + place[:, None] + d.to(tl.int64)[None, :] * stride_d
            e = tl.load(e, mask=valid[:, None] & (d < D)[None, :], other=0.0)
            tl.store(rows_ptr + m.to(tl.int64)[:, None] * WIDTH + d[None, :], e, mask=valid[:, None])


@triton.jit(do_not_specialize=("K", "D", "P", "room"))
def _sample(
    embedding_ptr,  # [N, D, P]
    rows_ptr,  # [N, room, WIDTH], of half types as words of two values
    index_ptr,  # [N, P] int32
    count_ptr,  # [N] int32
    priority_ptr,  # [N, P]
    gap_ptr,  # [N, P]: of a candidate, the squared distance to the nearest that it was compared with; -1 of the chosen
    order_ptr,  # [N, K] int32: rows in the order of choice
    chosen_ptr,  # [N, K] int64
    K,
    D,
    P,
    room,
    stride_n,
    stride_d,
    stride_p,
    TYPE: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    VALUES: tl.constexpr,  # of a word
    TILES: tl.constexpr,
    HELD: tl.constexpr,
    IN_PLACE: tl.constexpr,
):
    """One program a frame. Frames with more candidates than rows are those of IN_PLACE."""
    LOWEST: tl.constexpr = -(1 << 63)
    n = tl.program_id(0).to(tl.int64)
    embedding_ptr += n * stride_n
    rows_ptr += n * room * (WIDTH // VALUES)
    index_ptr += n * P
    priority_ptr += n * P
    gap_ptr += n * P
    order_ptr += n * K
    chosen_ptr += n * K
    count = tl.load(count_ptr + n)
    if (count > room) == IN_PLACE:
        steps = tl.minimum(count, K)
        for start in range(0, K, BLOCK_M):
            k = start + tl.arange(0, BLOCK_M)
            tl.store(chosen_ptr + k, tl.full((BLOCK_M,), -1, tl.int64), mask=(k >= steps) & (k < K))

        best = tl.full((BLOCK_M,), LOWEST, tl.int64)
        for start in range(0, count, BLOCK_M):
            m = start + tl.arange(0, BLOCK_M)
            pixel = tl.load(index_ptr + m, mask=m < count, other=0)
            value = tl.load(priority_ptr + pixel, mask=m < count, other=0.0).to(tl.float32)
            best = tl.maximum(best, tl.where(m < count, _key(tl.where(value == 0, 0.0, value), m), LOWEST))
        pick = _place(tl.max(best, 0))
        if IN_PLACE:
            _walk_in_place(
                embedding_ptr, index_ptr, gap_ptr, chosen_ptr, pick, steps, count, D, stride_d, stride_p, BLOCK_M
            )
        else:
            walked = tl.where(count > HELD, steps, 0)
            _walk(
                rows_ptr, index_ptr, gap_ptr, order_ptr, chosen_ptr, pick, walked, count,
                TYPE, WIDTH, BLOCK_M, BLOCK_D, VALUES, TILES,
            )  # fmt: skip
            if HELD > 0:
                _walk_held(rows_ptr, index_ptr, chosen_ptr, pick, steps - walked, count, TYPE, WIDTH, VALUES, HELD)


@triton.jit
def _walk_held(
    rows_ptr, index_ptr, chosen_ptr, pick, steps, count,
    TYPE: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr, HELD: tl.constexpr,
):  # fmt: skip
    """The steps with all rows and gaps in registers."""
    LOWEST: tl.constexpr = -(1 << 63)
    m = tl.arange(0, HELD)
    d = tl.arange(0, WIDTH // VALUES)
    rows = tl.load(rows_ptr + m[:, None] * (WIDTH // VALUES) + d[None, :], mask=(m < count)[:, None], other=0)
    rows = values_of(rows, TYPE, VALUES)
    gap = tl.full((HELD,), float("inf"), tl.float32)
    for k in range(steps):
        tl.store(chosen_ptr + k, tl.load(index_ptr + pick).to(tl.int64))
        centre = tl.load(rows_ptr + pick * (WIDTH // VALUES) + d)
        gap = tl.where(m == pick, -1.0, tl.minimum(gap, _squares(rows, centre, TYPE, VALUES)))
        pick = _place(tl.max(tl.where(m < count, _key(gap, m), LOWEST), 0))


@triton.jit
def _walk(
    rows_ptr, index_ptr, gap_ptr, order_ptr, chosen_ptr, pick, steps, count,
    TYPE: tl.constexpr, WIDTH: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, VALUES: tl.constexpr,
    TILES: tl.constexpr,
):  # fmt: skip
    """The steps of a frame whose rows stay in memory.

    Gaps only shrink, so the largest that a tile had is a bound of what it has: a tile catches up with the points that
    were chosen meanwhile when its bound is the largest of all, and the largest of all is the farthest point as soon as
    its tile has caught up.
    """
    LOWEST: tl.constexpr = -(1 << 63)
    tile = tl.arange(0, TILES)
    bound = tl.where(tile * BLOCK_M < count, _key(tl.full((TILES,), float("inf"), tl.float32), tile * BLOCK_M), LOWEST)
    compared = tl.zeros((TILES,), tl.int32)  # with as many of the chosen
    for k in range(steps):
        tl.store(chosen_ptr + k, tl.load(index_ptr + pick).to(tl.int64))
        tl.store(order_ptr + k, pick)
        tl.debug_barrier()  # all threads read the order
        pick = _place(tl.max(bound, 0))
        late = tl.sum(tl.where(tile == pick // BLOCK_M, compared, 0), 0)
        while late <= k:
            best = _catch_up(
                rows_ptr, gap_ptr, order_ptr, pick // BLOCK_M, late, k + 1, count,
                TYPE, WIDTH, BLOCK_M, BLOCK_D, VALUES,
            )  # fmt: skip
            bound = tl.where(tile == pick // BLOCK_M, best, bound)
            compared = tl.where(tile == pick // BLOCK_M, k + 1, compared)
            pick = _place(tl.max(bound, 0))
            late = tl.sum(tl.where(tile == pick // BLOCK_M, compared, 0), 0)


@triton.jit
def _catch_up(
    rows_ptr, gap_ptr, order_ptr, tile, begin, end, count,
    TYPE: tl.constexpr, WIDTH: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, VALUES: tl.constexpr,
):  # fmt: skip
    """Compares the rows of a tile with the chosen from ``begin`` to ``end``; key of the farthest row."""
    LOWEST: tl.constexpr = -(1 << 63)
    WORDS: tl.constexpr = BLOCK_D // VALUES
    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    valid = m < count
    d = tl.arange(0, WORDS)
    mine = rows_ptr + m.to(tl.int64)[:, None] * (WIDTH // VALUES) + d[None, :]
    rows = values_of(tl.load(mine, mask=valid[:, None], other=0), TYPE, VALUES)
    gap = tl.load(gap_ptr + m, mask=valid & (begin > 0), other=float("inf"))
    for i in range(begin, end):
        point = tl.load(order_ptr + i)
        chosen = rows_ptr + point.to(tl.int64) * (WIDTH // VALUES) + d
        square = _squares(rows, tl.load(chosen), TYPE, VALUES)
        for part in tl.static_range(WORDS, WIDTH // VALUES, WORDS):  # more channels than a tile has
            more = values_of(tl.load(mine + part, mask=valid[:, None], other=0), TYPE, VALUES)
            square += _squares(more, tl.load(chosen + part), TYPE, VALUES)
        gap = tl.where(m == point, -1.0, tl.minimum(gap, square))
    tl.store(gap_ptr + m, gap, mask=valid)
    return tl.max(tl.where(valid, _key(gap, m), LOWEST), 0)


@triton.jit
def _squares(rows, centre, TYPE: tl.constexpr, VALUES: tl.constexpr):
    """Squared distances of rows, values of their words, to a row of words."""
    its = values_of(centre, TYPE, VALUES)
    e = rows[0] - its[0][None, :]
    total = e * e
    if VALUES == 2:
        e = rows[1] - its[1][None, :]
        total = tl.fma(e, e, total)
    return tl.sum(total, 1)


@triton.jit
def _walk_in_place(
    embedding_ptr, index_ptr, gap_ptr, chosen_ptr, pick, steps, count, D, stride_d, stride_p, BLOCK_M: tl.constexpr
):  # fmt: skip
    """The steps of a frame that has no rows, each over all candidates."""
    LOWEST: tl.constexpr = -(1 << 63)
    for k in range(steps):
        pixel = tl.load(index_ptr + pick)
        tl.store(chosen_ptr + k, pixel.to(tl.int64))
        best = tl.full((BLOCK_M,), LOWEST, tl.int64)
        for start in range(0, count, BLOCK_M):
            m = start + tl.arange(0, BLOCK_M)
            valid = m < count
            square = _squares_in_place(embedding_ptr, index_ptr, pixel, m, valid, D, stride_d, stride_p)
            gap = tl.load(gap_ptr + m, mask=valid & (k > 0), other=float("inf"))
            gap = tl.where(m == pick, -1.0, tl.minimum(gap, square))
            tl.store(gap_ptr + m, gap, mask=valid)
            best = tl.maximum(best, tl.where(valid, _key(gap, m), LOWEST))
        pick = _place(tl.max(best, 0))


@triton.jit
def _squares_in_place(embedding_ptr, index_ptr, pixel, m, valid, D, stride_d, stride_p):
    """Squared distances of candidates m to a pixel, threads side by side along m."""
    STEP: tl.constexpr = 8  # channels, so that as many loads are under way
    total = tl.zeros(m.shape, tl.float32)
    mine = embedding_ptr + tl.load(index_ptr + m, mask=valid, other=0).to(tl.int64) * stride_p
    chosen = embedding_ptr + pixel.to(tl.int64) * stride_p
    for start in range(0, D, STEP):
        for i in tl.static_range(STEP):
            line = tl.minimum(start + i, D - 1).to(tl.int64) * stride_d
            e = tl.load(mine + line, mask=valid, other=0.0).to(tl.float32)
            e -= tl.load(chosen + line).to(tl.float32)
            total += tl.where(start + i < D, e * e, 0.0)
    return total


@triton.jit
def _key(value, place):
    """Integers in the order of the values, and of equal values in the reverse order of their places."""
    bits = value.to(tl.int32, bitcast=True)
    order = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (order.to(tl.int64) << 32) | (0x7FFFFFFF - place).to(tl.int64)


@triton.jit
def _place(key):
    return 0x7FFFFFFF - (key & 0x7FFFFFFF).to(tl.int32)


_KINDS = {
    "candidates_ptr": "*i1", "found_ptr": "*i32", "index_ptr": "*i32", "count_ptr": "*i32", "gap_ptr": "*fp32",
    "order_ptr": "*i32", "chosen_ptr": "*i64", "stride_n": "i64",
}  # fmt: skip
_NAMES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def _variant(function: Any, kind: str, note: str, num_warps: int = 4, **constants: Any) -> Variant:
    words = "*i32" if function is _sample and kind != "fp32" else f"*{kind}"
    types = _KINDS | dict.fromkeys(("embedding_ptr", "priority_ptr"), f"*{kind}") | {"rows_ptr": words}
    signature = {name: types.get(name, "i32") for name in function.arg_names}
    signature |= dict.fromkeys(constants, "constexpr")
    return Variant(function, signature, constants, num_warps=num_warps, note=note)


def _sample_variant(kind: str, d: int, note: str, *, in_place: bool = False) -> Variant:
    constants = {"TYPE": WORD_TYPES[_NAMES[kind]], "TILES": 128, "IN_PLACE": in_place, "stride_p": 1}
    return _variant(_sample, kind, note, **constants, **_tiling(d, half=kind != "fp32", in_place=in_place))


def _variants(kind: str, d: int) -> Iterator[Variant]:
    note, tiling = f"{kind}, D = {d}", _tiling(d, half=kind != "fp32", in_place=False)
    tile = {name: tiling[name] for name in ("WIDTH", "BLOCK_D")}
    yield _variant(_gather, kind, note, CHUNK=_CHUNK, stride_p=1, **tile)
    yield _sample_variant(kind, d, note)


VARIANTS = (
    _variant(_count, "fp32", "any type", CHUNK=_CHUNK),
    *_variants("bf16", 64),
    *_variants("fp16", 64),
    *_variants("fp32", 64),
    *_variants("fp32", 16),
    *_variants("fp32", 256),
    *(_sample_variant(kind, 64, f"{kind}, in place", in_place=True) for kind in ("bf16", "fp32")),
)
