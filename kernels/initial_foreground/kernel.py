"""Eq. 11 in Triton: one pass over the pixels, with one limit a region.

Design. Whether a pixel is closer to the foreground seed than to every background seed depends on its region but for
one comparison (see the reference), so the first launch makes a limit for each of the K regions out of K x K distances
between seeds, a program 16 of them, and the second compares: a pixel looks up the limit of its label, which 4 K bytes
of L1 hold. Both in one launch would have every program read the K x K distances. Nothing of size pixels x seeds
exists, and no program writes what another one reads within a launch.

Bytes that must move, a pixel: 13 (int64 label, distance, mask), a frame: ``4 K^2 + K`` more; 5.4 MB for 480 x 854 and
K = 100, 1.2 microseconds at 4.3 TB/s. Those move, and 8 K for the limits, written and read once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.static import Variant

_BLOCK_P = 1024  # pixels of a program
_ROWS, _COLUMNS = 16, 64  # of the table, at a time


def initial_foreground(
    label: Tensor, distance: Tensor, seed_distance: Tensor, foreground_seed: Tensor, background: Tensor
) -> Tensor:
    """Takes and returns what the reference does, bit for bit, for distances of at most 32 bits."""
    n, p = label.shape
    k = background.shape[1]
    foreground = label.new_empty((n, p), dtype=torch.bool)
    if foreground.numel() == 0:
        return foreground
    limit = label.new_empty((n, k), dtype=torch.float32)
    if k:
        _limits[(n * triton.cdiv(k, _ROWS),)](
            seed_distance.contiguous(), foreground_seed.contiguous(), background.contiguous(), limit, k,
            ROWS=_ROWS, COLUMNS=_COLUMNS, num_warps=4,
        )  # fmt: skip
    _initial_foreground[(n * triton.cdiv(p, _BLOCK_P),)](
        label.contiguous(), distance.contiguous(), limit, foreground, p, k, BLOCK=_BLOCK_P, num_warps=4
    )
    return foreground


@triton.jit(do_not_specialize=("K",))
def _limits(
    between_ptr,  # [N, K, K]
    seed_ptr,  # [N] int64
    background_ptr,  # [N, K] bool
    limit_ptr,  # [N, K] float32
    K,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One program ROWS regions of a frame: the least distance to a background seed, or -1."""
    groups = tl.cdiv(K, ROWS)
    frame = (tl.program_id(0) // groups).to(tl.int64)
    row = tl.program_id(0) % groups * ROWS + tl.arange(0, ROWS)
    seed = tl.load(seed_ptr + frame)
    known = (seed >= 0) & (seed < K)
    between_ptr += (frame * K + row) * K
    near = tl.load(between_ptr + tl.where(known, seed, 0), row < K, 0).to(tl.float32)
    far = tl.full((ROWS, COLUMNS), float("inf"), tl.float32)
    for first in range(0, K, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        other = tl.load(background_ptr + frame * K + column, column < K, 0) != 0
        other = other & (column != seed)
        value = tl.load(between_ptr[:, None] + column[None, :], (row < K)[:, None] & other[None, :], float("inf"))
        far = tl.minimum(far, value.to(tl.float32))
    far = tl.min(far, 1)
    limit = tl.where(near < far, far, -1.0)
    tl.store(limit_ptr + frame * K + row, tl.where(known, limit, -1.0), row < K)


@triton.jit(do_not_specialize=("P", "K"))
def _initial_foreground(
    label_ptr,  # [N, P] int64
    distance_ptr,  # [N, P]
    limit_ptr,  # [N, K] float32
    foreground_ptr,  # [N, P] bool
    P,
    K,
    BLOCK: tl.constexpr,
):
    """One program BLOCK pixels of a frame."""
    blocks = tl.cdiv(P, BLOCK)
    frame = (tl.program_id(0) // blocks).to(tl.int64)
    pixel = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    label = tl.load(label_ptr + frame * P + pixel, pixel < P, -1)
    distance = tl.load(distance_ptr + frame * P + pixel, pixel < P, 0).to(tl.float32)
    limit = tl.load(limit_ptr + frame * K + label, (label >= 0) & (label < K), -1.0)
    tl.store(foreground_ptr + frame * P + pixel, distance < limit, pixel < P)


def _variants(distances: str) -> tuple[Variant, Variant]:
    table = {
        "between_ptr": f"*{distances}",
        "seed_ptr": "*i64",
        "background_ptr": "*i1",
        "limit_ptr": "*fp32",
    }
    table |= {"K": "i32", "ROWS": "constexpr", "COLUMNS": "constexpr"}
    pixels = {"label_ptr": "*i64", "distance_ptr": f"*{distances}", "limit_ptr": "*fp32"}
    pixels |= {"foreground_ptr": "*i1", "P": "i32", "K": "i32", "BLOCK": "constexpr"}
    return (
        Variant(_limits, table, {"ROWS": _ROWS, "COLUMNS": _COLUMNS}, note=distances),
        Variant(_initial_foreground, pixels, {"BLOCK": _BLOCK_P}, note=distances),
    )


VARIANTS = tuple(variant for distances in ("fp32", "bf16", "fp16") for variant in _variants(distances))
