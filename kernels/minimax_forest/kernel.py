"""Minimum spanning forest in Triton: Boruvka inside tiles, then inside regions of 16 tiles, ..., then in the frame.

Why that is allowed. Boruvka needs no rounds in step: to join any component without a seed to another one along its
smallest outgoing edge, at any time, gives the one minimum spanning forest, because edges have a total order. Distances
do not depend on the order of events either: d(p) is the largest of the edges along which the components of p have
hooked. It is at most the minimax distance, for each of those edges is the cheapest way out for p. It is no less: if f,
the largest edge from p to its seed in the tree, were not one of them, then a component D without a seed and without p
would have hooked along f; but the path begins and ends outside D, so it crosses D's border over one more edge, and that
is larger than f.

So a program that owns a tile can go on while smallest edges stay in the tile, and must stop only where one leaves it.
An edge that leaves the tile joins different components whatever the other side does: nobody looks over the border.

1. ``grow_tiles``: a program a tile of 32 x 32. Components are pointers in registers (``tl.gather``), only the smallest
   edge of a component takes an ``atomic_min``, on keys (bits of the weight << 32 | edge). The first round is a stencil.
   What is left: 2-5 % of the pixels as nodes, 40 % of the edges as a list.
2. ``merge_tiles``: a program a region of 4 x 4 tiles, then of 4 x 4 regions, ...; at most 32 are left to the last one,
   which is the frame. Propose, hook, follow pointers, in tables of the region's own, until no smallest edge stays
   inside.
3. ``finish_pixels``: every pixel follows its node up; where two regions meet, the table of crossings takes an
   ``atomic_min``.
4. ``close_seeds``: minimax distances between seeds by Prim's algorithm. In the order in which it takes the seeds, with
   the edges w that it takes them by, the distance from the i-th to the j-th is max(w[i+1..j]): K steps of K numbers.

Five launches for 480 x 854, four for 120 x 214, whatever the data: loops end inside the programs. Within a launch no
program reads what another one writes but for the table of ``finish_pixels``, where a stale look costs an atomic and no
more. Minima and maxima of integers do not depend on the order of events, so the result is the same on every run.

Bytes that must move, a pixel: 8 in (two weights), 12 out (int64 label, distance). Bytes that move, a pixel: into
``grow_tiles`` 8, out of it 8 (node and distance), 8 (keys) and 1.7 (edges); at most 14 through ``merge_tiles``; 10 into
and 12 out of ``finish_pixels``. That is about 60, for 480 x 854 25 MB a frame (8.2 must), 2 GB or 0.5 ms for 80 frames
at 4.3 TB/s; the rest is latency. D does not matter. Frames need no grouping for the L2 cache: the rounds of a program
touch its own tile only, of which 132 x 3 are in flight (7 MB). Scratch memory is 8.8 MB a frame; SCRATCH_BYTES bounds
it. At 2160 x 3840 that is 15 frames at a time, and the last merge has 15 programs for 132 multiprocessors: 0.26 ms by
the estimate of ``gpuvos bench --static``, where the tiles of these frames take 14.5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gpuvos.errors import fail
from gpuvos.kernels.blocks import blocks
from gpuvos.kernels.minimax_forest.finish import close_seeds, finish_pixels
from gpuvos.kernels.minimax_forest.merge import merge_tiles
from gpuvos.kernels.minimax_forest.tiles import grow_tiles
from gpuvos.kernels.static import Variant

SIDE = 32  # of a tile
CHILDREN = 32  # most regions that are left to the frame
SCRATCH_BYTES = 4 << 30  # a sixth of the embedding at D = 64 in half precision; 15 frames of 2160 x 3840
_INTEGER_ONLY: dict[str, Any] = {"num_stages": 1, "enable_fp_fusion": False}


def minimax_forest(right: Tensor, down: Tensor, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What ``reference.minimax_forest`` returns, bit for bit, for weights of at most 32 bits.

    Raises:
        InputError: a frame has 2^28 pixels or more.
    """
    n, h, w = right.shape[0], right.shape[1], down.shape[2]
    k = index.shape[1]
    if h * w >= 1 << 28:
        raise fail("right", f"frames of {h} x {w} pixels", "fewer than 2^28 pixels")
    label = index.new_empty((n, h, w))
    distance = right.new_empty((n, h, w), dtype=torch.float32)
    seed_distance = right.new_empty((n, k, k), dtype=torch.float32)
    if n == 0:
        return label, distance, seed_distance
    layout = _Layout(h, w)
    given = [value.contiguous() for value in (right, down, index, valid.view(torch.uint8))]
    for block in blocks(n, layout.bytes_each, budget=SCRATCH_BYTES):
        results = (label[block], distance[block].view(torch.int32), seed_distance[block].view(torch.int32))
        _grow([value[block] for value in given], results, layout)
    return label, distance, seed_distance


class _Level(NamedTuple):
    """Tiles, or regions of 16 regions of the level below, or the frame."""

    regions: int  # of a frame, padded to whole regions of the level above
    height: int
    width: int
    slots: int  # for nodes: a component without a seed has a pixel on the border of its region
    begin: int  # number of the first node
    capacity: int  # for edges


class _Layout:
    """Tiles of SIDE x SIDE, regions of 4 x 4 tiles, of 4 x 4 regions, ... until few are left; sizes of their memory."""

    def __init__(self, h: int, w: int) -> None:
        rows, columns = -(-h // SIDE), -(-w // SIDE)
        sizes, fans = [(SIDE, SIDE)], []
        while rows * columns > CHILDREN:
            fans.append(0 if rows == 1 else 4 if columns == 1 else 2)  # 1 x 16, 16 x 1 or 4 x 4
            tall, wide = 1 << fans[-1], 16 >> fans[-1]
            rows, columns = -(-rows // tall), -(-columns // wide)
            sizes.append((sizes[-1][0] * tall, sizes[-1][1] * wide))
        self.across, children = columns, rows * columns
        self.fans = sum(fan << 3 * level for level, fan in enumerate(fans))
        self.groups = [16] * len(fans) + [
            children,
            1,
        ]  # regions of a level that one of the level above merges
        self.levels: list[_Level] = []
        self.nodes, capacity = (
            0,
            2 * SIDE * SIDE + 2 * SIDE,
        )  # to the right, down; incoming from left and above
        for level, (height, width) in enumerate(sizes):
            regions, slots = children * 16 ** (len(fans) - level), 2 * (height + width)
            self.levels.append(_Level(regions, height, width, slots, self.nodes, capacity * 16**level))
            self.nodes += regions * slots
        self.levels.append(_Level(1, h, w, 0, 0, 0))
        self.bytes_each = 8 * h * w + 24 * self.nodes + 4 * self.levels[0].regions * capacity


def _grow(given: list[Tensor], results: tuple[Tensor, Tensor, Tensor], layout: _Layout) -> None:
    right, down, index, valid = given
    label, distance, seed_distance = results
    n, h, w = label.shape
    k, nodes, fans, groups = index.shape[1], layout.nodes, layout.fans, layout.groups
    tiles, above, *_ = layout.levels
    frame = len(layout.levels) - 1
    integers: dict[str, Any] = {"dtype": torch.int32, "device": right.device}
    component, pixel_reach = torch.empty((2, n, h, w), **integers)
    node = torch.empty((n, nodes, 4), **integers)
    keys = index.new_empty((n, nodes))
    tile_keys = index.new_empty((n, tiles.regions, tiles.capacity // 2))
    edges = tile_keys.view(torch.int32)
    counts = [torch.empty((n, level.regions, 2), **integers) for level in layout.levels]
    grow_tiles[(n * tiles.regions,)](
        right, down, index, valid, component, pixel_reach, tile_keys, edges, counts[0], seed_distance,
        h, w, k, tiles.regions, layout.across, groups[0], above.height, above.width, tiles.capacity,
        SIDE=SIDE, LEVELS=frame - 1, FANS=fans, BLOCK_K=128, num_warps=8, **_INTEGER_ONLY,
    )  # fmt: skip
    for number in range(1, frame + 1):
        below, level, whole = layout.levels[number - 1], layout.levels[number], number == frame
        merge_tiles[(n * level.regions,)](
            right, down, component, node, keys, edges, counts[number - 1], counts[number],
            h, w, level.regions, 1 if whole else layout.across, groups[number - 1], level.height, level.width,
            below.capacity, nodes, below.begin, below.slots, level.begin, level.slots, groups[number],
            HOPS=number, LEVELS=0 if whole else frame - 1 - number, FANS=fans >> 3 * number, WHOLE=whole,
            BLOCK=4096 if whole else 512, num_warps=16 if whole else 4, **_INTEGER_ONLY,
        )  # fmt: skip
    programs = -(-h * w // 512)
    finish_pixels[(n * programs,)](
        right, down, component, pixel_reach, node, label, distance, seed_distance, h, w, k, nodes, programs,
        LEVELS=frame, BLOCK=512, num_warps=4, **_INTEGER_ONLY,
    )  # fmt: skip
    if k:
        size = max(32, 1 << (k - 1).bit_length())
        warps = max(1, min(16, size // 128))
        close_seeds[(n,)](index, valid, seed_distance, k, BLOCK=size, num_warps=warps, **_INTEGER_ONLY)


_KINDS = {
    **dict.fromkeys(("component", "pixel_reach", "node", "edges", "child_counts", "counts"), "*i32"),
    **dict.fromkeys(("distance", "seed_distance"), "*i32"),
    **dict.fromkeys(("index", "keys", "label"), "*i64"),
    "valid": "*u8",
}


def _variant(function: Any, weights: str, constants: dict[str, Any], warps: int) -> Variant:
    kinds = {**_KINDS, **dict.fromkeys(("right", "down"), weights), **dict.fromkeys(constants, "constexpr")}
    signature = {name: kinds.get(name, "i32") for name in function.arg_names}
    note = ", ".join([weights[1:], *(f"{name} = {value}" for name, value in constants.items())])
    return Variant(function, signature, constants, warps, 1, note)


VARIANTS: tuple[Variant, ...] = (
    *(
        variant
        for weights in ("*fp32", "*bf16", "*fp16")
        for variant in (
            _variant(grow_tiles, weights, {"SIDE": SIDE, "LEVELS": 0, "FANS": 0, "BLOCK_K": 128}, 8),
            _variant(grow_tiles, weights, {"SIDE": SIDE, "LEVELS": 1, "FANS": 2, "BLOCK_K": 128}, 8),
            _variant(merge_tiles, weights, {"HOPS": 1, "LEVELS": 0, "FANS": 0, "WHOLE": False, "BLOCK": 512}, 4),
            _variant(merge_tiles, weights, {"HOPS": 1, "LEVELS": 0, "FANS": 0, "WHOLE": True, "BLOCK": 4096}, 16),
            _variant(merge_tiles, weights, {"HOPS": 2, "LEVELS": 0, "FANS": 0, "WHOLE": True, "BLOCK": 4096}, 16),
            _variant(finish_pixels, weights, {"LEVELS": 1, "BLOCK": 512}, 4),
            _variant(finish_pixels, weights, {"LEVELS": 2, "BLOCK": 512}, 4),
        )
    ),
    *(_variant(close_seeds, "*fp32", {"BLOCK": size}, warps) for size, warps in ((32, 1), (128, 1), (512, 4))),
)
