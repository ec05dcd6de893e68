"""Shortest-path forest in Triton.

Design. Three stages as in the reference: lengths, then seed numbers along the edges of shortest paths, then the largest
edge on those. A stage relaxes tiles of 32 x 32 pixels, each to its own fixed point in registers (``tiles.py``; shuffles
within a warp bring the neighbours), again whenever the border of a tile beside it has changed. The tiles are coloured
like a checkerboard and every launch takes one colour, so a program reads only pixels that nobody writes in that
launch; a tile notes in which launch its border changed last, and a program whose neighbours have nothing new returns
at once. A path that crosses m borders of tiles is final after m + 2 launches. The launches of a stage are fixed in
number; as a rule they are enough, and then the last one, a program for each frame that goes over the tiles until
nothing changes, finds nothing to do. It makes the result right for every graph: a snake through all tiles takes longer.

It ends, and with the reference's bits. A rounded sum keeps order (``a <= b`` gives ``a + w <= b + w``) and is no less
than its parts, so relaxation in any order reaches the same fixed point: the least over all paths of the sum added from
the seed on. Each pass of the last program lowers a value or is the last, and pass i leaves every pixel final whose
path crosses at most i borders, so there are no more passes than borders on the longest path. Lengths are added one
edge at a time; a scan would add weights to each other first and round differently.

Bytes that must move: 24 a pixel (weights in; label, length and largest edge out), 9.8 MB a frame of 480 x 854. Bytes
moved: 16 to fill, and 72 if every tile is settled once in every stage, 36 MB. On smooth features at 120 x 214 a tile is
settled 2.5 times with 100 seeds, in 5 of 13 launches a stage, and 2.8 times with one seed, in 10.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.shortest_forest.tiles import settle_tile
from gpuvos.kernels.static import Variant

TILE = 32
_WARPS = 8
_SEEDS = 128  # of a program
_TURNS = 24  # launches of a stage at most, before the last


def shortest_forest(right: Tensor, down: Tensor, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Takes and returns what the reference does, bit for bit."""
    n, h, w, k = right.shape[0], right.shape[1], down.shape[2], index.shape[1]
    label = index.new_full((n, h, w), -1)
    distance, largest = (right.new_full((n, h, w), torch.inf, dtype=torch.float32) for _ in range(2))
    if label.numel() == 0 or k == 0:
        return label, distance, largest
    _place_seeds[(n * triton.cdiv(k, _SEEDS),)](
        index.contiguous(), valid.contiguous().view(torch.uint8), label, distance, largest, k, h * w,
        BLOCK=_SEEDS, num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    rows, columns = triton.cdiv(h, TILE), triton.cdiv(w, TILE)
    turns = min(2 + rows + columns, _TURNS)
    stamp = label.new_empty((n, rows, columns), dtype=torch.int32)
    graph = (right.contiguous(), down.contiguous())
    for stage, value in enumerate((distance, label, largest)):
        arguments = (*graph, value, distance, label, stamp, h, w, rows, columns)
        options = {"STAGE": stage, "TILE": TILE, "num_warps": _WARPS, "enable_fp_fusion": False}
        for turn in range(turns):
            _relax[(n * rows * triton.cdiv(columns, 2),)](*arguments, turn, **options)
        _finish[(n,)](*arguments, turns, **options)
    return label, distance, largest


@triton.jit
def _place_seeds(index_ptr, valid_ptr, label_ptr, distance_ptr, largest_ptr, K, pixels, BLOCK: tl.constexpr):
    """The lowest valid seed of a pixel starts there."""
    STEP: tl.constexpr = 16
    blocks = tl.cdiv(K, BLOCK)
    frame = (tl.program_id(0) // blocks).to(tl.int64)
    k = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    index_ptr += frame * K
    valid_ptr += frame * K
    mine = tl.load(index_ptr + k, k < K, -1)
    valid = (tl.load(valid_ptr + k, k < K, 0) != 0) & (mine >= 0) & (mine < pixels)
    taken = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, K, STEP):
        j = start + tl.arange(0, STEP)
        other = tl.load(index_ptr + j, j < K, -1)
        lower = (tl.load(valid_ptr + j, j < K, 0) != 0)[None, :] & (j[None, :] < k[:, None])
        taken = tl.maximum(taken, tl.max((lower & (other[None, :] == mine[:, None])).to(tl.int32), 1))
    first = valid & (taken == 0)
    place = frame * pixels + mine
    tl.store(label_ptr + place, k.to(tl.int64), first)
    tl.store(distance_ptr + place, 0.0, first)
    tl.store(largest_ptr + place, 0.0, first)


@triton.jit
def _last_stamp(stamp_ptr, tile_y, tile_x, rows, columns):
    """When the border of one of the four tiles around changed last."""
    place = tile_y * columns + tile_x
    stamp = tl.load(stamp_ptr + place - columns, tile_y > 0, -1)
    stamp = tl.maximum(stamp, tl.load(stamp_ptr + place + columns, tile_y + 1 < rows, -1))
    stamp = tl.maximum(stamp, tl.load(stamp_ptr + place - 1, tile_x > 0, -1))
    return tl.maximum(stamp, tl.load(stamp_ptr + place + 1, tile_x + 1 < columns, -1))


@triton.jit(do_not_specialize=["turn"])
def _relax(
    right_ptr,
    down_ptr,
    value_ptr,
    distance_ptr,
    label_ptr,
    stamp_ptr,  # [N, rows, columns]
    H,
    W,
    rows,
    columns,
    turn,
    STAGE: tl.constexpr,
    TILE: tl.constexpr,
):
    """One program for every tile of the turn's colour of a checkerboard."""
    half = tl.cdiv(columns, 2)
    frame = (tl.program_id(0) // (rows * half)).to(tl.int64)
    tile_y = tl.program_id(0) // half % rows
    tile_x = tl.program_id(0) % half * 2 + (tile_y + turn) % 2
    stamp_ptr += frame * rows * columns
    if tile_x < columns:
        due = turn < 2
        if turn >= 2:
            due = _last_stamp(stamp_ptr, tile_y, tile_x, rows, columns) >= turn - 1
        if due:
            changed = settle_tile(
                tile_y, tile_x, right_ptr + frame * H * (W - 1), down_ptr + frame * (H - 1) * W,
                value_ptr + frame * H * W, distance_ptr + frame * H * W, label_ptr + frame * H * W, H, W, STAGE, TILE,
            )  # fmt: skip
            if (changed > 0) | (turn < 2):
                tl.store(stamp_ptr + tile_y * columns + tile_x, tl.where(changed > 0, turn, -1))


@triton.jit(do_not_specialize=["turn"])
def _finish(
    right_ptr,
    down_ptr,
    value_ptr,
    distance_ptr,
    label_ptr,
    stamp_ptr,
    H,
    W,
    rows,
    columns,
    turn,
    STAGE: tl.constexpr,
    TILE: tl.constexpr,
):
    """One program a frame goes over all tiles, forth and back, until nothing changes; nothing to do as a rule."""
    frame = tl.program_id(0).to(tl.int64)
    stamp_ptr += frame * rows * columns
    tiles = rows * columns
    last = -1
    for start in range(0, tiles, 256):
        tile = start + tl.arange(0, 256)
        last = tl.maximum(last, tl.max(tl.load(stamp_ptr + tile, tile < tiles, -1), 0))
    now = turn
    while last >= now - 1:
        for i in range(tiles):
            tile = i if now % 2 == 0 else tiles - 1 - i
            tile_y, tile_x = tile // columns, tile % columns
            if _last_stamp(stamp_ptr, tile_y, tile_x, rows, columns) >= now - 1:
                changed = settle_tile(
                    tile_y, tile_x, right_ptr + frame * H * (W - 1), down_ptr + frame * (H - 1) * W,
                    value_ptr + frame * H * W, distance_ptr + frame * H * W, label_ptr + frame * H * W, H, W, STAGE,
                    TILE,
                )  # fmt: skip
                if changed > 0:
                    tl.debug_barrier()  # all have read the stamps, of this tile and of those that were passed over
                    tl.store(stamp_ptr + tile, now)
                    last = now
                tl.debug_barrier()  # the next tile reads what this one wrote
        now += 1


def _variant(function: Any, stage: int, weight: str) -> Variant:
    pointers = {
        "right": weight, "down": weight, "value": "i64" if stage == 1 else "fp32", "distance": "fp32",
        "label": "i64", "stamp": "i32",
    }  # fmt: skip
    signature = {f"{name}_ptr": f"*{kind}" for name, kind in pointers.items()}
    signature |= dict.fromkeys(("H", "W", "rows", "columns", "turn"), "i32")
    signature |= {"STAGE": "constexpr", "TILE": "constexpr"}
    constants = {"STAGE": stage, "TILE": TILE}
    return Variant(function, signature, constants, _WARPS, note=f"{weight}, stage {stage}")


def _seeds_variant() -> Variant:
    pointers = {"index": "i64", "valid": "u8", "label": "i64", "distance": "fp32", "largest": "fp32"}
    signature = {f"{name}_ptr": f"*{kind}" for name, kind in pointers.items()}
    signature |= {"K": "i32", "pixels": "i32", "BLOCK": "constexpr"}
    return Variant(_place_seeds, signature, {"BLOCK": _SEEDS}, note="128 seeds")


VARIANTS = (
    _seeds_variant(),
    *(_variant(function, stage, "fp32") for function in (_relax, _finish) for stage in range(3)),
    _variant(_relax, 0, "bf16"),
)
