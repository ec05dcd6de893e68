"""The most similar seed of the next frame in Triton.

Design. It is the search of ``nearest_seeds`` with the seeds of a frame as its pixels: channels lie side by side there
as in an embedding in channels-last order. ``cdist`` without its product form would start a block for each of the 7.1
million distances of 80 frames with K = 300.

Bytes that must move: ``N K (2 b D + 8)``, b bytes an element; 6.3 MB for 80 frames, K = 300, D = 64 in bfloat16. Moved:
16 bytes a seed more, for the two distances and the number that nobody asks for.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.kernels.nearest_seeds.kernel import nearest_seeds
from gpuvos.kernels.static import Variant


def following_seeds(embedding: Tensor, following: Tensor, valid: Tensor) -> Tensor:
    """Takes and returns what the reference does."""
    none = torch.zeros_like(valid)
    return nearest_seeds(embedding.mT, following, valid, none)[2].clamp_(min=0)


VARIANTS: tuple[Variant, ...] = ()  # those of nearest_seeds
