"""What to say of a video in which nothing moves or nothing is found."""

from __future__ import annotations

from gpuvos.config import Config
from gpuvos.types import Segmentation


class Findings:
    """Looks at the pieces of a result for motion and for masks.

    Args:
        config: parameters of the method; motion is what exceeds its ``min_motion``.
        named: whether the object was given by a mask, so that nothing need move.

    Example:
        >>> import torch
        >>> from gpuvos import VideoSegmenter
        >>> segmenter, findings = VideoSegmenter(), Findings(Config())
        >>> findings.add(segmenter(torch.zeros(2, 3, 32, 48, dtype=torch.uint8)))
        >>> findings.sentence("still.mp4")
        'still.mp4: nothing moves, so no object is found; the masks are empty'
    """

    def __init__(self, config: Config, *, named: bool = False) -> None:
        self._least, self._named = config.min_motion, named
        self._moves = False
        self._frames = self._pixels = self._marked = 0

    def add(self, result: Segmentation) -> None:
        """Takes in the next frames."""
        flow, valid = result.region_flow, result.seeds.valid
        camera = flow.median(1, keepdim=True).values  # of most regions: the ground's
        length = (flow - camera).norm(dim=-1).masked_fill(~valid, 0)
        self._moves |= bool((length > self._least).any()) and bool((result.saliency > 0).any())
        self._frames += len(result.mask)
        self._pixels += result.mask.numel()
        self._marked += int(result.mask.sum())

    def sentence(self, name: str) -> str:
        """One line about the video of that name; "" where something moves and was found."""
        if self._named or self._moves:
            return "" if self._marked else f"{name}: no object is found; the masks are empty"
        still = "one frame alone has no motion" if self._frames == 1 else "nothing moves"
        if not self._marked:
            return f"{name}: {still}, so no object is found; the masks are empty"
        return f"{name}: {still}, so the masks ({self._marked / self._pixels:.1%} of the picture) mean nothing"
