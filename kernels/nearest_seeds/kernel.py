"""Nearest seeds of two sets in Triton.

Design. One launch lists the seeds of both sets (``lists.py``). In the next a program of four warps takes 128 pixels (64
of float32, or of more than 64 channels): it reads their embedding once, keeps it in shared memory for the products and
in registers for the distances, and walks both lists 64 seeds at a time (32 of float32), the next seeds on their way
into shared memory meanwhile. A step is one tensor-core product; a thread keeps the least of every eighth score and the
step that it was in: nothing of size pixels x seeds exists. The distances are then taken from the differences to the two
seeds found, whose embedding comes from L1 in pieces of 16 bytes. Of more channels than fit, pixels are read again.

Arithmetic, D = 64, K = 100 in disjoint sets, so 128 places: 16.4 kflop a pixel. In bfloat16 a pixel is 128 bytes; at
4.3 TB/s those are 550 Tflop/s of 790: tensor cores keep up, just; from K = 150 on they set the pace. In float32 a pixel
is 256 bytes or 275 Tflop/s, four times what FMA units have (67) and 1.7 times what three tf32 products have, "tf32x3",
which are as exact as float32 to a few units: hence those. What bounds it is instructions (sm_90, bfloat16): for 32
pixels a warp takes 292 a step of 64 seeds, 192 of them the three that a score costs (product and offset, group,
minimum), and 1,700 for all else, a third of them the exact differences. ``gpuvos bench --static`` estimates what
that is for a video.

Backward: a pixel's gradient needs its two seeds alone (no atomics); those of the seeds are sums over the pixels that
named them, by ``region_sum``'s kernel with the differences formed on the way.

Bytes that must move: ``N P (b D + 24)``, b bytes an element; 62.3 MB a frame of 480 x 854 with D = 64 in bfloat16, and
so many do (the lists are 60 kB a frame and stay in L2). Backward must read ``b D + 24`` bytes a pixel and write
``b D``; the sums read ``2 b D + 24`` more, once for each set.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.nearest_seeds import lists
from gpuvos.kernels.nearest_seeds.lists import BLOCK_P, list_length, list_seeds, search_constants
from gpuvos.kernels.nearest_seeds.tiles import held_distances, load_pixels, nearest_two, pull_pixels, squared_distances
from gpuvos.kernels.region_sum.kernel import difference_sum
from gpuvos.kernels.static import Variant


def nearest_seeds(
    embedding: Tensor, seed_embedding: Tensor, foreground: Tensor, background: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Takes and returns what the reference does."""
    n, d, p = embedding.shape
    near, far = (embedding.new_empty((n, p), dtype=torch.float32) for _ in range(2))
    nearest_fg, nearest_bg = (embedding.new_empty((n, p), dtype=torch.int64) for _ in range(2))
    if near.numel():
        embedding = dense(embedding)
        listed, constants = list_seeds(embedding, seed_embedding, foreground, background)
        _nearest_seeds[(n * triton.cdiv(p, constants["BLOCK_P"]),)](
            embedding, *listed, near, far, nearest_fg, nearest_bg, d, p, *embedding.stride(), **constants,
            enable_fp_fusion=True,
        )  # fmt: skip
    return near, far, nearest_fg, nearest_bg


def nearest_seeds_backward(
    embedding: Tensor,
    seed_embedding: Tensor,
    nearest_fg: Tensor,
    nearest_bg: Tensor,
    grad_fg: Tensor,
    grad_bg: Tensor,
) -> tuple[Tensor, Tensor]:
    """Takes and returns what the reference's function of this name does."""
    n, d, p = embedding.shape
    grad_embedding = torch.empty_like(embedding, memory_format=torch.contiguous_format)
    embedding = dense(embedding)
    numbers, grads = (
        tuple(value.contiguous() for value in pair) for pair in ((nearest_fg, nearest_bg), (grad_fg, grad_bg))
    )
    if grad_embedding.numel():
        table = padded(seed_embedding)
        _nearest_seeds_backward[(n * triton.cdiv(p, BLOCK_P),)](
            embedding, table, *numbers, *grads, grad_embedding, seed_embedding.shape[1], d, p, *embedding.stride(),
            BLOCK_P=BLOCK_P, C=table.shape[2], num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return grad_embedding, seeds_gradient(embedding, seed_embedding, numbers, grads)


def seeds_gradient(
    embedding: Tensor, seed_embedding: Tensor, numbers: tuple[Tensor, ...], grads: tuple[Tensor, ...]
) -> Tensor:
    """``[N, K, D]`` from the numbers of the nearest seeds and the gradients of the distances to them."""
    return difference_sum(embedding, numbers, grads, seed_embedding).mul_(-2).to(seed_embedding.dtype)


def dense(embedding: Tensor) -> Tensor:
    """As it is if pixels or channels lie side by side, else a copy."""
    return embedding if 1 in embedding.stride()[1:] else embedding.contiguous()


def padded(seed_embedding: Tensor) -> Tensor:
    """Seeds ``[N, K, C]`` with C a multiple of 16, so that rows are aligned."""
    extra = -seed_embedding.shape[2] % 16
    return torch.nn.functional.pad(seed_embedding, (0, extra)) if extra else seed_embedding.contiguous()


@triton.jit
def _nearest_seeds(
    embedding_ptr,  # [N, D, P]
    rows_ptr,
    offset_ptr,
    number_ptr,
    size_ptr,
    centre_ptr,
    table_ptr,
    near_ptr,  # [N, P]
    far_ptr,
    nearest_fg_ptr,
    nearest_bg_ptr,
    D,
    P,
    stride_n,
    stride_d,
    stride_p,
    L: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PARTS: tl.constexpr,
    FACTOR: tl.constexpr,
):
    blocks = tl.cdiv(P, BLOCK_P)
    frame = (tl.program_id(0) // blocks).to(tl.int64)
    p = tl.program_id(0) % blocks * BLOCK_P + tl.arange(0, BLOCK_P)
    embedding_ptr += frame * stride_n
    e = load_pixels(embedding_ptr, tl.arange(0, BLOCK_D), p, D, P, stride_d, stride_p)
    fg, bg = nearest_two(
        e, frame, p, embedding_ptr, rows_ptr, offset_ptr, number_ptr, size_ptr, centre_ptr, D, P, stride_d, stride_p,
        L, BLOCK_K, PARTS, FACTOR,
    )  # fmt: skip
    C: tl.constexpr = PARTS * BLOCK_D
    table_ptr += frame * L * C
    if PARTS == 1:
        near, far = held_distances(e, fg, bg, table_ptr)
    else:
        near, far = squared_distances(p, fg, bg, embedding_ptr, table_ptr, D, P, stride_d, stride_p, C)
    place = frame * P + p
    tl.store(near_ptr + place, near, p < P)
    tl.store(far_ptr + place, far, p < P)
    tl.store(nearest_fg_ptr + place, fg.to(tl.int64), p < P)
    tl.store(nearest_bg_ptr + place, bg.to(tl.int64), p < P)


@triton.jit
def _nearest_seeds_backward(
    embedding_ptr,  # [N, D, P]
    table_ptr,  # [N, K, C]
    nearest_fg_ptr,  # [N, P]
    nearest_bg_ptr,
    grad_fg_ptr,
    grad_bg_ptr,
    grad_embedding_ptr,  # [N, D, P]
    K,
    D,
    P,
    stride_n,
    stride_d,
    stride_p,
    BLOCK_P: tl.constexpr,
    C: tl.constexpr,
):
    blocks = tl.cdiv(P, BLOCK_P)
    frame = (tl.program_id(0) // blocks).to(tl.int64)
    p = tl.program_id(0) % blocks * BLOCK_P + tl.arange(0, BLOCK_P)
    place = frame * P + p
    fg = tl.load(nearest_fg_ptr + place, p < P, -1).to(tl.int32)
    bg = tl.load(nearest_bg_ptr + place, p < P, -1).to(tl.int32)
    to_fg = tl.load(grad_fg_ptr + place, p < P, 0)
    to_bg = tl.load(grad_bg_ptr + place, p < P, 0)
    embedding_ptr += frame * stride_n
    grad_embedding_ptr += frame * D * P
    table_ptr += frame * K * C
    pull_pixels(p, fg, bg, to_fg, to_bg, embedding_ptr, table_ptr, grad_embedding_ptr, D, P, stride_d, stride_p, C)


LIST_TYPES = {"rows": "", "offset": "fp32", "number": "i32", "size": "i32", "centre": "fp32", "table": ""}


def search_variant(function: Any, kind: str, d: int, outputs: dict[str, str]) -> Variant:
    """Variant of a kernel that searches, for embedding and seeds of a type."""
    half = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[kind]
    constants = search_constants(d, half) | {"L": list_length(300), "stride_p": 1}
    num_warps, num_stages = constants.pop("num_warps"), constants.pop("num_stages")
    pointers = {"embedding": kind} | {name: value or kind for name, value in LIST_TYPES.items()} | outputs
    signature = {f"{name}_ptr": f"*{value}" for name, value in pointers.items()}
    signature |= {"D": "i32", "P": "i32", "stride_n": "i64", "stride_d": "i64"}
    signature |= dict.fromkeys(["stride_p", *(name for name in function.arg_names if name in constants)], "constexpr")
    return Variant(function, signature, constants, num_warps, num_stages, f"{kind}, D = {d}")


def _backward_variant(kind: str, c: int) -> Variant:
    pointers = ("embedding", "table", "nearest_fg", "nearest_bg", "grad_fg", "grad_bg", "grad_embedding")
    types = (kind, kind, "i64", "i64", "fp32", "fp32", kind)
    signature = {f"{name}_ptr": f"*{value}" for name, value in zip(pointers, types, strict=True)}
    signature |= {"K": "i32", "D": "i32", "P": "i32", "stride_n": "i64", "stride_d": "i64"}
    constants = {"stride_p": 1, "BLOCK_P": BLOCK_P, "C": c}
    signature |= dict.fromkeys(constants, "constexpr")
    return Variant(_nearest_seeds_backward, signature, constants, note=f"{kind}, C = {c}")


_OUTPUTS = {"near": "fp32", "far": "fp32", "nearest_fg": "i64", "nearest_bg": "i64"}
VARIANTS = (
    *lists.VARIANTS,
    *(search_variant(_nearest_seeds, kind, d, _OUTPUTS) for kind in ("bf16", "fp32") for d in (16, 64, 256)),
    _backward_variant("bf16", 64),
    _backward_variant("fp32", 256),
)
