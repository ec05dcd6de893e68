"""Relaxation of one tile of the grid to its own fixed point."""

from __future__ import annotations

import triton
import triton.language as tl

# What is relaxed: path lengths, then seed numbers along shortest paths, then the largest edge on those.
LENGTH, LABEL, LARGEST = (tl.constexpr(stage) for stage in range(3))
_NONE = tl.constexpr(2**31 - 1)  # no seed, and a move that carries none


@triton.jit
def _cost(weight_ptr, place, valid):
    """Weights; no edge and a NaN are walls, and below zero is zero, or paths would go around in circles for ever."""
    cost = tl.load(weight_ptr + place, valid, float("inf")).to(tl.float32)
    return tl.where(cost == cost, tl.maximum(cost, 0.0), float("inf"))


@triton.jit
def _move_cost(cost, step, place, valid, here, mine, distance_ptr, label_ptr, STAGE: tl.constexpr):
    """Of a move into every pixel from its neighbour ``step`` away, for what the stage relaxes."""
    if STAGE != LENGTH:
        other = tl.load(distance_ptr + place + step, valid, float("inf"))
        tight = (other + cost == here) & (here < float("inf"))
        if STAGE == LABEL:
            cost = tl.where(tight, 0, _NONE)
        else:
            same = tl.load(label_ptr + place + step, valid, -1).to(tl.int32) == mine
            cost = tl.where(tight & same, cost, float("inf"))
    return cost


@triton.jit
def _join(value, cost, STAGE: tl.constexpr):
    return value + cost if STAGE == LENGTH else tl.maximum(value, cost)


@triton.jit
def _value(value_ptr, place, valid, STAGE: tl.constexpr):
    if STAGE == LABEL:
        value = tl.load(value_ptr + place, valid, -1)
        value = tl.where(value < 0, _NONE, value).to(tl.int32)
    else:
        value = tl.load(value_ptr + place, valid, float("inf"))
    return value


@triton.jit
def _settle(value, row, column, by_left, by_right, by_top, by_bottom, STAGE: tl.constexpr, TILE: tl.constexpr):
    """Lowers the pixels by those beside them in the tile until nothing changes."""
    STEPS: tl.constexpr = 2  # along rows, then along columns: the two want different layouts of registers
    # At the border of the tile a pixel is its own neighbour, which lowers nothing.
    left = tl.maximum(column - 1, 0) + row * 0
    after = tl.minimum(column + 1, TILE - 1) + row * 0
    above = tl.maximum(row - 1, 0) + column * 0
    below = tl.minimum(row + 1, TILE - 1) + column * 0
    lowered = 1
    while lowered > 0:
        before = value
        for _ in tl.static_range(STEPS):
            value = tl.minimum(value, _join(tl.gather(value, left, 1), by_left, STAGE))
            value = tl.minimum(value, _join(tl.gather(value, after, 1), by_right, STAGE))
        for _ in tl.static_range(STEPS):
            value = tl.minimum(value, _join(tl.gather(value, above, 0), by_top, STAGE))
            value = tl.minimum(value, _join(tl.gather(value, below, 0), by_bottom, STAGE))
        lowered = tl.max(tl.max((value < before).to(tl.int32), 1), 0)
    return value


@triton.jit
def settle_tile(
    tile_y,
    tile_x,
    right_ptr,  # [H, W-1] of the frame, like the others
    down_ptr,
    value_ptr,  # [H, W], what is relaxed
    distance_ptr,
    label_ptr,
    H,
    W,
    STAGE: tl.constexpr,
    TILE: tl.constexpr,
):
    """Relaxes the pixels of a tile, given those around it, until nothing changes; whether its border did."""
    row, column = tl.arange(0, TILE)[:, None], tl.arange(0, TILE)[None, :]
    y = tile_y * TILE + row
    x = tile_x * TILE + column
    inside = (y < H) & (x < W)
    place = y * W + x  # of a frame: fits 32 bits
    right = y * (W - 1) + x
    leftmost, rightmost = inside & (x > 0), inside & (x < W - 1)
    topmost, lowest = inside & (y > 0), inside & (y < H - 1)
    here, mine = 0.0, 0
    if STAGE != LENGTH:
        here = tl.load(distance_ptr + place, inside, float("inf"))
    if STAGE == LARGEST:
        mine = tl.load(label_ptr + place, inside, -1).to(tl.int32)
    by_left = _move_cost(
        _cost(right_ptr, right - 1, leftmost), -1, place, leftmost, here, mine, distance_ptr, label_ptr, STAGE
    )
    by_right = _move_cost(
        _cost(right_ptr, right, rightmost), 1, place, rightmost, here, mine, distance_ptr, label_ptr, STAGE
    )
    by_top = _move_cost(
        _cost(down_ptr, place - W, topmost), -W, place, topmost, here, mine, distance_ptr, label_ptr, STAGE
    )
    by_bottom = _move_cost(_cost(down_ptr, place, lowest), W, place, lowest, here, mine, distance_ptr, label_ptr, STAGE)
    before = _value(value_ptr, place, inside, STAGE)
    value = before
    # From outside of the tile: once, what is there stays as it is.
    other = _value(value_ptr, place - 1, leftmost & (column == 0), STAGE)
    value = tl.minimum(value, _join(other, by_left, STAGE))
    other = _value(value_ptr, place + 1, rightmost & (column == TILE - 1), STAGE)
    value = tl.minimum(value, _join(other, by_right, STAGE))
    other = _value(value_ptr, place - W, topmost & (row == 0), STAGE)
    value = tl.minimum(value, _join(other, by_top, STAGE))
    other = _value(value_ptr, place + W, lowest & (row == TILE - 1), STAGE)
    value = tl.minimum(value, _join(other, by_bottom, STAGE))
    value = _settle(value, row, column, by_left, by_right, by_top, by_bottom, STAGE, TILE)
    changed = inside & (value < before)
    tl.store(value_ptr + place, value.to(value_ptr.dtype.element_ty), changed)
    border = (row == 0) | (row == TILE - 1) | (column == 0) | (column == TILE - 1)
    return tl.max(tl.max((changed & border).to(tl.int32), 1), 0)
