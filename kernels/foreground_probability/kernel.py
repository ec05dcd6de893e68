"""Foreground probability in Triton.

Design. The search of ``nearest_seeds`` (see its kernel), and in the same pass the two distances become Eq. 13-15 in
registers, so that they are never written. The numbers of the seeds are, for the gradient: 8 bytes a pixel beside the
128 that are read at D = 64 in bfloat16. Backward takes the distances once more from the differences to the two seeds,
forms the gradients with respect to them and pulls the pixel; those gradients (8 bytes a pixel) weigh the sums over
pixels that make the gradient of the seeds. The temperature's is summed by program, then over programs in order.

Bytes that must move: ``N P (b D + 4)``, b bytes an element; 54.1 MB for a frame of 480 x 854 with D = 64 in bfloat16.
Bytes moved: ``N P (b D + 12)``, 57.4 MB. ``nearest_seeds`` and plain operations after it would move 62.3 MB and about
40 bytes a pixel more.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuvos.kernels.nearest_seeds.kernel import dense, padded, search_variant, seeds_gradient
from gpuvos.kernels.nearest_seeds.lists import BLOCK_P, list_seeds
from gpuvos.kernels.nearest_seeds.tiles import held_distances, load_pixels, nearest_two, pull_pixels, squared_distances
from gpuvos.kernels.static import Variant


def foreground_probability(
    embedding: Tensor, seed_embedding: Tensor, foreground: Tensor, background: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Takes and returns what the reference does."""
    n, d, p = embedding.shape
    probability = embedding.new_empty((n, p), dtype=torch.float32)
    nearest_fg, nearest_bg = (embedding.new_empty((n, p), dtype=torch.int32) for _ in range(2))
    if probability.numel():
        embedding = dense(embedding)
        listed, constants = list_seeds(embedding, seed_embedding, foreground, background)
        _foreground_probability[(n * triton.cdiv(p, constants["BLOCK_P"]),)](
            embedding, *listed, temperature, probability, nearest_fg, nearest_bg, d, p, *embedding.stride(),
            **constants, enable_fp_fusion=True,
        )  # fmt: skip
    return probability, nearest_fg, nearest_bg


def foreground_probability_backward(
    embedding: Tensor,
    seed_embedding: Tensor,
    nearest_fg: Tensor,
    nearest_bg: Tensor,
    temperature: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Takes and returns what the reference's function of this name does."""
    n, d, p = embedding.shape
    blocks = triton.cdiv(p, BLOCK_P)
    grad_embedding = torch.empty_like(embedding, memory_format=torch.contiguous_format)
    embedding, numbers = dense(embedding), (nearest_fg.contiguous(), nearest_bg.contiguous())
    pull, push = (grad.new_empty((n, p), dtype=torch.float32) for _ in range(2))
    heat = grad.new_empty(n * blocks, dtype=torch.float32)
    if heat.numel():
        table = padded(seed_embedding)
        _foreground_probability_backward[(n * blocks,)](
            embedding, table, *numbers, temperature, grad.contiguous(), grad_embedding, pull, push, heat,
            seed_embedding.shape[1], d, p, *embedding.stride(),
            BLOCK_P=BLOCK_P, C=table.shape[2], num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    to_temperature = heat.sum(dtype=torch.float64).reshape(temperature.shape).to(temperature.dtype)
    to_seeds = seeds_gradient(embedding, seed_embedding, numbers, (pull, push))
    return grad_embedding, to_seeds, to_temperature


@triton.jit
def _gap(near, far, t):
    """``softplus(far / t) - softplus(near / t)``, the large parts subtracted first."""
    return (far - near) / t + tl.log(1 + tl.exp(-far / t)) - tl.log(1 + tl.exp(-near / t))


@triton.jit
def _probability(near, far, t):
    """``sigmoid`` of ``_gap`` with fewer exponentials: ``(1 + exp(-b)) / (1 + exp(-b) + exp(a - b) (1 + exp(-a)))``."""
    scale = 1.4426950408889634 / t  # exp(x) = exp2(x log2 e)
    one = 1 + tl.exp2(-far * scale)
    return one / (one + tl.exp2((near - far) * scale) * (1 + tl.exp2(-near * scale)))


@triton.jit
def _foreground_probability(
    embedding_ptr,  # [N, D, P]
    rows_ptr,
    offset_ptr,
    number_ptr,
    size_ptr,
    centre_ptr,
    table_ptr,
    temperature_ptr,
    probability_ptr,  # [N, P]
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
    t = tl.load(temperature_ptr).to(tl.float32)
    probability = tl.where(bg < 0, 1.0, _probability(near, far, t))
    probability = tl.where(fg < 0, 0.0, probability)
    place = frame * P + p
    tl.store(probability_ptr + place, probability, p < P)
    tl.store(nearest_fg_ptr + place, fg, p < P)
    tl.store(nearest_bg_ptr + place, bg, p < P)


@triton.jit
def _foreground_probability_backward(
    embedding_ptr,  # [N, D, P]
    table_ptr,  # [N, K, C]
    nearest_fg_ptr,  # [N, P]
    nearest_bg_ptr,
    temperature_ptr,
    grad_ptr,  # [N, P]
    grad_embedding_ptr,  # [N, D, P]
    pull_ptr,  # [N, P]: of the distance to the foreground
    push_ptr,  # [N, P]: of that to the background
    heat_ptr,  # of the temperature, by program
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
    embedding_ptr += frame * stride_n
    grad_embedding_ptr += frame * D * P
    table_ptr += frame * K * C
    place = frame * P + p
    fg = tl.load(nearest_fg_ptr + place, p < P, -1)
    bg = tl.load(nearest_bg_ptr + place, p < P, -1)
    near, far = squared_distances(p, fg, bg, embedding_ptr, table_ptr, D, P, stride_d, stride_p, C)
    both = (fg >= 0) & (bg >= 0)
    near = tl.where(both, near, 0.0)
    far = tl.where(both, far, 0.0)
    t = tl.load(temperature_ptr).to(tl.float32)
    gap = _gap(near, far, t)
    flow = tl.load(grad_ptr + place, p < P, 0).to(tl.float32) * tl.sigmoid(gap) * tl.sigmoid(-gap) / t
    flow = tl.where(both, flow, 0.0)
    pull = -flow * tl.sigmoid(near / t)
    push = flow * tl.sigmoid(far / t)
    tl.store(pull_ptr + place, pull, p < P)
    tl.store(push_ptr + place, push, p < P)
    tl.store(heat_ptr + tl.program_id(0), -tl.sum(pull * near + push * far, 0) / t)
    pull_pixels(p, fg, bg, pull, push, embedding_ptr, table_ptr, grad_embedding_ptr, D, P, stride_d, stride_p, C)


def _backward_variant(kind: str, c: int) -> Variant:
    pointers = {
        "embedding": kind, "table": kind, "nearest_fg": "i32", "nearest_bg": "i32", "temperature": "fp32",
        "grad": "fp32", "grad_embedding": kind, "pull": "fp32", "push": "fp32", "heat": "fp32",
    }  # fmt: skip
    signature = {f"{name}_ptr": f"*{value}" for name, value in pointers.items()}
    signature |= {"K": "i32", "D": "i32", "P": "i32", "stride_n": "i64", "stride_d": "i64"}
    constants = {"stride_p": 1, "BLOCK_P": BLOCK_P, "C": c}
    signature |= dict.fromkeys(constants, "constexpr")
    return Variant(_foreground_probability_backward, signature, constants, note=f"{kind}, C = {c}")


_OUTPUTS = {"temperature": "fp32", "probability": "fp32", "nearest_fg": "i32", "nearest_bg": "i32"}
VARIANTS = (
    search_variant(_foreground_probability, "bf16", 52, _OUTPUTS),
    search_variant(_foreground_probability, "fp16", 128, _OUTPUTS),
    search_variant(_foreground_probability, "fp32", 52, _OUTPUTS),
    search_variant(_foreground_probability, "fp32", 256, _OUTPUTS),
    _backward_variant("bf16", 64),
    _backward_variant("fp32", 256),
)
