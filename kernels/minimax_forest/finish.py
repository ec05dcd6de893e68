"""The end of the forest: what every pixel belongs to, where regions meet, and how far seeds are from each other."""

from __future__ import annotations

import triton
import triton.language as tl

from gpuvos.kernels.minimax_forest.tiles import INFINITY, NO_EDGE, OUTSIDE, order_bits


@triton.jit
def _resolve(component, height, node, LEVELS: tl.constexpr):
    """Follows components through the levels to a seed (or OUTSIDE), with the largest edge on the way."""
    for _ in tl.static_range(LEVELS):
        more = component >= 0
        height = tl.maximum(height, tl.load(node + 4 * component + 1, mask=more, other=0))
        component = tl.load(node + 4 * component, mask=more, other=component)
    return component, height


@triton.jit
def _meet(
    weight, component, pixel_reach, node, seed_distance, pixel, step, mask, own, seed, height, k,
    LEVELS: tl.constexpr,
):  # fmt: skip
    """Lowers the table where the neighbour ``step`` pixels on belongs to another seed."""
    other = tl.load(component + pixel + step, mask=mask, other=0)
    mask = mask & (other != own)
    beyond = tl.load(pixel_reach + pixel + step, mask=mask, other=0)
    other = tl.where(mask, other, OUTSIDE)
    other, beyond = _resolve(other, beyond, node, LEVELS)
    mask = mask & (other != seed) & (other != OUTSIDE)
    bits = tl.maximum(tl.maximum(height, beyond), order_bits(weight, mask))
    cell = seed_distance + (-1 - tl.maximum(seed, other)).to(tl.int64) * k + (-1 - tl.minimum(seed, other))
    known = tl.load(cell, mask=mask, other=0, cache_modifier=".cg")
    tl.atomic_min(cell, bits, mask=mask & (bits < known), sem="relaxed")


@triton.jit(do_not_specialize=["h", "w", "k", "nodes", "programs"])
def finish_pixels(
    right,  # [N, H, W-1]
    down,  # [N, H-1, W]
    component,  # [N, H, W] int32
    pixel_reach,  # [N, H, W] int32 bits
    node,  # [N, nodes, 4] int32
    label,  # [N, H, W] int64
    distance,  # [N, H, W] int32 bits
    seed_distance,  # [N, K, K] int32 bits, above the diagonal
    h,
    w,
    k,
    nodes,
    programs,  # of a frame
    LEVELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gives every pixel its seed and distance, and finds where regions meet."""
    program = tl.program_id(0).to(tl.int64)
    frame = program // programs
    pixel = (program % programs).to(tl.int32) * BLOCK + tl.arange(0, BLOCK)
    valid = pixel < h * w
    component += frame * h * w
    pixel_reach += frame * h * w
    node += frame * nodes * 4
    seed_distance += frame * k * k
    own = tl.load(component + pixel, mask=valid, other=OUTSIDE)
    height = tl.load(pixel_reach + pixel, mask=valid, other=0)
    seed, height = _resolve(own, height, node, LEVELS)
    tl.store(label + frame * h * w + pixel, tl.where(seed == OUTSIDE, -1, -1 - seed).to(tl.int64), mask=valid)
    tl.store(distance + frame * h * w + pixel, tl.where(seed == OUTSIDE, INFINITY, height), mask=valid)
    y = pixel // w
    across = right + frame * h * (w - 1) + (pixel - y)
    mask = valid & (pixel - y * w < w - 1)
    _meet(across, component, pixel_reach, node, seed_distance, pixel, 1, mask, own, seed, height, k, LEVELS)
    along = down + frame * (h - 1) * w + pixel
    mask = valid & (y < h - 1)
    _meet(along, component, pixel_reach, node, seed_distance, pixel, w, mask, own, seed, height, k, LEVELS)


@triton.jit(do_not_specialize=["k"])
def close_seeds(
    index,  # [N, K] int64
    valid,  # [N, K] uint8
    seed_distance,  # [N, K, K] int32 bits: of crossings above the diagonal, then of the closure everywhere
    k,
    BLOCK: tl.constexpr,
):
    """Minimax distances between the seeds of a frame, from those of regions that meet."""
    frame = tl.program_id(0).to(tl.int64)
    index += frame * k
    valid += frame * k
    seed_distance += frame * k * k
    lane = tl.arange(0, BLOCK)
    is_seed = lane < k
    place = tl.load(index + lane, mask=is_seed, other=0)
    known = tl.load(valid + lane, mask=is_seed, other=0) != 0
    near = tl.full((BLOCK,), INFINITY, tl.int32)  # to the tree, of those outside
    since = tl.zeros((BLOCK,), tl.int32)  # largest edge taken since a seed came in
    inside = lane < 0
    for _ in range(k):
        # every seed outside reads its own entry of `near`, so this waits for all reads of the step before
        nearest = tl.min(tl.where(is_seed & ~inside, (near.to(tl.int64) << 32) | lane, NO_EDGE), 0)
        seed = nearest.to(tl.int32)
        since = tl.maximum(since, (nearest >> 32).to(tl.int32))
        here = lane == seed
        since = tl.where(here, tl.where(known, 0, INFINITY), since)
        inside = inside | here
        tl.store(seed_distance + seed * k + lane, since, mask=inside)
        tl.store(seed_distance + lane * k + seed, since, mask=inside)
        since = tl.where(here, 0, since)
        outside = is_seed & ~inside
        cell = tl.minimum(lane, seed) * k + tl.maximum(lane, seed)
        step = tl.load(seed_distance + cell, mask=outside, other=INFINITY)
        same = known & (tl.load(valid + seed) != 0) & (place == tl.load(index + seed))
        near = tl.minimum(near, tl.where(same, 0, step))
