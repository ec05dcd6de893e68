"""Greedy farthest-point sampling among candidates, in Triton: one program a frame walks all K dependent steps.

Candidates are few and scattered, and channels lie P apart, so every element of theirs is in a sector of its own. They
are therefore put side by side first, in the order of their indices and without a shape that depends on their number:
``_count`` counts those of every CHUNK pixels; ``_gather`` adds up the counts before its own chunk and writes indices
and embeddings to their places. ``_sample`` then works on rows of D channels: up to HELD candidates stay in registers
with their distances, and a step is one row read and one arg-max; more are read anew every step, the next tile on its
way into shared memory while one is worked on. The arg-max is a maximum of 64-bit keys, value above place, the largest
of which is the lowest place of the highest value.

The rows have room for a sixteenth of the pixels (without ties a 9 x 9 window has a candidate in 25 pixels at most). A
frame with more, flat in large parts, is sampled where it lies: so many pixels fill the sectors that are read.

Bytes that must move, a frame of P pixels and M candidates: mask, embedding and priority, P + M (D s + 4); 480 x 854,
M = 5000, D = 64, bfloat16: 1.1 MB. It moves 2 P + M (32 D + 2 D s + 40), a sector for every element, then rows written
and read: 12.5 MB (3 microseconds at 4.3 TB/s). Time goes into K dependent steps: about 1.1 microseconds each up to HELD
candidates (0.76 of them instructions, in float32 1.2), else M (D s + 8) bytes at the 64 bytes a cycle that one
multiprocessor draws from L2, 6 microseconds for 5000 candidates; both by count of instructions and bytes, not measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.static import Variant

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
    tiling = _tiling(d, in_place=False)
    chunk = min(_CHUNK, triton.next_power_of_2(p))
    chunks = triton.cdiv(p, chunk)
    found = embedding.new_empty((n, chunks), dtype=torch.int32)
    index = embedding.new_empty((n, p), dtype=torch.int32)
    count = embedding.new_empty((n,), dtype=torch.int32)
    rows = embedding.new_empty((n, room, tiling["WIDTH"]))
    gap = embedding.new_empty((n, p), dtype=torch.float32)
    _count[(n * chunks,)](candidates, found, p, CHUNK=chunk, num_warps=4)
    _gather[(n * chunks,)](
        embedding, candidates, found, index, count, rows, d, p, room, *embedding.stride(),
        CHUNK=chunk, WIDTH=tiling["WIDTH"], BLOCK_D=tiling["BLOCK_D"], num_warps=4,
    )  # fmt: skip
    for in_place in (False, True)[: 1 + (room < p)]:
        _sample[(n,)](
            embedding, rows, index, count, priority, gap, chosen, num_points, d, p, room, *embedding.stride(),
            IN_PLACE=in_place, **_tiling(d, in_place=in_place), enable_fp_fusion=True,
        )  # fmt: skip
    return chosen


def _tiling(d: int, *, in_place: bool) -> dict[str, int]:
    """Constants of ``_sample``: 64 elements a thread and tile, twice as many of rows that are held."""
    block_d = max(16, min(128, triton.next_power_of_2(d)))
    width = triton.cdiv(d, block_d) * block_d
    if in_place:  # channels are walked one by one
        tile = {"BLOCK_M": 1024, "HELD": 0, "STAGES": 1, "num_warps": 16}
    else:
        block_m = min(256, 16384 // block_d)
        whole = width == block_d
        tile = {"BLOCK_M": block_m, "HELD": 2 * block_m * whole, "STAGES": 1 + whole, "num_warps": 8}
    return {"WIDTH": width, "BLOCK_D": block_d, **tile}


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
    rows_ptr,  # [N, room, WIDTH]
    index_ptr,  # [N, P] int32
    count_ptr,  # [N] int32
    priority_ptr,  # [N, P]
    gap_ptr,  # [N, P]: of every candidate, the squared distance to the nearest that is chosen; -1 of those
    chosen_ptr,  # [N, K] int64
    K,
    D,
    P,
    room,
    stride_n,
    stride_d,
    stride_p,
    WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    HELD: tl.constexpr,
    STAGES: tl.constexpr,
    IN_PLACE: tl.constexpr,
):
    """One program a frame. Frames with more candidates than rows are those of IN_PLACE."""
    LOWEST: tl.constexpr = -(1 << 63)
    n = tl.program_id(0).to(tl.int64)
    embedding_ptr += n * stride_n
    rows_ptr += n * room * WIDTH
    index_ptr += n * P
    priority_ptr += n * P
    gap_ptr += n * P
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
        walked = tl.where(count > HELD, steps, 0)
        _walk(
            embedding_ptr, rows_ptr, index_ptr, gap_ptr, chosen_ptr, pick, walked, count, D, stride_d, stride_p,
            WIDTH, BLOCK_M, BLOCK_D, STAGES, IN_PLACE,
        )  # fmt: skip
        if HELD > 0:
            _walk_held(rows_ptr, index_ptr, chosen_ptr, pick, steps - walked, count, WIDTH, HELD)


@triton.jit
def _walk_held(rows_ptr, index_ptr, chosen_ptr, pick, steps, count, WIDTH: tl.constexpr, HELD: tl.constexpr):
    """The steps with all rows and gaps in registers."""
    LOWEST: tl.constexpr = -(1 << 63)
    m = tl.arange(0, HELD)
    d = tl.arange(0, WIDTH)
    rows = tl.load(rows_ptr + m[:, None] * WIDTH + d[None, :], mask=(m < count)[:, None], other=0.0).to(tl.float32)
    gap = tl.full((HELD,), float("inf"), tl.float32)
    for k in range(steps):
        tl.store(chosen_ptr + k, tl.load(index_ptr + pick).to(tl.int64))
        e = rows - tl.load(rows_ptr + pick * WIDTH + d).to(tl.float32)[None, :]
        gap = tl.where(m == pick, -1.0, tl.minimum(gap, tl.sum(e * e, 1)))
        pick = _place(tl.max(tl.where(m < count, _key(gap, m), LOWEST), 0))


@triton.jit
def _walk(
    embedding_ptr,
    rows_ptr,
    index_ptr,
    gap_ptr,
    chosen_ptr,
    pick,
    steps,
    count,
    D,
    stride_d,
    stride_p,
    WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    STAGES: tl.constexpr,
    IN_PLACE: tl.constexpr,
):
    """The steps of a frame, each over all candidates."""
    LOWEST: tl.constexpr = -(1 << 63)
    for k in range(steps):
        pixel = tl.load(index_ptr + pick)
        tl.store(chosen_ptr + k, pixel.to(tl.int64))
        best = tl.full((BLOCK_M,), LOWEST, tl.int64)
        for start in tl.range(0, count, BLOCK_M, num_stages=STAGES):
            m = start + tl.arange(0, BLOCK_M)
            valid = m < count
            if IN_PLACE:
                square = _squares_in_place(embedding_ptr, index_ptr, pixel, m, valid, D, stride_d, stride_p)
            else:
                square = _squares(rows_ptr, pick, m, valid, WIDTH, BLOCK_D)
            gap = tl.load(gap_ptr + m, mask=valid & (k > 0), other=float("inf"))
            gap = tl.where(m == pick, -1.0, tl.minimum(gap, square))
            tl.store(gap_ptr + m, gap, mask=valid)
            best = tl.maximum(best, tl.where(valid, _key(gap, m), LOWEST))
        tl.debug_barrier()  # the next step may read what another thread has stored
        pick = _place(tl.max(best, 0))


@triton.jit
def _squares(rows_ptr, pick, m, valid, WIDTH: tl.constexpr, BLOCK_D: tl.constexpr):
    """Squared distances of rows m to row ``pick``."""
    total = tl.zeros(m.shape, tl.float32)
    for part in tl.static_range(0, WIDTH, BLOCK_D):
        d = part + tl.arange(0, BLOCK_D)
        centre = tl.load(rows_ptr + pick.to(tl.int64) * WIDTH + d).to(tl.float32)
        e = tl.load(rows_ptr + m.to(tl.int64)[:, None] * WIDTH + d[None, :], mask=valid[:, None], other=0.0)
        e = e.to(tl.float32) - centre[None, :]
        total += tl.sum(e * e, 1)
    return total


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


_TYPES = {
    "candidates_ptr": "*i1", "found_ptr": "*i32", "index_ptr": "*i32", "count_ptr": "*i32", "gap_ptr": "*fp32",
    "chosen_ptr": "*i64", "stride_n": "i64",
}  # fmt: skip


def _variant(function: Any, kind: str, note: str, num_warps: int = 4, **constants: Any) -> Variant:
    types = _TYPES | dict.fromkeys(("embedding_ptr", "rows_ptr", "priority_ptr"), f"*{kind}")
    signature = {name: types.get(name, "i32") for name in function.arg_names}
    signature |= dict.fromkeys(constants, "constexpr")
    return Variant(function, signature, constants, num_warps=num_warps, note=note)


def _variants(kind: str, d: int) -> Iterator[Variant]:
    note, tiling = f"{kind}, D = {d}", _tiling(d, in_place=False)
    tile = {name: tiling[name] for name in ("WIDTH", "BLOCK_D")}
    yield _variant(_gather, kind, note, CHUNK=_CHUNK, stride_p=1, **tile)
    yield _variant(_sample, kind, note, IN_PLACE=False, stride_p=1, **tiling)


VARIANTS = (
    _variant(_count, "fp32", "any type", CHUNK=_CHUNK),
    *_variants("bf16", 64),
    *_variants("fp32", 64),
    *_variants("fp32", 16),
    *_variants("fp32", 256),
    *(
        _variant(_sample, kind, f"{kind}, in place", IN_PLACE=True, stride_p=1, **_tiling(64, in_place=True))
        for kind in ("bf16", "fp32")
    ),
)
