"""The tensors that flow between the steps, and the glossary of shape letters.

=====  ==========================================================================
 B      videos in one call (ragged batches carry ``lengths [B]``)
 T      frames of a video
 H, W   rows and columns of the grid the method works on (by default a quarter of the image)
 D      channels of the embedding
 K      seeds of a frame
 C      channels of anything else
=====  ==========================================================================

An index of -1 means "none" everywhere: an invalid seed, a pixel that no seed reaches, a track that never began.
Every type below may carry one more leading dimension B.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from gpuvos.config import Config

Device = torch.device | str | int | None
Progress = Callable[[str, int, int], object]  # what runs ("network", "flow", ...), frames done, frames in all
V = TypeVar("V")


class Features(NamedTuple):
    """What a front end returns for a clip, on the grid of the method."""

    embedding: Tensor  # [T, D, H, W] float
    objectness: Tensor  # [T, H, W] float in [0, 1], Eq. 3
    flow: Tensor  # [T, 2, H, W] float, (x, y) in pixels of the image from frame t to t + 1

    def to(self, device: Device = None, dtype: torch.dtype | None = None) -> Features:
        """On another device, in another floating type; see ``Segmentation.to``."""
        return moved(self, device, dtype)

    def detach(self) -> Features:
        """Without the graph of gradients."""
        return map_tensors(Tensor.detach, self)  # type: ignore[no-any-return]


class EdgeWeights(NamedTuple):
    """Weights of the embedding graph: Euclidean distances between 4-neighbours."""

    right: Tensor  # [T, H, W-1] between (y, x) and (y, x+1)
    down: Tensor  # [T, H-1, W] between (y, x) and (y+1, x)


class Seeds(NamedTuple):
    """Diverse representative points of every frame, Eq. 6, in the order in which they were chosen."""

    index: Tensor  # type: ignore[assignment]  # [T, K] int64 raster index y * W + x; -1 where invalid
    valid: Tensor  # [T, K] bool; False where a frame has fewer candidates than K
    embedding: Tensor  # [T, K, D]; 0 where invalid
    objectness: Tensor  # [T, K]; 0 where invalid


class Forest(NamedTuple):
    """Geodesic regions of the seeds in the embedding graph."""

    label: Tensor  # [T, H, W] int64 number of the seed whose region a pixel is in; -1 where a frame has no seed
    distance: Tensor  # [T, H, W] geodesic distance to that seed; inf where there is none
    seed_distance: Tensor  # [T, K, K] geodesic distance between seeds; inf where one is invalid


class Regions(NamedTuple):
    """Seeds and their geodesic regions, Eq. 4-6."""

    seeds: Seeds
    weights: EdgeWeights
    forest: Forest


class Motion(NamedTuple):
    """How the seeds move, Eq. 7-8."""

    region_flow: Tensor  # [T, K, 2] mean flow of the seeds' regions
    saliency: Tensor  # [T, K] in [0, 1]
    evidence: Tensor  # [T, K] in [0, 1], what a rule that votes smooths; the saliency itself with the paper's rule
    initial_background: Tensor  # [T, K] bool, the seeds of lowest objectness


class Tracks(NamedTuple):
    """Tracks of the seeds through the video and the one that follows the object, Eq. 9-10."""

    index: Tensor  # type: ignore[assignment]  # [T, K] int64, the seed of frame t in the track that began at seed k
    score: Tensor  # [K], Eq. 10; -inf for a track that never began
    foreground_seed: Tensor  # [T] int64, the members of the best track


class Labels(NamedTuple):
    """What a rule says of the seeds."""

    foreground: Tensor  # [T, K] bool
    background: Tensor  # [T, K] bool
    score: Tensor  # [T, K] share of confident neighbours (robust rule), O(s) M(s) of Eq. 10 (paper's rule)
    confident: Tensor  # [T, K] bool, seeds whose smoothed evidence is high (robust rule); none with the paper's rule
    tracks: Tracks | None = None  # where the rule or ``Config.track_seeds`` asks for them
    initial_foreground: Tensor | None = None  # [T, H, W] bool, Eq. 11, likewise


class SeedSets(NamedTuple):
    """Seeds of a frame and the two sets of them that Eq. 13-14 search."""

    embedding: Tensor  # [T, K, D]
    foreground: Tensor  # [T, K] bool; with ``Config.softness`` weights in [0, 1]
    background: Tensor  # [T, K] likewise


class Segmentation(NamedTuple):
    """Masks and everything that led to them.

    ``tracks``, ``track_score``, ``foreground_seed`` and ``initial_foreground`` (Eq. 9-11) are None where the rule does
    not use them: the robust rule computes them only with ``Config(track_seeds=True)``.
    """

    mask: Tensor  # [T, h, w] bool, at the size asked for
    probability: Tensor  # [T, h, w] in [0, 1], Eq. 15
    confidence: Tensor  # [T, h, w] in [0, 1], |2 * probability - 1|
    seeds: Seeds
    forest: Forest
    foreground: Tensor  # [T, K] bool, seeds of the object
    background: Tensor  # [T, K] bool, seeds of the rest, Eq. 12
    region_flow: Tensor  # [T, K, 2] mean flow of the seeds' regions
    saliency: Tensor  # [T, K] in [0, 1], Eq. 7-8
    seed_score: Tensor  # [T, K] share of confident neighbours (robust rule), O(s) M(s) of Eq. 10 (paper's rule)
    confident: Tensor  # [T, K] bool, seeds whose smoothed evidence is high (robust rule)
    tracks: Tensor | None = None  # [T, K] int64, Eq. 9
    track_score: Tensor | None = None  # [K], Eq. 10; -inf for a track that never began
    foreground_seed: Tensor | None = None  # [T] int64, the members of the best track
    initial_foreground: Tensor | None = None  # [T, H, W] bool, Eq. 11
    config: Config | None = None  # what it was made with; None inside of a traced program, which holds tensors alone

    def to(self, device: Device = None, dtype: torch.dtype | None = None) -> Segmentation:
        """All tensors on another device, those of real numbers in another floating type.

        Args:
            device: None leaves them where they are.
            dtype: of floating point; None leaves it.

        Example:
            >>> import gpuvos
            >>> features = torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8), torch.zeros(2, 2, 8, 8)
            >>> gpuvos.segment(*features).to(dtype=torch.float64).probability.dtype
            torch.float64
        """
        return moved(self, device, dtype)

    def cpu(self) -> Segmentation:
        """All tensors in the memory of the host."""
        return moved(self, "cpu", None)

    def detach(self) -> Segmentation:
        """Without the graph of gradients."""
        return map_tensors(Tensor.detach, self)  # type: ignore[no-any-return]


def map_tensors(function: Callable[..., Tensor], *values: Any) -> Any:
    """Applies a function to the tensors of nested named tuples: one tensor of each value at a time.

    Args:
        function: takes as many tensors as there are values.
        values: named tuples of one structure; what is neither a tensor nor a tuple is that of the first value.

    Example:
        >>> import torch
        >>> map_tensors(torch.add, EdgeWeights(torch.ones(1), torch.ones(1)), EdgeWeights(torch.ones(1), torch.ones(1)))
        EdgeWeights(right=tensor([2.]), down=tensor([2.]))
    """
    first = values[0]
    if isinstance(first, Tensor):
        return function(*values)
    if isinstance(first, tuple):
        parts = [map_tensors(function, *part) for part in zip(*values, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    return first


def moved(value: V, device: Device, dtype: torch.dtype | None) -> V:
    """A named tuple with its tensors on a device; a floating ``dtype`` is for those of real numbers alone.

    Example:
        >>> moved(EdgeWeights(torch.ones(1), torch.ones(1)), None, torch.float64).right.dtype
        torch.float64
    """

    def move(tensor: Tensor) -> Tensor:
        wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        return tensor.to(device=tensor.device if device is None else device, dtype=wanted)

    result: V = map_tensors(move, value)
    return result


def plain_tensor(value: Any) -> Any:
    """A tensor without a name of its own for what it is: an image of ``torchvision.tv_tensors`` as a plain tensor.

    Subclasses that compute themselves (fake, distributed) and parameters stay what they are; so does what is no tensor.

    Example:
        >>> plain_tensor(torch.ones(1)).as_subclass(torch.Tensor)
        tensor([1.])
    """
    if not isinstance(value, Tensor) or torch.compiler.is_compiling():
        return value
    computes = type(value).__torch_dispatch__ is not Tensor.__torch_dispatch__
    ordinary = type(value) in (Tensor, torch.nn.Parameter)
    return value if ordinary or computes else value.as_subclass(Tensor)


# what torch.load(..., weights_only=True) may build
torch.serialization.add_safe_globals([Config, Features, EdgeWeights, Seeds, Forest, Segmentation])
