"""Lists of the seeds of two sets, as the search for the nearest seed walks them.

For each of the two sets of a frame ``list_seeds`` writes its seeds in the order of their numbers (of equal seeds only
the lowest) with the constant part of their scores, then rows of zeros that are further than any seed. Lists instead of
masks: a seed that is in one set, as on the method's path, is compared once with a pixel, and a seed that is in none
costs nothing.

The score is ``|s - c|^2 - 2 (e - c).(s - c)`` with the mean c of the seeds for float32. For half types it is
``|s - c|^2 + 2 c.(s - c) - 2 e.(s - c)``: the pixels stay as they came, and c is kept only in channels where every
``s - c`` is a number of that type, so that the factors of one half-precision product are exact and only its sum, in
float32, rounds. Where a channel is not centred some seed is not within a factor of two of c, so c is at most twice the
largest difference and there is no cancellation to mend.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.static import Variant

BLOCK_P, BLOCK_K = 64, 32  # pixels of a program (of four warps), and seeds of a step
HALF_P, HALF_K = 128, 64  # of half types; with more than 64 channels BLOCK_P pixels
_FURTHEST = tl.constexpr(3e38)  # the score of a place without a seed
_FACTORS = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


class Lists(NamedTuple):
    """The two sets of every frame; L is a power of two that holds K, C is D rounded up as the search cuts it."""

    rows: Tensor  # [N, 2, L, C]: s - c, in the type of the product
    offset: Tensor  # [N, 2, L] float32: the rest of the score
    number: Tensor  # [N, 2, L] int32: which seed
    size: Tensor  # [N, 2] int32: how many
    centre: Tensor  # [N, C] float32: what pixels are centred by
    table: Tensor  # [N, L, C]: the seeds by number as they came


def search_constants(d: int, factor: torch.dtype) -> dict[str, Any]:
    """Constants of a kernel that searches: how the channels are cut, and the type of the product.

    Channels are in one piece, which is read once, or in several, which every step reads again. The embedding of a
    program is at most 16 KiB, so that three programs or more share a multiprocessor.
    """
    whole = max(16, triton.next_power_of_2(d))
    half = factor != torch.float32
    fits = whole <= (128 if half else 64)
    # the interpreter would multiply the bits of bfloat16 as integers; in float32 the product is the same
    wide = not isinstance(_list_seeds, triton.runtime.JITFunction)
    return {
        "BLOCK_P": HALF_P if half and whole <= 64 else BLOCK_P,
        "BLOCK_K": HALF_K if half and fits else BLOCK_K,
        "BLOCK_D": whole if fits else 32,
        "PARTS": 1 if fits else triton.cdiv(d, 32),
        "FACTOR": _FACTORS[torch.float32 if wide else factor],
        "num_warps": 4,
        "num_stages": 2 if fits else 1,
    }


def list_length(k: int) -> int:
    """L, the room of a list."""
    return max(BLOCK_K, HALF_K, int(triton.next_power_of_2(k)))


def list_seeds(
    embedding: Tensor, seed_embedding: Tensor, foreground: Tensor, background: Tensor
) -> tuple[Lists, dict[str, Any]]:
    """Launches the kernel that lists the seeds of both sets; also what a kernel that searches them needs."""
    n, k, d = seed_embedding.shape
    half = embedding.dtype.itemsize == 2 and embedding.dtype == seed_embedding.dtype
    factor = embedding.dtype if half else torch.float32
    constants = search_constants(d, factor) | {"L": list_length(k)}
    length, channels = constants["L"], constants["PARTS"] * constants["BLOCK_D"]
    lists = Lists(
        rows=seed_embedding.new_empty((n, 2, length, channels), dtype=factor),
        offset=seed_embedding.new_empty((n, 2, length), dtype=torch.float32),
        number=seed_embedding.new_empty((n, 2, length), dtype=torch.int32),
        size=seed_embedding.new_empty((n, 2), dtype=torch.int32),
        centre=seed_embedding.new_empty((n, channels), dtype=torch.float32),
        table=seed_embedding.new_empty((n, length, channels)),
    )
    scratch = torch.empty_like(lists.offset)
    _list_seeds[(2 * n,)](
        seed_embedding.contiguous(), *(mask.contiguous().view(torch.uint8) for mask in (foreground, background)),
        scratch, *lists, k, d, L=length, C=channels, num_warps=_list_warps(length), enable_fp_fusion=True,
    )  # fmt: skip
    return lists, constants


def _list_warps(length: int) -> int:
    return 4 if length < 128 else 8 if length < 512 else 16


@triton.jit
def _offsets(k, member, seeds_ptr, centre_ptr, table_ptr, D, C: tl.constexpr, STEP: tl.constexpr, TYPE: tl.constexpr):
    """Constant parts of the scores ``[L]``; writes the centre and the table."""
    members = tl.maximum(tl.sum(member.to(tl.int32), 0), 1)
    offset = tl.zeros(k.shape, tl.float32)
    for start in range(0, C, STEP):
        d = start + tl.arange(0, STEP)
        s = tl.load(seeds_ptr + k[:, None] * D + d[None, :], member[:, None] & (d < D)[None, :], 0)
        tl.store(table_ptr + k[:, None] * C + d[None, :], s)  # the same by both programs of the frame
        s = s.to(tl.float32)
        centre = tl.sum(s, 0) / members
        if TYPE == tl.float32:
            shifted = s - centre[None, :]
            offset += tl.sum(shifted * shifted, 1)
        else:
            centre = centre.to(TYPE).to(tl.float32)
            shifted = s - centre[None, :]
            rounded = (shifted.to(TYPE).to(tl.float32) != shifted) & member[:, None]
            centre = tl.where(tl.max(rounded.to(tl.int32), 0) > 0, 0.0, centre)
            shifted = s - centre[None, :]
            offset += tl.sum(shifted * (shifted + 2 * centre[None, :]), 1)  # the pixels are not centred
        tl.store(centre_ptr + d, centre)
    return offset


@triton.jit
def _write_rows(k, place, listed, table_ptr, centre_ptr, rows_ptr, C: tl.constexpr, STEP: tl.constexpr):
    """Writes the listed seeds without the centre to their places, and 0 to the others."""
    for start in range(0, C, STEP):
        d = start + tl.arange(0, STEP)
        s = tl.load(table_ptr + k[:, None] * C + d[None, :]).to(tl.float32)
        row = (s - tl.load(centre_ptr + d)[None, :]).to(rows_ptr.dtype.element_ty)
        tl.store(rows_ptr + place[:, None] * C + d[None, :], tl.where(listed[:, None], row, 0))


@triton.jit
def _list_seeds(
    seeds_ptr,  # [N, K, D]
    foreground_ptr,  # [N, K] 0 or 1
    background_ptr,
    scratch_ptr,  # [N, 2, L]
    rows_ptr,
    offset_ptr,
    number_ptr,
    size_ptr,
    centre_ptr,
    table_ptr,
    K,
    D,
    L: tl.constexpr,
    C: tl.constexpr,
):
    """One program for each set of a frame."""
    STEP: tl.constexpr = 8  # channels, then seeds
    part = tl.program_id(0).to(tl.int64)
    frame, background = part // 2, part % 2 == 1
    seeds_ptr += frame * K * D
    foreground_ptr += frame * K
    background_ptr += frame * K
    centre_ptr += frame * C
    table_ptr += frame * L * C
    rows_ptr += part * L * C
    scratch_ptr += part * L
    k = tl.arange(0, L)
    in_fg = tl.load(foreground_ptr + k, k < K, 0).to(tl.int32)
    in_bg = tl.load(background_ptr + k, k < K, 0).to(tl.int32)
    member = (in_fg | in_bg) != 0
    offset = _offsets(k, member, seeds_ptr, centre_ptr, table_ptr, D, C, STEP, rows_ptr.dtype.element_ty)
    tl.store(scratch_ptr + k, offset)
    tl.debug_barrier()  # what other threads wrote is read from here on

    # Equal seeds have equal offsets, so hardly any two are compared channel by channel.
    listed = tl.where(background, in_bg, in_fg)
    for start in range(0, K, STEP):
        j = start + tl.arange(0, STEP)
        other = tl.load(tl.where(background, background_ptr, foreground_ptr) + j, j < K, 0) != 0
        same = offset[:, None] == tl.load(scratch_ptr + j, j < K, 0)[None, :]
        same = same & other[None, :] & (j[None, :] < k[:, None])
        if tl.max(tl.max(same.to(tl.int32), 1), 0) > 0:
            for d in range(D):
                s = tl.load(table_ptr + k * C + d)
                same = same & (s[:, None] == tl.load(table_ptr + j * C + d, j < K, 0)[None, :])
            listed = tl.where(tl.max(same.to(tl.int32), 1) > 0, 0, listed)
    before = tl.cumsum(listed, 0)
    size = tl.sum(listed, 0)
    place = tl.where(listed != 0, before - 1, size + k - before)
    tl.store(size_ptr + part, size)
    tl.store(offset_ptr + part * L + place, tl.where(listed != 0, offset, _FURTHEST))
    tl.store(number_ptr + part * L + place, k)
    _write_rows(k, place, listed != 0, table_ptr, centre_ptr, rows_ptr, C, STEP)


def _variant(seeds: str, rows: str, k: int, c: int) -> Variant:
    pointers = ("seeds", "foreground", "background", "scratch", *Lists._fields)
    types = (seeds, "u8", "u8", "fp32", rows, "fp32", "i32", "i32", "fp32", seeds)
    signature = {f"{name}_ptr": f"*{kind}" for name, kind in zip(pointers, types, strict=True)}
    signature |= {"K": "i32", "D": "i32", "L": "constexpr", "C": "constexpr"}
    length = list_length(k)
    constants = {"L": length, "C": c}
    return Variant(_list_seeds, signature, constants, _list_warps(length), note=f"{seeds}, C = {c}, K = {k}")


VARIANTS = (
    _variant("bf16", "bf16", 100, 64),
    _variant("fp16", "fp16", 20, 64),
    _variant("fp32", "fp32", 300, 64),
    _variant("bf16", "bf16", 400, 256),
)
