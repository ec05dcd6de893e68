"""The learned front end: the embedding network, position and motion as channels, weight-free flow."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gpuvos.data.atomic import PathLike
from gpuvos.errors import check_choice, check_count, check_positive, check_tensor, fail
from gpuvos.features.base import ClipFeatures, accepted
from gpuvos.features.context import grid_stride, over_frames, resize, with_context
from gpuvos.features.network.embedding import EmbeddingNetwork, fuse
from gpuvos.features.network.weights import load_weights
from gpuvos.flow.clip import DenseFlow
from gpuvos.flow.inference import InferenceModule
from gpuvos.flow.variational import FOR_NETWORKS
from gpuvos.types import Features, Progress

Combination = Literal["mean", "max"]

BUNDLED = Path(__file__).with_name("network") / "embedding.safetensors"


class LearnedFeatures(InferenceModule):
    """Features from a trained network.

    Embedding (channels in this order): the network's (D), position (2), flow left over after the motion of the
    camera (2). Objectness: ``floor + (1 - floor) O``, O = the geometric mean of what the classes say, 1 - P_background
    (Eq. 3), and of what the class-agnostic head says, each over ``scales``.

    Args:
        weights: a file that ``save_weights`` wrote, or a network; None: the weights that come with the library.
        position: weight of the two channels of position, whose values are in [-1, 1].
        motion: weight of the two channels of motion, likewise.
        scales: sizes at which the network looks for objects, relative to the frame. The embedding is of the first. A
            second size costs a quarter more and does not raise J on DAVIS train.
        max_stride: most pixels of the frame per pixel of the grid. It is less for frames whose shorter side would have
            fewer than 48 pixels on the grid.
        combine: how the objectness of the sizes is combined, ``mean`` or ``max``.
        floor: least objectness. Above 0 it lets motion speak for objects that the network does not know: without it
            a region of no objectness is never found, however it moves. At 0.1 moving water is found as well.
        temperature: squared distances are divided by it. The default was fitted on DAVIS train: there the foreground
            probability of the robust rule is calibrated (mean error of the confidence 0.6 %, without it 15 %).
        flow: module that gives the flow of a clip, called as ``flow(frames, size=(H, W))``. None: ``DenseFlow`` with a
            single linearisation on its finest level.
        chunk: frames the network sees together. By default 1 on the CPU and 16 elsewhere.
        dtype: of the network. bfloat16 is quicker on GPUs and on CPUs that multiply in it (AVX512-BF16, AMX), and much
            slower on others. None: as the weights are, float32 by default.

    Raises:
        InputError: weights that are missing, damaged or of something else; an option out of its range.

    Example:
        >>> features = LearnedFeatures(EmbeddingNetwork(dimensions=16))
        >>> features(torch.zeros(2, 3, 192, 256, dtype=torch.uint8)).embedding.shape
        torch.Size([2, 20, 48, 64])
    """

    __call__: ClipFeatures  # what forward takes and gives, which a call of a module does not say

    def __init__(
        self,
        weights: PathLike | EmbeddingNetwork | None = None,
        *,
        position: float = 0.7,
        motion: float = 1.0,
        scales: tuple[float, ...] = (1.0,),
        max_stride: int = 4,
        combine: Combination = "mean",
        floor: float = 0.05,
        temperature: float = 0.27,
        flow: nn.Module | None = None,
        chunk: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("position", position, zero=True)
        check_positive("motion", motion, zero=True)
        check_positive("temperature", temperature)
        check_choice("combine", combine, get_args(Combination))
        check_count("chunk", 1 if chunk is None else chunk)
        check_count("max_stride", max_stride)
        if not scales or min(scales) <= 0:
            raise fail("scales", repr(scales), "one or more numbers above zero")
        if not 0 <= floor < 1:
            raise fail("floor", repr(floor), "a number in [0, 1)")
        network = weights if isinstance(weights, EmbeddingNetwork) else load_weights(weights or BUNDLED)
        if dtype is not None and not dtype.is_floating_point:
            raise fail("dtype", str(dtype), "a floating point type, for example torch.bfloat16")
        self.network = fuse(network).to(dtype=dtype)
        self.freeze(self.network)
        self.position, self.motion = position, motion
        self.scales, self.max_stride, self.combine, self.floor, self.chunk = scales, max_stride, combine, floor, chunk
        self.temperature = temperature
        self.flow = DenseFlow(parameters=FOR_NETWORKS) if flow is None else flow
        self.eval()

    def forward(self, frames: Tensor, *, validate: bool = True, progress: Progress | None = None) -> Features:
        """Computes the features of a clip.

        Args:
            frames: ``[T, 3, h, w]`` uint8, or floating point in [0, 1].
            validate: look for values out of range, which reads back from the device.
            progress: called with ``"network"`` or ``"flow"``, the frames that are done and all of them.

        Returns:
            Features on the grid ``ceil(h / stride) x ceil(w / stride)``. Frames whose stride is less than 4 are seen
            enlarged by the network. Embedding and objectness have the network's dtype.

        Raises:
            InputError: a wrong shape or dtype, or no pixel at all.
        """
        embedding, objectness = self.encode(frames, progress=progress)
        options = accepted(self.flow, validate=validate, progress=progress)
        flow = self.flow(frames, size=(objectness.shape[-2], objectness.shape[-1]), **options)
        return self.complete(embedding, objectness, flow)

    def encode(self, frames: Tensor, *, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """What needs no other frame (so a stream computes it once): embedding ``[T, D, H, W]``, objectness."""
        sizes = check_tensor("frames", frames, "T 3 h w", kind="frames")
        if any(size == 0 for size in sizes.values()):
            raise fail("frames", f"shape {tuple(frames.shape)}", "at least one frame of at least one pixel")
        weight = self.network.project.weight
        if weight.device != frames.device:
            wanted = f"{weight.device}, that of the network"
            raise fail("frames", f"device {frames.device}", wanted, "move one of them with .to(device)")
        return over_frames(self._encode_part, frames, self.chunk, progress)

    def complete(self, embedding: Tensor, objectness: Tensor, flow: Tensor) -> Features:
        """Features from ``appearance`` and the flow of the clip."""
        features = with_context(embedding, objectness, flow, position_weight=self.position, motion_weight=self.motion)
        return features._replace(embedding=features.embedding.mul_(self.temperature**-0.5))  # it is ours alone

    def _encode_part(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding and objectness of a few frames."""
        dtype = self.network.project.weight.dtype
        images = frames.to(dtype) / 255 if frames.dtype == torch.uint8 else frames.to(dtype)
        images = images.contiguous(memory_format=torch.channels_last)
        h, w = images.shape[-2:]
        stride = grid_stride(h, w, self.max_stride)
        grid = (-(-h // stride), -(-w // stride))
        if stride < 4:
            h, w = 4 * grid[0], 4 * grid[1]
        sizes = [(max(1, round(h * scale)), max(1, round(w * scale))) for scale in self.scales]
        outputs = [self.network(resize(images, size)) for size in sizes]
        classes = self._combined([output.class_logits.softmax(1)[:, 0].neg() + 1 for output in outputs], grid)
        agnostic = self._combined([output.object_logit.sigmoid() for output in outputs], grid)
        objectness = self.floor + (1 - self.floor) * (classes * agnostic).clamp(min=0).sqrt()
        objectness = objectness.clamp(max=1)  # resizing a constant 1 may exceed it
        return resize(outputs[0].embedding, grid), objectness

    def _combined(self, votes: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """One map ``[N, H, W]`` of those of several sizes."""
        stacked = torch.stack([resize(vote[:, None], grid)[:, 0] for vote in votes])
        return stacked.mean(0) if self.combine == "mean" else stacked.amax(0)
