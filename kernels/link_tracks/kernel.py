"""Eq. 9 in Triton: one program a track, which it follows through all frames.

Design. A track needs nothing of the others, so the T dependent steps of all tracks run in one launch side by side: N K
programs, each with the mean of its members in registers. A step reads the seeds of one frame, which all programs of a
video read at about the same time, takes the smallest 64-bit key of squared distance and number, and reads that seed
again. Distances are sums of squared differences: the product form of a matrix unit loses the digits of small ones.

Bytes that must move: ``N T K (b D + 9)``, b bytes an element; 3.2 MB for 80 frames, K = 300, D = 64 in bfloat16. Every
program draws its video's ``T K D b`` from L2 (0.3 GB for 80 frames and K = 100 in bfloat16), and the steps depend on
one another: about 2 microseconds each up to K = 128, by count of instructions, not measured.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.static import Variant


def link_tracks(embedding: Tensor, valid: Tensor, to_mean: bool) -> Tensor:
    """Takes and returns what the reference does; equal distances after rounding go to the lower number in both."""
    n, t, k, d = embedding.shape
    tracks = valid.new_empty((n, t, k), dtype=torch.int64)
    if tracks.numel() == 0:
        return tracks
    _link_tracks[(n * k,)](
        embedding.contiguous(), valid.contiguous(), tracks, t, k, d,
        TO_MEAN=to_mean, **_tiling(d), num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    return tracks


def _tiling(d: int) -> dict[str, int]:
    """Constants of the kernel: a tile of 2048 elements, 16 a thread."""
    width = max(16, triton.next_power_of_2(d))
    return {"WIDTH": width, "BLOCK_K": max(4, 2048 // width)}


@triton.jit(do_not_specialize=("T", "K", "D"))
def _link_tracks(
    embedding_ptr,  # [N, T, K, D]
    valid_ptr,  # [N, T, K] bool
    tracks_ptr,  # [N, T, K] int64
    T,
    K,
    D,
    TO_MEAN: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One program the track of one seed of frame 0."""
    LAST: tl.constexpr = 0x7FFFFFFFFFFFFFFF
    video = (tl.program_id(0) // K).to(tl.int64)
    start = tl.program_id(0) % K
    embedding_ptr += video * T * K * D
    valid_ptr += video * T * K
    tracks_ptr += video * T * K + start
    d = tl.arange(0, WIDTH)
    total = tl.load(embedding_ptr + start.to(tl.int64) * D + d, d < D, 0.0).to(tl.float32)
    length = tl.full((WIDTH,), 1.0, tl.float32)
    sought = total
    goes_on = tl.load(valid_ptr + start) != 0
    tl.store(tracks_ptr, tl.where(goes_on, start, -1).to(tl.int64))
    for _ in range(1, T):
        embedding_ptr += K * D
        valid_ptr += K
        tracks_ptr += K
        best = tl.full((BLOCK_K,), LAST, tl.int64)
        for first in range(0, K, BLOCK_K):
            seed = first + tl.arange(0, BLOCK_K)
            exists = tl.load(valid_ptr + seed, seed < K, 0) != 0
            row = embedding_ptr + seed.to(tl.int64)[:, None] * D + d[None, :]
            apart = tl.load(row, exists[:, None] & (d < D)[None, :], 0.0).to(tl.float32) - sought[None, :]
            distance = tl.sum(tl.where((d < D)[None, :], apart * apart, 0.0), 1)
            # distances are not negative, so their bits are in their order
            key = (distance.to(tl.int32, bitcast=True).to(tl.int64) << 32) | seed.to(tl.int64)
            best = tl.minimum(best, tl.where(exists, key, LAST))
        nearest = tl.min(best, 0)
        goes_on = goes_on & (nearest != LAST)
        number = tl.where(nearest != LAST, nearest & 0xFFFFFFFF, 0)
        tl.store(tracks_ptr, tl.where(goes_on, number, -1))
        sought = tl.load(embedding_ptr + number * D + d, d < D, 0.0).to(tl.float32)
        if TO_MEAN:
            total, length = total + sought, length + 1
            sought = tl.div_rn(total, length)


def _variants() -> list[Variant]:
    signature = {"valid_ptr": "*i1", "tracks_ptr": "*i64", "T": "i32", "K": "i32", "D": "i32"}
    signature |= {"TO_MEAN": "constexpr", "WIDTH": "constexpr", "BLOCK_K": "constexpr"}
    return [
        Variant(
            _link_tracks,
            {"embedding_ptr": f"*{dtype}", **signature},
            {"TO_MEAN": to_mean, **_tiling(d)},
            note=f"{dtype}, D = {d}, {'mean' if to_mean else 'last'}",
        )
        for dtype in ("fp32", "bf16")
        for d in (64, 128)
        for to_mean in (True, False)
        if to_mean or d == 64
    ]


VARIANTS = tuple(_variants())
