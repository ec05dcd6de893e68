"""Higher levels of the forest: Boruvka on what the tiles, and then regions of 4 x 4 of the level below, have left.

A program owns a region: the nodes and edges that its children have left. Between two barriers no thread reads what
another one writes, but for ``_chain`` (see there).
"""

from __future__ import annotations

import triton
import triton.language as tl

from gpuvos.kernels.minimax_forest.tiles import NO_EDGE, OUTSIDE, order_bits, pixel_place


@triton.jit
def _collect(edges, child_counts, children, capacity, lane, BLOCK: tl.constexpr):
    """Moves the children's edges to the front of the region's memory, and counts them and the nodes' rows."""
    total = 0
    rows = 0
    for child in range(children):
        count = tl.load(child_counts + child * 2)
        rows = tl.maximum(rows, tl.load(child_counts + child * 2 + 1))
        source = edges + capacity.to(tl.int64) * child
        for first in range(0, count, BLOCK):
            mask = first + lane < count
            edge = tl.load(source + first + lane, mask=mask)
            tl.debug_barrier()  # never ahead of what is still to be read: total <= child * capacity
            tl.store(edges + total + first + lane, edge, mask=mask)
        total += count
    return total, rows


@triton.jit
def _begin(node, keys, child_counts, children, begin, size, lane, BLOCK: tl.constexpr):
    """Every node is its own component; slots that no node has are OUTSIDE."""
    for first in range(0, size, BLOCK):
        slot = first + lane
        mask = slot < size
        used = slot // children < tl.load(child_counts + slot % children * 2 + 1, mask=mask, other=0)
        tl.store(node + 4 * (begin + slot), tl.where(used, begin + slot, OUTSIDE), mask=mask)
        tl.store(node + 4 * (begin + slot) + 1, tl.zeros((BLOCK,), tl.int32), mask=mask)
        tl.store(keys + begin + slot, tl.full((BLOCK,), NO_EDGE, tl.int64), mask=mask)


@triton.jit
def _ends(edge, component, node, w, top, start, bottom, end, mask, HOPS: tl.constexpr, WHOLE: tl.constexpr):
    """Components of the two ends of edges; OUTSIDE for a pixel that is not in the region."""
    one = edge // 2
    two = one + tl.where(edge % 2 == 0, 1, w)
    inside = mask
    to_inside = mask
    if not WHOLE:
        y = one // w
        x = one - y * w
        inside = mask & (y >= top) & (x >= start) & (y < bottom) & (x < end)
        y += edge % 2
        x += 1 - edge % 2
        to_inside = mask & (y >= top) & (x >= start) & (y < bottom) & (x < end)
    first = tl.load(component + one, mask=inside, other=OUTSIDE)
    second = tl.load(component + two, mask=to_inside, other=OUTSIDE)
    for _ in tl.static_range(HOPS):
        first = tl.load(node + 4 * first, mask=first >= 0, other=first)
        second = tl.load(node + 4 * second, mask=second >= 0, other=second)
    return first, second


@triton.jit
def _propose(
    right, down, edges, component, node, keys, w, top, start, bottom, end, total, lane,
    HOPS: tl.constexpr, WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Smallest edge of every component, and only the edges that may still matter; returns how many."""
    kept = 0
    for first in range(0, total, BLOCK):
        mask = first + lane < total
        edge = tl.load(edges + first + lane, mask=mask, other=0)
        one, two = _ends(edge, component, node, w, top, start, bottom, end, mask, HOPS, WHOLE)
        live = (one != two) & ((one >= 0) | (two >= 0))
        pixel = edge // 2
        odd = edge % 2 > 0
        bits = tl.minimum(order_bits(right + (pixel - pixel // w), live & ~odd), order_bits(down + pixel, live & odd))
        key = (bits.to(tl.int64) << 32) | edge
        # a look first: an atomic that changes nothing costs as much as one that does
        best = tl.load(keys + one, mask=one >= 0, other=0, cache_modifier=".cg")
        tl.atomic_min(keys + one, key, mask=live & (key < best), sem="relaxed")
        best = tl.load(keys + two, mask=two >= 0, other=0, cache_modifier=".cg")
        tl.atomic_min(keys + two, key, mask=live & (key < best), sem="relaxed")
        keep = (live | ((one != OUTSIDE) & (two == OUTSIDE) & mask)).to(tl.int32)
        place = kept + tl.cumsum(keep, 0) - keep
        tl.debug_barrier()  # place <= first + lane: only what has been read is overwritten
        tl.store(edges + place, edge, mask=keep > 0)
        kept += tl.sum(keep, 0)
    return kept


@triton.jit
def _hook(
    component, node, keys, w, top, start, bottom, end, begin, size, lane,
    HOPS: tl.constexpr, WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Every component without a seed points along its smallest edge, if that stays in the region; any that does?"""
    hooked = 0
    for first in range(0, size, BLOCK):
        number = begin + first + lane
        mask = first + lane < size
        mask = mask & (tl.load(node + 4 * number, mask=mask, other=OUTSIDE) == number)
        best = tl.load(keys + number, mask=mask, other=NO_EDGE, cache_modifier=".cg")
        some = best < NO_EDGE
        edge = tl.where(some, best, 0).to(tl.int32)
        one, two = _ends(edge, component, node, w, top, start, bottom, end, some, HOPS, WHOLE)
        some = some & (one != OUTSIDE) & (two != OUTSIDE)
        target = tl.where(some, one + two - number, number)
        back = tl.load(keys + target, mask=some & (number < target), other=0, cache_modifier=".cg")
        target = tl.where(some & (back == best), number, target)  # both chose one edge: the lower is root
        tl.store(node + 4 * number + 2, target, mask=mask)
        tl.store(node + 4 * number + 3, tl.where(some, (best >> 32).to(tl.int32), 0), mask=mask)
        hooked = tl.maximum(hooked, tl.max(some.to(tl.int32), 0))
    return hooked


@triton.jit
def _chain(node, begin, size, lane, BLOCK: tl.constexpr):
    """Lets every component point at the root of its tree.

    In place: a thread may read a pointer before or after another one has moved it up. Both are ancestors, and a pass
    in which nothing moves has read what stands, so the end is the same.
    """
    moved = 1
    while moved > 0:
        moved = 0
        for first in range(0, size, BLOCK):
            number = begin + first + lane
            mask = first + lane < size
            mask = mask & (tl.load(node + 4 * number, mask=mask, other=OUTSIDE) == number)
            target = tl.load(node + 4 * number + 2, mask=mask, other=OUTSIDE)
            above = tl.load(node + 4 * target + 2, mask=target >= 0, other=target)
            tl.store(node + 4 * number + 2, above, mask=mask)
            moved = tl.maximum(moved, tl.max((above != target).to(tl.int32), 0))
        tl.debug_barrier()


@triton.jit
def _update(node, keys, begin, size, lane, BLOCK: tl.constexpr):
    """Every node follows its component: the largest edge so far, the new component, no edge proposed."""
    for first in range(0, size, BLOCK):
        number = begin + first + lane
        mask = first + lane < size
        old = tl.load(node + 4 * number, mask=mask, other=OUTSIDE)
        mask = mask & (old >= 0)
        height = tl.maximum(
            tl.load(node + 4 * number + 1, mask=mask, other=0),
            tl.load(node + 4 * old + 3, mask=mask, other=0),
        )
        tl.store(node + 4 * number + 1, height, mask=mask)
        tl.store(node + 4 * number, tl.load(node + 4 * old + 2, mask=mask), mask=mask)
        tl.store(keys + number, tl.full((BLOCK,), NO_EDGE, tl.int64), mask=mask)


@triton.jit
def _leave(node, begin, size, up, stride, lane, WHOLE: tl.constexpr, BLOCK: tl.constexpr):
    """Numbers the components without a seed, the nodes of the next level; returns how many."""
    rows = 0
    for first in range(0, size, BLOCK):
        number = begin + first + lane
        mask = first + lane < size
        mask = mask & (tl.load(node + 4 * number, mask=mask, other=OUTSIDE) == number)
        left = mask.to(tl.int32)
        above = up + (rows + tl.cumsum(left, 0) - left) * stride
        tl.store(node + 4 * number + 2, OUTSIDE if WHOLE else above, mask=mask)
        rows += tl.sum(left, 0)
    tl.debug_barrier()
    for first in range(0, size, BLOCK):
        number = begin + first + lane
        mask = first + lane < size
        old = tl.load(node + 4 * number, mask=mask, other=OUTSIDE)
        tl.store(node + 4 * number, tl.load(node + 4 * old + 2, mask=old >= 0, other=old), mask=mask)
    return rows


@triton.jit(
    do_not_specialize=[
        "h", "w", "regions", "across", "children", "capacity", "nodes", "begin", "slots", "up", "up_slots", "group",
        "region_h", "region_w",
    ]
)  # fmt: skip
def merge_tiles(
    right,  # [N, H, W-1]
    down,  # [N, H-1, W]
    component,  # [N, H, W] int32
    node,  # [N, nodes, 4] int32: component (in the end the node of the next level), reach, hook, cost
    keys,  # [N, nodes] int64
    edges,  # [N, regions, children, capacity] int32
    child_counts,  # [N, regions, children, 2] int32
    counts,  # [N, regions, 2] int32
    h,
    w,
    regions,  # of a frame
    across,  # regions of the uppermost kind in a row
    children,
    region_h,
    region_w,
    capacity,  # of a child, in edges
    nodes,
    begin,  # first node of this level's children
    slots,  # nodes of a child
    up,  # first node of the next level
    up_slots,  # nodes of a region
    group,  # regions of a region of the next level
    HOPS: tl.constexpr,  # levels below
    LEVELS: tl.constexpr,  # above, below the frame
    FANS: tl.constexpr,
    WHOLE: tl.constexpr,  # the region is the frame
    BLOCK: tl.constexpr,
):
    """Joins the components of neighbouring tiles or regions."""
    program = tl.program_id(0).to(tl.int64)
    frame = program // regions
    region = (program % regions).to(tl.int32)
    row, column = pixel_place(region, across, LEVELS, FANS)
    top = row * region_h
    start = column * region_w
    bottom = tl.minimum(top + region_h, h)
    end = tl.minimum(start + region_w, w)
    right += frame * h * (w - 1)
    down += frame * (h - 1) * w
    component += frame * h * w
    node += frame * nodes * 4
    keys += frame * nodes
    edges += program * children * capacity
    child_counts += program * children * 2
    begin += region * children * slots
    lane = tl.arange(0, BLOCK)
    total, rows = _collect(edges, child_counts, children, capacity, lane, BLOCK)
    size = rows * children
    _begin(node, keys, child_counts, children, begin, size, lane, BLOCK)
    hooked = 1
    while hooked > 0:
        tl.debug_barrier()
        total = _propose(
            right, down, edges, component, node, keys, w, top, start, bottom, end, total, lane, HOPS, WHOLE, BLOCK
        )  # its last barrier comes after all proposals
        hooked = _hook(component, node, keys, w, top, start, bottom, end, begin, size, lane, HOPS, WHOLE, BLOCK)
        tl.debug_barrier()
        if hooked > 0:
            _chain(node, begin, size, lane, BLOCK)
            _update(node, keys, begin, size, lane, BLOCK)
    up += region // group * group * up_slots + region % group
    left = _leave(node, begin, size, up, group, lane, WHOLE, BLOCK)
    tl.store(counts + program * 2, total)
    tl.store(counts + program * 2 + 1, left)
