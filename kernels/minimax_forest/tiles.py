"""Level 0 of the forest: Boruvka inside tiles, as far as it goes without a look at another tile."""

from __future__ import annotations

import triton
import triton.language as tl

NO_EDGE = tl.constexpr((1 << 63) - 1)  # a key above all others
MISSING = tl.constexpr((1 << 31) - 1)  # its upper half, above the bits of any weight
INFINITY = tl.constexpr(0x7F800000)  # bits of inf
FIRST_SEED = tl.constexpr(-(1 << 63))  # key of seed 0
OUTSIDE = tl.constexpr(-(1 << 31))  # component of what is not there; that of seed k is -1 - k, others are nodes


@triton.jit
def pixel_place(number, across, LEVELS: tl.constexpr, FANS: tl.constexpr):
    """Row and column of a tile or region in the nested order: 4 x 4 inside 4 x 4 inside ... inside raster order.

    Octal digits of FANS, lowest level first: log2 of the rows of 16 children, 0 (1 x 16), 2 (4 x 4) or 4 (16 x 1).
    """
    row = number * 0
    column = number * 0
    tall = 1
    wide = 1
    for level in tl.static_range(LEVELS):
        child = number % 16
        number = number // 16
        row += child // (16 >> (FANS >> 3 * level & 7)) * tall
        column += child % (16 >> (FANS >> 3 * level & 7)) * wide
        tall = tall * (1 << (FANS >> 3 * level & 7))
        wide = wide * (16 >> (FANS >> 3 * level & 7))
    return row + number // across * tall, column + number % across * wide


@triton.jit
def order_bits(pointer, mask):
    """Bits of weights without the sign: they sort like the weights, and -0.0 is 0.0; MISSING where there is none."""
    bits = tl.load(pointer, mask=mask, other=0.0).to(tl.float32).to(tl.int32, bitcast=True)
    return tl.where(mask, bits & 0x7FFFFFFF, MISSING)


@triton.jit
def _smallest(root, lane, above, left, ahead, below, SIDE: tl.constexpr):
    """Key of the smallest edge of every pixel that leaves its component: bits << 32 | number of the edge in the tile.

    The numbers sort like the edges' indices, and so do the four edges here: the first of equal ones stays.
    """
    LAST: tl.constexpr = SIDE * SIDE - 1
    column = lane % SIDE
    row = lane // SIDE
    own = (row + 1) * (4 * SIDE) + (column + 1) * 2  # number of the edge to the right
    leaves = (row == 0) | (tl.gather(root, (lane + LAST + 1 - SIDE) & LAST, 0) != root)
    bits = tl.where(leaves, above, MISSING)
    edge = own - 4 * SIDE + 1
    leaves = (column == 0) | (tl.gather(root, (lane + LAST) & LAST, 0) != root)
    less = leaves & (left < bits)
    bits = tl.where(less, left, bits)
    edge = tl.where(less, own - 2, edge)
    leaves = (column == SIDE - 1) | (tl.gather(root, (lane + 1) & LAST, 0) != root)
    less = leaves & (ahead < bits)
    bits = tl.where(less, ahead, bits)
    edge = tl.where(less, own, edge)
    leaves = (row == SIDE - 1) | (tl.gather(root, (lane + SIDE) & LAST, 0) != root)
    less = leaves & (below < bits)
    bits = tl.where(less, below, bits)
    edge = tl.where(less, own + 1, edge)
    return (bits.to(tl.int64) << 32) | edge


@triton.jit
def _hooks(best, SIDE: tl.constexpr):
    """Whether the smallest edge of a component without a seed stays in the tile, and the lanes of its two pixels."""
    bits = (best >> 32).to(tl.int32)  # below 0: a seed
    edge = best.to(tl.int32)
    row = edge // (4 * SIDE) - 1
    column = edge // 2 % (2 * SIDE) - 1
    to_row = row + edge % 2
    to_column = column + 1 - edge % 2
    inside = (row >= 0) & (column >= 0) & (to_row < SIDE) & (to_column < SIDE)
    return (bits >= 0) & (bits < MISSING) & inside, row * SIDE + column, to_row * SIDE + to_column


@triton.jit
def _targets(root, best, lane, SIDE: tl.constexpr):
    """Where every root goes along its smallest edge; itself if that leaves the tile."""
    hooks, one, two = _hooks(best, SIDE)
    one = tl.gather(root, tl.where(hooks, one, lane), 0)
    two = tl.gather(root, tl.where(hooks, two, lane), 0)
    target = tl.where(hooks, one + two - lane, lane)
    back = tl.gather(target, target, 0)
    return tl.where((back == lane) & (lane < target), lane, target)  # of two that chose one edge the lower is root


@triton.jit
def _claim(keys, index, valid, top, start, h, w, k, SIDE: tl.constexpr, BLOCK_K: tl.constexpr):
    """Gives the pixels of seeds a key below that of any edge; the seed of the lowest number has the pixel."""
    for first in range(0, k, BLOCK_K):
        number = first + tl.arange(0, BLOCK_K)
        known = tl.load(valid + number, mask=number < k, other=0) != 0
        place = tl.load(index + number, mask=known, other=-1)
        known = (place >= 0) & (place < h * w)
        place = place.to(tl.int32)
        row = place // w - top
        column = place % w - start
        known = known & (row >= 0) & (row < SIDE) & (column >= 0) & (column < SIDE)
        tl.atomic_min(keys + row * SIDE + column, number.to(tl.int64) + FIRST_SEED, mask=known, sem="relaxed")


@triton.jit
def _grow(keys, lane, above, left, ahead, below, SIDE: tl.constexpr):
    """Boruvka until every component has a seed or a smallest edge that leaves the tile: roots, largest edges, 0."""
    root = lane
    height = tl.zeros((SIDE * SIDE,), tl.int32)
    best = tl.load(keys + lane, cache_modifier=".cg")
    hooked = tl.max(_hooks(best, SIDE)[0].to(tl.int32), 0)
    while hooked > 0:
        here = lane + hooked // 2  # the lane, but the compiler does not know: no address stays in a register
        tl.store(keys + lane, tl.where(best < 0, best, NO_EDGE))
        weight = tl.where(_hooks(best, SIDE)[0], (best >> 32).to(tl.int32), 0)
        height = tl.maximum(height, tl.gather(weight, root, 0))
        target = _targets(root, best, here, SIDE)
        moved = 1
        while moved > 0:
            higher = tl.gather(target, target, 0)
            target = tl.gather(higher, higher, 0)
            moved = tl.max((higher != target).to(tl.int32), 0)
        root = tl.gather(target, root, 0)
        key = _smallest(root, here, above, left, ahead, below, SIDE)
        tl.debug_barrier()  # all keys are reset
        tl.atomic_min(keys + root, key, mask=(key >> 32) < MISSING, sem="relaxed")
        tl.debug_barrier()  # all keys are proposed
        best = tl.load(keys + lane, cache_modifier=".cg")
        hooked = tl.max(_hooks(best, SIDE)[0].to(tl.int32), 0)
    return root, height, hooked


@triton.jit
def _leave(component, keys, edges, counts, root, lane, tile, group, top, start, region_h, region_w, h, w,
           SIDE: tl.constexpr):  # fmt: skip
    """What is left for the next level: a node for every component without a seed, edges that may still matter."""
    LAST: tl.constexpr = SIDE * SIDE - 1
    key = tl.load(keys + lane, cache_modifier=".cg")
    is_node = (root == lane) & (key >= 0) & (top + lane // SIDE < h) & (start + lane % SIDE < w)
    slot = tl.cumsum(is_node.to(tl.int32), 0) - 1
    nodes = tl.sum(is_node.to(tl.int32), 0)
    tl.store(counts + 1, nodes)
    lane += nodes >> 31  # 0, which the compiler does not know: all is computed anew, not kept in registers
    row = lane // SIDE
    column = lane % SIDE
    y = top + row
    x = start + column
    on_grid = (y < h) & (x < w)
    pixel = y * w + x
    key = tl.load(keys + lane, cache_modifier=".cg")
    node = tile // group * group * (4 * SIDE) + slot * group + tile % group
    mine = tl.gather(tl.where(key >= 0, node, -1 - key.to(tl.int32)), root, 0)
    tl.store(component + pixel, mine, mask=on_grid)
    other = tl.gather(mine, (lane + 1) & LAST, 0)
    matters = (column == SIDE - 1) | ((mine != other) & ((mine >= 0) | (other >= 0)))
    keep = (matters & on_grid & (x < w - 1)).to(tl.int32)
    other = tl.gather(mine, (lane + SIDE) & LAST, 0)
    matters = (row == SIDE - 1) | ((mine != other) & ((mine >= 0) | (other >= 0)))
    keep_below = (matters & on_grid & (y < h - 1)).to(tl.int32)
    slot = tl.cumsum(keep + keep_below, 0) - keep - keep_below
    tl.debug_barrier()  # the keys are in the same memory
    tl.store(edges + slot, 2 * pixel, mask=keep > 0)
    tl.store(edges + slot + keep, 2 * pixel + 1, mask=keep_below > 0)
    total = tl.sum(keep + keep_below, 0)
    # edges that come from another region; one that comes from another tile of this region is kept there
    if (start > 0) & (start % region_w == 0):
        keep = (on_grid & (column == 0) & (mine >= 0)).to(tl.int32)
        tl.store(edges + total + tl.cumsum(keep, 0) - 1, 2 * pixel - 2, mask=keep > 0)
        total += tl.sum(keep, 0)
    if (top > 0) & (top % region_h == 0):
        keep = (on_grid & (row == 0) & (mine >= 0)).to(tl.int32)
        tl.store(edges + total + tl.cumsum(keep, 0) - 1, 2 * (pixel - w) + 1, mask=keep > 0)
        total += tl.sum(keep, 0)
    tl.store(counts, total)


@triton.jit(
    do_not_specialize=["h", "w", "k", "tiles", "across", "group", "region_h", "region_w", "capacity"]
)  # fmt: skip
def grow_tiles(
    right,  # [N, H, W-1]
    down,  # [N, H-1, W]
    index,  # [N, K] int64
    valid,  # [N, K] uint8
    component,  # [N, H, W] int32
    pixel_reach,  # [N, H, W] int32 bits
    keys,  # [N, tiles, capacity / 2] int64, in the memory of edges
    edges,  # [N, tiles, capacity] int32
    counts,  # [N, tiles, 2] int32: edges, nodes
    seed_distance,  # [N, K, K] int32 bits
    h,
    w,
    k,
    tiles,  # of a frame, padded to whole regions
    across,  # regions of the uppermost kind in a row
    group,  # tiles of a region
    region_h,
    region_w,
    capacity,  # of a tile, in edges
    SIDE: tl.constexpr,
    LEVELS: tl.constexpr,  # of regions between tile and frame
    FANS: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Grows the forest inside every tile."""
    SIZE: tl.constexpr = SIDE * SIDE
    lane = tl.arange(0, SIZE)
    program = tl.program_id(0)
    frame = (program // tiles).to(tl.int64)
    row, column = pixel_place(program % tiles, across, LEVELS, FANS)
    top = row * SIDE
    start = column * SIDE
    y = top + lane // SIDE
    x = start + lane % SIDE
    on_grid = (y < h) & (x < w)
    weight = right + frame * h * (w - 1) + (y * w + x - y)
    left = order_bits(weight - 1, on_grid & (x > 0))
    ahead = order_bits(weight, on_grid & (x < w - 1))
    weight = down + frame * (h - 1) * w + (y * w + x)
    above = order_bits(weight - w, on_grid & (y > 0))
    below = order_bits(weight, on_grid & (y < h - 1))

    keys += program.to(tl.int64) * (capacity // 2)
    tl.store(keys + lane, _smallest(lane, lane, above, left, ahead, below, SIDE))  # the first round is a stencil
    tl.debug_barrier()
    _claim(keys, index + frame * k, valid + frame * k, top, start, h, w, k, SIDE, BLOCK_K)
    tl.debug_barrier()
    root, height, hooked = _grow(keys, lane, above, left, ahead, below, SIDE)

    # hooked is 0, which the compiler does not know: nothing from above the loop stays in a register
    program += hooked
    lane += hooked
    frame = (program // tiles).to(tl.int64)
    row, column = pixel_place(program % tiles, across, LEVELS, FANS)
    top = row * SIDE
    start = column * SIDE
    y = top + lane // SIDE
    x = start + lane % SIDE
    tl.store(pixel_reach + frame * h * w + (y * w + x), height, mask=(y < h) & (x < w))
    _leave(
        component + frame * h * w, keys, edges + program.to(tl.int64) * capacity, counts + program.to(tl.int64) * 2,
        root, lane, program % tiles, group, top, start, region_h, region_w, h, w, SIDE,
    )  # fmt: skip
    tile = program % tiles
    share = tl.cdiv(k * k, tiles)
    for first in range(tile * share, tl.minimum(tile * share + share, k * k), SIZE):
        cell = first + lane
        mask = cell < tl.minimum(tile * share + share, k * k)
        tl.store(seed_distance + frame * k * k + cell, tl.full((SIZE,), INFINITY, tl.int32), mask=mask)
