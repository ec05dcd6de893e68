"""Other embeddings in place of the front end's: what the learned embedding is worth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.context import resize
from gpuvos.types import Features

CONTEXT = 4  # channels of position and motion, the last ones of every front end of the library
EMBEDDINGS = {
    "embedding-network": "network alone, without position and motion",
    "embedding-context": "position and motion alone",
    "embedding-semantic": "features of the semantic network before its classifier, as fc7",
}


def part(embedding: Tensor, name: str) -> Tensor:
    """``[T, D - 4, H, W]`` for ``network``, ``[T, 4, H, W]`` for ``context``."""
    chosen = embedding[:, :-CONTEXT] if name == "network" else embedding[:, -CONTEXT:]
    return chosen.contiguous()


class SemanticEmbedding(nn.Module):
    """The maps of the semantic network that its class scores are computed from, in place of the learned embedding.

    They are scaled, by one number a clip, to the total variance of the learned embedding, whose temperature and
    thresholds then fit. No position, no motion.

    Args:
        front_end: whose network is looked into.
    """

    def __init__(self, front_end: LearnedFeatures) -> None:
        super().__init__()
        self.network = front_end.network

    @torch.no_grad()
    def forward(self, frames: Tensor, features: Features) -> Features:
        """The features of the clip with the other embedding."""
        like = features.embedding[:, :-CONTEXT]
        size = (like.shape[-2], like.shape[-1])
        maps = torch.cat([resize(self._maps(frame), size) for frame in torch.split(frames, 1)])
        variance, wanted = (value.float().var(dim=(0, 2, 3)).sum() for value in (maps, like))
        return features._replace(embedding=maps * (wanted / variance.clamp(min=1e-12)).sqrt())

    def _maps(self, frames: Tensor) -> Tensor:
        images = frames.float() / 255 if frames.dtype == torch.uint8 else frames
        network = self.network
        maps: Tensor = network.decoder(network.encoder((images - network.mean) / network.std)).decoder2
        return maps
