"""The lattice in Triton: simplices, one sort, one pass that numbers the points.

``_enclose`` gives every pixel a thread, which holds its d + 1 fractional parts and what their axes add to a key in
registers (a tuple kept sorted by insertion, 34 registers at d = 5), and writes keys and weights corner by corner. torch
sorts the keys (radix sort of 64-bit keys with their places, stable); a flag
where a key differs from the one before and its running sum number the points; ``_number`` scatters the numbers back
and lists the keys. Arithmetic and order of ties are those of the reference: results are equal bit for bit.

Why a sort and no hash table: slots of a table depend on who comes first, a sorted list does not, neighbours are found
in it by binary search in streaming order, and its order is that in which ``lattice_filter`` sums without atomics.

A frame of 480 x 854, d = 5: E = 2.46 million corners. Compulsory: 8 MB of features to read, 8 bytes a corner (index
and weight) and 8 more for order and row to write, 47 MB in all. Moved: those, 8 passes of the radix sort of 32 bytes a
corner each (630 MB, most of the time), and about 60 bytes a corner around it (150 MB).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.packing import packing
from gpuvos.kernels.static import Variant

BLOCK_P = 128
BLOCK_E = 1024


def permutohedral_lattice(
    features: Tensor, extent: list[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See ``reference.permutohedral_lattice``."""
    n, d, p = features.shape
    pack = packing(extent, n)
    corner = features.new_empty((n, d + 1, p), dtype=torch.int64)
    weight = torch.empty_like(corner, dtype=torch.float32)
    index = torch.empty_like(corner, dtype=torch.int32)
    entries = corner.numel()
    key, order, row = (corner.new_empty((entries,), dtype=t) for t in (torch.int64, torch.int32, torch.int32))
    if entries:
        inside = features.new_empty((n, d, p), dtype=torch.float32)
        for k, largest in enumerate(extent):
            inside[:, k] = features[:, k].clamp(0, largest)
        _enclose[(triton.cdiv(p, BLOCK_P), n)](
            inside, corner, weight, p, pack.word, pack.frame,
            D=d, BLOCK=BLOCK_P, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
        ordered, places = corner.view(-1).sort(stable=True)
        head = torch.ones_like(ordered, dtype=torch.bool)
        torch.ne(ordered[1:], ordered[:-1], out=head[1:])
        _number[(triton.cdiv(entries, BLOCK_E),)](
            ordered, places, head.cumsum(0, dtype=torch.int32), index, key, order, row, entries,
            BLOCK=BLOCK_E, num_warps=4,
        )  # fmt: skip
    ends = torch.arange(n + 1, device=key.device) << pack.frame
    return index, weight, key, order, row, torch.searchsorted(key, ends)


@triton.jit
def _enclose(
    features_ptr,  # [N, D, P]
    corner_ptr,  # [N, D + 1, P]
    weight_ptr,
    P,
    word: tl.int64,
    frame_shift,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    frame = tl.program_id(1).to(tl.int64)
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    features_ptr += frame * D * P + p
    place = frame * (D + 1) * P + p
    tail = tl.zeros((BLOCK,), tl.float32)  # sum of the later features
    key = tl.zeros((BLOCK,), tl.int64) + (frame << frame_shift) + key_offset(word, D)
    parts, steps = (), ()  # fractional parts, largest first, and what their axes add to a key
    for j in tl.static_range(D + 1):
        y = tail
        if D - j > 0:
            value = tl.load(features_ptr + tl.cast(D - j - 1, tl.int64) * P, mask=p < P, other=0)
            spread = value * ((2.0 / 3.0 / ((D - j) * (D - j + 1))) ** 0.5)
            y = tail - (D - j) * spread
            tail = tail + spread
        whole = _floor(y)
        step = axis_step(D - j, word, D)
        key += whole.to(tl.int64) * step
        parts, steps = _insert(parts, steps, j, y - whole, tl.zeros((BLOCK,), tl.int64) + step)
    tl.store(corner_ptr + place, key, mask=p < P)
    tl.store(weight_ptr + place, 1 - (parts[0] - parts[D]), mask=p < P)  # type: ignore[misc]
    for t in tl.static_range(D):
        key += steps[t]
        corner = place + tl.cast(t + 1, tl.int64) * P
        tl.store(corner_ptr + corner, key, mask=p < P)
        tl.store(weight_ptr + corner, parts[t] - parts[t + 1], mask=p < P)


@triton.jit
def _floor(y):
    """Also of negative numbers so small that ``tl.floor``, which flushes them, says 0 and not -1."""
    bits = y.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    flushed = (bits < 0) & (magnitude > 0) & (magnitude < 0x00800000)
    return tl.where(flushed, -1.0, tl.floor(y))


@triton.jit
def _insert(parts, steps, SIZE: tl.constexpr, part, step):
    """Inserts into two tuples sorted by ``parts``, after those that are equal."""
    new_parts, new_steps = (), ()
    passed = part != part  # false
    for i in tl.static_range(SIZE):
        passed = passed | (parts[i] < part)
        new_parts = new_parts + (tl.where(passed, part, parts[i]),)
        new_steps = new_steps + (tl.where(passed, step, steps[i]),)
        part, step = tl.where(passed, parts[i], part), tl.where(passed, steps[i], step)
    return new_parts + (part,), new_steps + (step,)


@triton.jit
def axis_step(axis, word, D: tl.constexpr):
    """What a step along an axis adds to a key: the strides k >= axis, less ``axis`` times the stride before."""
    one = tl.full((), 1, tl.int64)
    step = tl.full((), 0, tl.int64)
    for k in tl.static_range(D):
        stride = one << ((word >> (6 * k)) & 63)
        step += tl.where(k >= axis, stride, 0) - tl.where(k + 1 == axis, axis * stride, 0)
    return step


@triton.jit
def key_offset(word, D: tl.constexpr):
    """The key of the origin in frame 0."""
    one = tl.full((), 1, tl.int64)
    offset = tl.full((), 0, tl.int64)
    for k in tl.static_range(D):
        offset += (2 * k + 3) * (one << ((word >> (6 * k)) & 63))
    return offset


@triton.jit
def _number(
    ordered_ptr,  # [E] keys of the corners, sorted
    places_ptr,  # [E] int64, where they came from
    sum_ptr,  # [E] points up to and with each
    index_ptr,
    key_ptr,
    order_ptr,
    row_ptr,
    E,
    BLOCK: tl.constexpr,
):
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = e < E
    row = tl.load(sum_ptr + e, mask=inside, other=0) - 1
    before = tl.load(sum_ptr + e - 1, mask=inside & (e > 0), other=0) - 1
    place = tl.load(places_ptr + e, mask=inside, other=0)
    tl.store(row_ptr + e, row, mask=inside)
    tl.store(order_ptr + e, place.to(tl.int32), mask=inside)
    tl.store(index_ptr + place, row, mask=inside)
    head = inside & (row != before)
    tl.store(key_ptr + row, tl.load(ordered_ptr + e, mask=head, other=0), mask=head)
    count = tl.load(sum_ptr + E - 1)
    tl.store(key_ptr + e, tl.full((BLOCK,), 9223372036854775807, tl.int64), mask=inside & (e >= count))


def _enclose_variant(d: int) -> Variant:
    signature = {
        "features_ptr": "*fp32", "corner_ptr": "*i64", "weight_ptr": "*fp32", "P": "i32", "word": "i64",
        "frame_shift": "i32", "D": "constexpr", "BLOCK": "constexpr",
    }  # fmt: skip
    constants = {"D": d, "BLOCK": BLOCK_P}
    return Variant(_enclose, signature, constants, note=f"d = {d}")


_NUMBER_SIGNATURE = {
    "ordered_ptr": "*i64", "places_ptr": "*i64", "sum_ptr": "*i32", "index_ptr": "*i32", "key_ptr": "*i64",
    "order_ptr": "*i32", "row_ptr": "*i32", "E": "i32", "BLOCK": "constexpr",
}  # fmt: skip
VARIANTS = (
    _enclose_variant(3),
    _enclose_variant(5),
    _enclose_variant(10),
    Variant(_number, _NUMBER_SIGNATURE, {"BLOCK": BLOCK_E}),
)
