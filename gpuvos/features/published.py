"""The weights inside the package, as torchvision's weights are told: what they are, and what they want to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpuvos.data.side_files import read_json
from gpuvos.errors import check_tensor
from gpuvos.features.bundled import BUNDLED, LearnedFeatures
from gpuvos.features.network.weights import SALIENCY
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.types import plain_tensor


class PublishedWeights(Enum):
    """Front ends with weights.

    Example:
        >>> weights = PublishedWeights.DEFAULT
        >>> weights.name, weights.meta["licence"], weights.meta["num_params"]
        ('SALIENCY', 'Apache-2.0', 1125485)
        >>> frames = weights.transforms()([torch.zeros(1, 32, 48), torch.ones(1, 32, 48)])
        >>> weights.build()(frames).embedding.shape
        torch.Size([2, 53, 32, 48])
    """

    SALIENCY = SALIENCY
    EMBEDDING = BUNDLED
    DEFAULT = SALIENCY  # noqa: PIE796  another name, as torchvision has

    @property
    def meta(self) -> dict[str, Any]:
        """The card of the file, with its licence and the terms, and ``num_params``."""
        from safetensors import safe_open

        path: Path = self.value
        card = dict(read_json("weights", path.with_suffix(".json"), "a card"))
        opened: Any = safe_open
        with opened(path, "pt") as file:
            names = list(file.keys())
            card["num_params"] = sum(torch.Size(file.get_slice(name).get_shape()).numel() for name in names)
        return card

    def transforms(self) -> Callable[[Tensor | Sequence[Tensor]], Tensor]:
        """From images to the frames that the front end and ``VideoSegmenter`` take; see ``to_frames``."""
        return to_frames

    def build(self, **options: Any) -> SaliencyFeatures | LearnedFeatures:
        """The front end with these weights.

        Args:
            options: of ``SaliencyFeatures`` or ``LearnedFeatures``.
        """
        return SaliencyFeatures(**options) if self is PublishedWeights.SALIENCY else LearnedFeatures(**options)


def to_frames(images: Tensor | Sequence[Tensor]) -> Tensor:
    """Frames ``[T, 3, H, W]`` of a clip; sizes and values stay, for the networks scale and normalise by themselves.

    Args:
        images: ``[3, H, W]`` or ``[1, H, W]`` each, or all of them in one tensor; uint8, or floating point in [0, 1].

    Raises:
        InputError: images of other shapes or types.

    Example:
        >>> to_frames(torch.zeros(1, 2, 2)).shape
        torch.Size([1, 3, 2, 2])
    """
    frames: Tensor
    if isinstance(images, Tensor):
        frames = plain_tensor(images)
    else:
        parts = [plain_tensor(image) for image in images]
        sizes: dict[str, int] = {}
        for part in parts:
            sizes = check_tensor("images", part, "C H W", kind="frames", sizes=sizes)
        frames = torch.stack(parts)
    frames = frames[None] if isinstance(frames, Tensor) and frames.ndim == 3 else frames
    if isinstance(frames, Tensor) and frames.ndim == 4 and frames.shape[1] == 1:
        frames = frames.expand(-1, 3, -1, -1)
    check_tensor("images", frames, "T 3 H W", kind="frames")
    return frames
