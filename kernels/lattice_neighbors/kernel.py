"""Neighbours of lattice points in Triton: a binary search for every point and axis.

Keys are linear in the point, so the questions along an axis are asked in the order of the sorted list: the searches of
a warp walk the same path until their last steps, and the list (8 bytes a point) stays in L2. Only the step ahead is
searched; who finds a neighbour also writes the step back, which no other program does. Compulsory traffic is 8 bytes to
read and 8 (d + 1) to write a point: for a frame of 480 x 854 with 0.8 points a pixel and d = 5, 18 MB; filling the
result with "none" first adds 16 MB.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.packing import packing
from gpuvos.kernels.permutohedral_lattice.kernel import axis_step
from gpuvos.kernels.static import Variant

BLOCK = 256


def lattice_neighbors(key: Tensor, extent: list[float], frames: int, capacity: int) -> Tensor:
    """See ``reference.lattice_neighbors``."""
    axes = len(extent) + 1
    neighbor = torch.full((2, axes, capacity), capacity, dtype=torch.int32, device=key.device)
    known = min(capacity, len(key))
    if known:
        _search[(triton.cdiv(known, BLOCK), axes)](
            key.contiguous(), neighbor, known, capacity, packing(extent, frames).word,
            D=len(extent), STEPS=known.bit_length(), BLOCK=BLOCK, num_warps=4,
        )  # fmt: skip
    return neighbor


@triton.jit
def _search(
    key_ptr,  # [known...]
    neighbor_ptr,  # [2, D + 1, capacity]
    known,
    capacity,
    word: tl.int64,
    D: tl.constexpr,
    STEPS: tl.constexpr,  # of the search, enough for ``known`` points
    BLOCK: tl.constexpr,
):
    NO_POINT: tl.constexpr = 9223372036854775807
    axis = tl.program_id(1)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(key_ptr + i, mask=i < known, other=NO_POINT)
    real = key != NO_POINT
    wanted = tl.where(real, key, 0) + axis_step(axis, word, D)
    low = tl.zeros((BLOCK,), tl.int32)
    high = tl.zeros((BLOCK,), tl.int32) + known
    for _ in range(STEPS):
        middle = low + (high - low) // 2
        less = tl.load(key_ptr + middle, mask=middle < high, other=NO_POINT) < wanted
        low = tl.where(less, middle + 1, low)
        high = tl.where(less, high, middle)
    valid = real & (low < known)
    valid = valid & (tl.load(key_ptr + low, mask=valid, other=NO_POINT) == wanted)
    ahead = neighbor_ptr + axis.to(tl.int64) * capacity
    back = ahead + (tl.num_programs(1).to(tl.int64) * capacity)
    tl.store(ahead + i, low, mask=valid)
    tl.store(back + low, i, mask=valid)


_SIGNATURE = {
    "key_ptr": "*i64", "neighbor_ptr": "*i32", "known": "i32", "capacity": "i32", "word": "i64",
    "D": "constexpr", "STEPS": "constexpr", "BLOCK": "constexpr",
}  # fmt: skip
VARIANTS = tuple(Variant(_search, _SIGNATURE, {"D": d, "STEPS": 21, "BLOCK": BLOCK}, note=f"d = {d}") for d in (3, 5))
