"""What is measured: sizes, and inputs of every stage made from random smooth features."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gpuvos import functional as F
from gpuvos.config import Config
from gpuvos.data import render_clip
from gpuvos.errors import check_choice, check_positive, fail
from gpuvos.features.network.u2net import U2NetP
from gpuvos.features.network.weights import load_saliency
from gpuvos.functional.edges import embedding_graph
from gpuvos.pipeline import steps
from gpuvos.pipeline.rules import PaperRule
from gpuvos.pipeline.video import VideoSegmenter
from gpuvos.types import EdgeWeights, Features, Forest, Labels, Motion, Regions, Seeds

SIZES = {
    "240p": (240, 428),
    "480p": (480, 854),
    "720p": (720, 1280),
    "1080p": (1080, 1920),
    "2160p": (2160, 3840),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SMOOTH = 9  # side of the box that smooths the noise


class Workload(NamedTuple):
    """Sizes of one measurement; everything that is made from them is random with a fixed seed."""

    height: int = 480  # of the frames
    width: int = 854
    stride: int = 4  # of the grid that the method works on
    frames: int = 8  # T
    channels: int = 64  # D
    seeds: int = 100  # K of the single stages and of the paper's rule
    robust_seeds: int = 300  # K of the robust rule and its vote
    dtype: str = "float32"  # of embedding, objectness and flow
    device: str = "cpu"

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the grid.

        Example:
            >>> Workload(height=480, width=854, stride=4).grid
            (120, 214)
        """
        return -(-self.height // self.stride), -(-self.width // self.stride)

    @property
    def pixels(self) -> int:
        """Pixels of the grid of one frame."""
        return self.grid[0] * self.grid[1]

    @property
    def element(self) -> int:
        """Bytes of an element of the features."""
        return DTYPES[self.dtype].itemsize

    @property
    def name(self) -> str:
        """The workload in words."""
        return (
            f"{self.frames} frames of {self.height} x {self.width} at stride {self.stride} "
            f"({self.grid[0]} x {self.grid[1]}), D = {self.channels}, K = {self.seeds} "
            f"(robust rule {self.robust_seeds}), {self.dtype}"
        )


def check_workload(workload: Workload) -> Workload:
    """Returns the workload; raises InputError where a size is not above zero or the dtype is unknown."""
    for name in ("height", "width", "stride", "frames", "channels", "seeds", "robust_seeds"):
        check_positive(name, getattr(workload, name))
    check_choice("dtype", workload.dtype, tuple(DTYPES))
    if min(workload.grid) < 2:
        raise fail("stride", str(workload.stride), "a grid of at least 2 x 2 pixels", "take larger frames")
    return workload


class Inputs:
    """What the stages of a workload take, each made by the stages before it when it is first asked for.

    Example:
        >>> inputs = Inputs(Workload(height=32, width=48, frames=2, channels=8, seeds=4))
        >>> inputs.features.embedding.shape, inputs.seeds.index.shape
        (torch.Size([2, 8, 8, 12]), torch.Size([2, 4]))
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = check_workload(workload)
        self.device = torch.device(workload.device)
        self.paper = Config(rule="paper", num_seeds=workload.seeds)
        self.robust = Config(num_seeds=workload.robust_seeds)

    @cached_property
    def features(self) -> Features:
        """Noise under a 9 x 9 box, scaled to unit variance: embedding, objectness (its sigmoid), flow."""
        work, (height, width) = self.workload, self.workload.grid
        generator = torch.Generator(self.device).manual_seed(0)
        channels = work.channels + 3
        smooth = torch.empty(work.frames, channels, height, width, dtype=DTYPES[work.dtype], device=self.device)
        for frame in smooth:  # one at a time: the noise of a long video would not fit beside it
            noise = torch.randn(channels, height, width, generator=generator, device=self.device)
            frame.copy_(avg_pool2d(noise, _SMOOTH, stride=1, padding=_SMOOTH // 2) * _SMOOTH)
        embedding, rest = smooth[:, : work.channels].contiguous(), smooth[:, work.channels :]
        return Features(embedding, rest[:, 0].sigmoid(), rest[:, 1:].contiguous())

    @cached_property
    def _batch(self) -> Features:
        """The features as a batch of one video, as the steps take them."""
        return Features(*(value[None] for value in self.features))

    @cached_property
    def candidates(self) -> Tensor:
        """``[T, H, W]`` bool."""
        return embedding_graph(self.features.embedding, window=self.paper.window)[1]

    @cached_property
    def edge_map(self) -> Tensor:
        """``[T, H, W]``, what watersheds of pixels flood."""
        return F.edge_map(self.features.embedding, squared_distance=True)

    @cached_property
    def _regions(self) -> Regions:
        """Seeds, edge weights and regions of the paper's rule, ``[1, T, ...]``."""
        return steps.regions(self._batch, None, self.paper)

    @property
    def weights(self) -> EdgeWeights:
        """Edge weights of the embedding graph."""
        return EdgeWeights(*(value[0] for value in self._regions.weights))

    @property
    def seeds(self) -> Seeds:
        """Seeds of the paper's rule."""
        return Seeds(*(value[0] for value in self._regions.seeds))

    @property
    def forest(self) -> Forest:
        """Minimax regions of the seeds."""
        return Forest(*(value[0] for value in self._regions.forest))

    @cached_property
    def _motion(self) -> Motion:
        """Motion by the paper's rule, ``[1, T, ...]``."""
        return steps.motion(self._batch, self._regions, self.paper)

    @property
    def region_flow(self) -> Tensor:
        """``[T, K, 2]``."""
        return self._motion.region_flow[0]

    @property
    def initial_background(self) -> Tensor:
        """``[T, K]`` bool."""
        return self._motion.initial_background[0]

    @property
    def saliency(self) -> Tensor:
        """``[T, K]``."""
        return self._motion.saliency[0]

    @cached_property
    def _labels(self) -> Labels:
        """Labels by the paper's rule, ``[1, T, ...]``."""
        return PaperRule().label(self._batch, self._regions, self._motion, self.paper)

    @property
    def foreground_seed(self) -> Tensor:
        """``[T]`` int64, the best track."""
        assert self._labels.tracks is not None
        return self._labels.tracks.foreground_seed[0]

    @property
    def initial_foreground(self) -> Tensor:
        """``[T, H, W]`` bool, Eq. 11."""
        assert self._labels.initial_foreground is not None
        return self._labels.initial_foreground[0]

    @property
    def seed_sets(self) -> tuple[Tensor, Tensor]:
        """Foreground and background, Eq. 12."""
        return self._labels.foreground[0], self._labels.background[0]

    @cached_property
    def robust_seeds(self) -> Seeds:
        """Seeds of the robust rule."""
        features = self.features
        _, candidates = embedding_graph(features.embedding, window=self.robust.window)
        return F.select_seeds(features.embedding, features.objectness, candidates, num_seeds=self.robust.num_seeds)

    @cached_property
    def images(self) -> Tensor:
        """``[T, 3, height, width]`` uint8, a rendered clip."""
        return self._clip[0].to(self.device)

    @cached_property
    def truth(self) -> Tensor:
        """``[T, height, width]`` bool, the object of the clip."""
        return self._clip[1].to(self.device)

    @cached_property
    def mask(self) -> Tensor:
        """``[T, height, width]`` bool, the truth moved by three pixels: what is scored."""
        return self.truth.roll((3, 3), (-2, -1))

    @cached_property
    def probability(self) -> Tensor:
        """``[T, height, width]``, 0.8 on the mask and 0.2 beside it: what the CRF refines."""
        return torch.where(self.mask, 0.8, 0.2)

    @cached_property
    def _clip(self) -> tuple[Tensor, Tensor]:
        work = self.workload
        clip = render_clip("single", num_frames=work.frames, height=work.height, width=work.width)
        return clip.frames, clip.mask

    @cached_property
    def published_saliency(self) -> U2NetP:
        """U2NetP with its whole decoder, which the front end goes without."""
        return load_saliency(detail=True).to(self.device)

    @cached_property
    def segmenter(self) -> VideoSegmenter:
        """The network inside the package, and the robust rule."""
        return VideoSegmenter(config=self.robust).to(self.device).eval()
