"""Sums over labelled regions in Triton.

Design. Labels are regions of an image, so a tile of 16 x 16 pixels, or a run of 256 where no width is given, holds few
different ones (a tile about (1 + 16 / s)^2 of regions s wide, a run 1 + 256 / s). A program of one warp walks a chunk
of the tiles of one frame for BLOCK_C channels: it takes the lowest label left in the tile, adds the pixels that have it
by a fixed tree, adds that to its K accumulators in registers, and goes on until no label is left. A second launch adds
the chunks in order. Up to three tensors of values take one launch: programs that follow one another take the same
labels and channels of one tensor each, so labels come from memory once. No atomics, and nothing depends on how programs
are scheduled: the same bits on every run, whatever the number of frames. Labels in no order cost a round each, K a tile
at most.

A one-hot matrix product was the alternative: exact in float32 it is K multiplications a value, 200 flops for 4 bytes
at K = 100, and K comparisons a pixel build its factor; here it is a comparison and an addition for each label there is.

Bytes that must move: ``N P (8 + b C) + N K (4 C + 8)`` for values of b bytes. Bytes moved: the labels once for every
BLOCK_C channels (after the first time from L2), and ``8 N K (C + 1) P / 2048`` for the chunks. For the flow of one
frame of 480 x 854, K = 100 (C = 2, b = 4): 6.6 MB must move, 7.0 MB do; with C = 64 in bfloat16 55.8 MB and 66.1 MB.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.static import Variant

_BLOCK_P = 256  # pixels of a tile, eight of a thread
_SIDE = 16  # of a tile in an image
_TILES = 8  # of a chunk
_CHUNKS = 36  # of a frame at least, 2,880 programs for 80 frames


def region_sum(
    values: Tensor,
    label: Tensor,
    num_regions: int,
    width: int = 0,
    second: Tensor | None = None,
    third: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Takes and returns what the reference does; a frame's sums do not depend on the other frames."""
    given = [part for part in (values, second, third) if part is not None]
    return _added(*_partials(given, label, num_regions, values, values, weighted=False, width=width))


def difference_sum(values: Tensor, labels: tuple[Tensor, ...], weights: tuple[Tensor, ...], origin: Tensor) -> Tensor:
    """``weight (values - origin[label])`` summed over regions and over the pairs of label and weight.

    Args:
        values: ``[N, C, P]``.
        labels: ``[N, P]`` integers each; those outside of ``[0, K)`` are left out.
        weights: ``[N, P]`` float32 each.
        origin: ``[N, K, C]``.

    Returns:
        ``[N, K, C]`` float32.
    """
    pairs = zip(labels, weights, strict=True)
    parts = [_partials([values], label, origin.shape[1], w, origin, weighted=True) for label, w in pairs]
    partial, counts = (torch.cat(some, 1) for some in zip(*parts, strict=True))
    return _added(partial, counts)[0]


def _cut(c: int, k: int, tiles: int, *, weighted: bool) -> dict[str, int]:
    """Sizes of a program: at most 32 accumulators a thread, and chunks so long that their sums are worth writing.

    A frame of few pixels is cut into ``_CHUNKS`` all the same, so that a video fills a device. That depends on the
    frame alone, so its bits do not depend on the number of frames.
    """
    block_k = max(16, triton.next_power_of_2(k))
    block_c = max(1, min(2 if weighted else 4, triton.next_power_of_2(c), 1024 // block_k))
    return {
        "BLOCK_K": block_k,
        "BLOCK_C": block_c,
        "BLOCK_P": _BLOCK_P,
        "TILES": min(max(_TILES, block_k // 16), max(1, triton.cdiv(tiles, _CHUNKS))),
        "num_warps": 1 if block_k <= 1024 else 4,
    }


def _partials(
    given: list[Tensor], label: Tensor, k: int, weight: Tensor, origin: Tensor, *, weighted: bool, width: int = 0
) -> tuple[Tensor, Tensor]:
    """Sums and counts of every chunk of pixels: ``[N, chunks, K, C]`` float32, ``[N, chunks, K]`` int32."""
    given = _alike(given)
    n, _, p = given[0].shape
    channels = [part.shape[1] for part in given]
    image = width >= _SIDE and p % width == 0
    side, across = (_SIDE, width) if image else (_BLOCK_P, p)  # of a tile, of a row
    tiles = triton.cdiv(across, side) * triton.cdiv(p // max(1, across), _BLOCK_P // side)
    cut = _cut(max(channels), k, tiles, weighted=weighted)
    chunks = triton.cdiv(tiles, cut["TILES"])
    partial = label.new_empty((n, chunks, k, sum(channels)), dtype=torch.float32)
    counts = label.new_empty((n, chunks, k), dtype=torch.int32)
    if counts.numel():
        groups = sum(triton.cdiv(c, cut["BLOCK_C"]) for c in channels)
        first, second, third = (*given, *given[:1] * 2)[:3]
        _partial_sums[(n * chunks * max(1, groups),)](
            first, second, third, label.contiguous(), weight.contiguous() if weighted else weight,
            origin.contiguous() if weighted else origin, partial, counts, k, *(*channels, 0, 0)[:3], p, across, tiles,
            chunks, *first.stride(), *second.stride()[:2], *third.stride()[:2], WEIGHTED=weighted, TENSORS=len(given),
            SIDE=side, enable_fp_fusion=True, **cut,
        )  # fmt: skip
    return partial, counts


def _alike(given: list[Tensor]) -> list[Tensor]:
    """Several tensors in one type, and with pixels side by side: a program picks one of them by its pointer."""
    if len(given) == 1:
        return given
    if len({part.dtype for part in given}) > 1:
        given = [part.float() for part in given]
    return [part if part.stride(2) == 1 else part.contiguous() for part in given]


def _added(partial: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over dimension 1, in order: ``[N, K, C]`` float32, ``[N, K]`` int64."""
    n, chunks, k, c = partial.shape
    total = partial.new_empty((n, k, c))
    count = counts.new_empty((n, k), dtype=torch.int64)
    if count.numel():
        _add_partials[(n * triton.cdiv(k * max(c, 1), 256),)](
            partial, counts, total, count, k, k * c, chunks, BLOCK=256, num_warps=4, enable_fp_fusion=False
        )
    return total, count


@triton.jit
def _part(value, weight, origin_ptr, c, C, WEIGHTED: tl.constexpr):
    """What is summed of a tile, as far as it has the label of the origin."""
    if WEIGHTED:
        value = weight[None, :] * (value - tl.load(origin_ptr + c, c < C, 0).to(tl.float32)[:, None])
    return value


@triton.jit
def _partial_sums(
    values_ptr,  # [N, C, P]
    second_ptr,  # [N, C2, P], where there are two tensors
    third_ptr,  # [N, C3, P], where there are three
    label_ptr,  # [N, P]
    weight_ptr,  # [N, P]
    origin_ptr,  # [N, K, C]
    partial_ptr,
    counts_ptr,
    K,
    C,
    C2,  # 0 where there is no such tensor
    C3,
    P,
    W,  # of a row
    tiles,  # of a frame
    chunks,
    stride_n,
    stride_c,
    stride_p,  # 1 where there are several tensors
    second_n,
    second_c,
    third_n,
    third_c,
    WEIGHTED: tl.constexpr,
    TENSORS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    SIDE: tl.constexpr,  # of a tile, in a row
    TILES: tl.constexpr,
):
    second = tl.cdiv(C, BLOCK_C)  # its first group
    third = second + tl.cdiv(C2, BLOCK_C)
    groups = tl.maximum(third + tl.cdiv(C3, BLOCK_C), 1)
    group = tl.program_id(0) % groups  # neighbours share labels
    chunk = tl.program_id(0) // groups  # of all frames
    frame = (chunk // chunks).to(tl.int64)
    first = chunk % chunks * TILES
    lane = tl.arange(0, BLOCK_P)
    across = tl.cdiv(W, SIDE)
    begin, own, column = 0, C, 0  # first group, channels and first column of the tensor that this program takes
    if TENSORS > 1:
        own = tl.where(group >= second, C2, C)
        begin, column = tl.where(group >= second, second, 0), tl.where(group >= second, C, 0)
        values_ptr = tl.where(group >= second, second_ptr, values_ptr)
        stride_n = tl.where(group >= second, second_n, stride_n)
        stride_c = tl.where(group >= second, second_c, stride_c)
    if TENSORS > 2:
        own = tl.where(group >= third, C3, own)
        begin, column = tl.where(group >= third, third, begin), tl.where(group >= third, C + C2, column)
        values_ptr = tl.where(group >= third, third_ptr, values_ptr)
        stride_n = tl.where(group >= third, third_n, stride_n)
        stride_c = tl.where(group >= third, third_c, stride_c)
    c = (group - begin) * BLOCK_C + tl.arange(0, BLOCK_C)
    k = tl.arange(0, BLOCK_K)
    values_ptr += frame * stride_n + c.to(tl.int64)[:, None] * stride_c
    label_ptr += frame * P
    weight_ptr += frame * P
    origin_ptr += frame * K * C
    total = tl.zeros((BLOCK_K, BLOCK_C), tl.float32)
    count = tl.zeros((BLOCK_K,), tl.int32)
    for tile in range(first, tl.minimum(first + TILES, tiles)):
        x = tile % across * SIDE + lane % SIDE
        p = (tile // across * (BLOCK_P // SIDE) + lane // SIDE) * W + x
        there = (x < W) & (p < P)
        label = tl.load(label_ptr + p, there, -1)
        left = tl.where((label >= 0) & (label < K), label, K).to(tl.int32)
        value = tl.load(values_ptr + p.to(tl.int64)[None, :] * stride_p, (c < own)[:, None] & there[None, :], 0)
        value = value.to(tl.float32)
        weight = tl.load(weight_ptr + p, there, 0).to(tl.float32) if WEIGHTED else 1.0
        lowest = tl.min(left, 0)
        while lowest < K:
            here = left == lowest
            part = _part(value, weight, origin_ptr + lowest * C, c, C, WEIGHTED)
            part = tl.sum(tl.where(here[None, :], part, 0.0), 1)
            total += tl.where((k == lowest)[:, None], part[None, :], 0.0)
            count += tl.where(k == lowest, tl.sum(here.to(tl.int32), 0), 0)
            left = tl.where(here, K, left)
            lowest = tl.min(left, 0)
    row = chunk.to(tl.int64) * K + k
    partial_ptr += row[:, None] * (C + C2 + C3) + (column + c)[None, :]
    tl.store(partial_ptr, total, (k < K)[:, None] & (c < own)[None, :])
    if group == 0:
        tl.store(counts_ptr + row, count, k < K)


@triton.jit(do_not_specialize=["K", "size", "chunks"])
def _add_partials(partial_ptr, counts_ptr, total_ptr, count_ptr, K, size, chunks, BLOCK: tl.constexpr):
    blocks = tl.cdiv(tl.maximum(size, K), BLOCK)
    frame = (tl.program_id(0) // blocks).to(tl.int64)
    place = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    partial_ptr += frame * chunks * size + place
    counts_ptr += frame * chunks * K + place
    total = tl.zeros((BLOCK,), tl.float32)
    count = tl.zeros((BLOCK,), tl.int64)
    for _ in range(chunks):
        total += tl.load(partial_ptr, place < size, 0)
        count += tl.load(counts_ptr, place < K, 0)
        partial_ptr += size
        counts_ptr += K
    tl.store(total_ptr + frame * size + place, total, place < size)
    tl.store(count_ptr + frame * K + place, count, place < K)


def _sum_variant(values: str, label: str, c: int, k: int, *, weighted: bool = False, tensors: int = 1) -> Variant:
    side = _BLOCK_P if weighted else _SIDE
    cut = _cut(c, k, 480 * 854 // _BLOCK_P, weighted=weighted) | {"SIDE": side}
    num_warps = cut.pop("num_warps")
    signature = dict.fromkeys(("values_ptr", "second_ptr", "third_ptr"), f"*{values}")
    signature |= {"label_ptr": f"*{label}", "weight_ptr": "*fp32", "origin_ptr": f"*{values}"}
    signature |= {"partial_ptr": "*fp32", "counts_ptr": "*i32"}
    signature |= dict.fromkeys(("K", "C", "C2", "C3", "P", "W", "tiles", "chunks"), "i32")
    signature |= {"stride_n": "i64", "stride_c": "i64", "stride_p": "constexpr"}
    signature |= dict.fromkeys(("second_n", "second_c", "third_n", "third_c"), "i64")
    constants = {"stride_p": 1, "WEIGHTED": weighted, "TENSORS": tensors} | cut
    signature |= dict.fromkeys(list(constants)[1:], "constexpr")
    note = f"{values}, C = {c}, K = {k}" + (", differences" if weighted else "")
    note += f", {tensors} tensors" if tensors > 1 else ""
    return Variant(_partial_sums, signature, constants, num_warps, note=note)


VARIANTS = (
    _sum_variant("fp32", "i64", 2, 100),
    _sum_variant("fp32", "i64", 2, 300, tensors=3),
    _sum_variant("bf16", "i64", 64, 100),
    _sum_variant("fp16", "i64", 64, 300),
    _sum_variant("fp32", "i64", 3, 4000),
    _sum_variant("bf16", "i32", 64, 100, weighted=True),
    _sum_variant("fp32", "i64", 52, 300, weighted=True),
    Variant(
        _add_partials,
        {"partial_ptr": "*fp32", "counts_ptr": "*i32", "total_ptr": "*fp32", "count_ptr": "*i64", "K": "i32",
         "size": "i32", "chunks": "i32", "BLOCK": "constexpr"},
        {"BLOCK": 256},
    ),
)  # fmt: skip
