"""torchvision's RAFT behind the interface of the weight-free flow."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpuvos.data.tensor_file import read_state
from gpuvos.errors import InputError, check_choice, fail
from gpuvos.flow.base import ClipFlow, Direction
from gpuvos.flow.clip import frames_at, over_clip, over_pairs
from gpuvos.flow.inference import InferenceModule
from gpuvos.types import Progress

Variant = Literal["small", "large"]
Weights = Literal["bundled", "DEFAULT"]

BUNDLED = Path(__file__).with_name("raft_small.safetensors")
_SMALLEST = 128  # RAFT's correlation pyramid needs sixteen features along both sides, an eighth of the frame's


class TorchvisionRaft(InferenceModule):
    """RAFT (Teed and Deng, 2020) as torchvision ships it; torchvision is imported only here, on construction.

    Args:
        weights: ``"bundled"``: those of the small variant in this package, by RAFT's authors; ``"DEFAULT"`` downloads
            torchvision's for ``variant``; None leaves them random, for a state dict of your own.
        variant: ``"small"`` (1 M parameters) or ``"large"`` (5 M).
        updates: recurrent refinements; more are slower and a little better.
        chunk: pairs in one call of the network. By default 2 on the CPU and 16 elsewhere.

    Raises:
        InputError: torchvision is missing, its weights cannot be downloaded, or an argument is unknown.

    Example:
        >>> TorchvisionRaft(weights=None, updates=1)(torch.zeros(2, 3, 16, 24)).shape
        torch.Size([2, 2, 16, 24])
    """

    __call__: ClipFlow  # what forward takes and gives, which a call of a module does not say

    def __init__(
        self,
        *,
        weights: Weights | None = "bundled",
        variant: Variant = "small",
        updates: int = 12,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        check_choice("weights", weights, (*get_args(Weights), None))
        check_choice("variant", variant, get_args(Variant))
        if weights == "bundled" and variant != "small":
            raise fail("weights", "'bundled' of the large variant", "'DEFAULT' or None", "it has to be downloaded")
        self.network = _build(variant, None if weights == "bundled" else weights)
        if weights == "bundled":
            self.network.load_state_dict(read_state(BUNDLED))
        self.updates = updates
        self.chunk = chunk
        self.freeze(self.network)
        self.eval()

    @torch.no_grad()
    def forward(
        self,
        frames: Tensor,
        *,
        size: tuple[int, int] | None = None,
        direction: Direction = "forward",
        validate: bool = True,
        progress: Progress | None = None,
    ) -> Tensor:
        """Flow ``[T, 2, h, w]``, in pixels of the image, of frames ``[T, 3, H, W]``; arguments as of ``clip_flow``.

        Raises:
            InputError: as ``clip_flow``.
        """
        return over_clip(
            lambda window, here, there: self._pair_flow(frames_at(window, here), frames_at(window, there)),
            frames,
            size=size,
            direction=direction,
            chunk=self.chunk,
            cpu_chunk=2,
            validate=validate,
            progress=progress,
        )

    @torch.no_grad()
    def pairs(
        self, first: Tensor, second: Tensor, *, size: tuple[int, int] | None = None, validate: bool = True
    ) -> Tensor:
        """Flow ``[N, 2, h, w]``, in pixels of the image, from frames ``first`` ``[N, 3, H, W]`` to ``second``."""
        return over_pairs(self._pair_flow, first, second, size=size, validate=validate)

    def _pair_flow(self, first: Tensor, second: Tensor) -> Tensor:
        height, width = first.shape[-2:]
        # repeated borders up to a multiple of 8 that the correlation pyramid takes
        bottom, right = (max(_SMALLEST, -(-side // 8) * 8) - side for side in (height, width))
        padded = [F.pad(_centred(frames), (0, right, 0, bottom), mode="replicate") for frames in (first, second)]
        flow: Tensor = self.network(*padded, num_flow_updates=self.updates)[-1]
        return flow[..., :height, :width]


def _centred(frames: Tensor) -> Tensor:
    """Three channels of float32 in [-1, 1]."""
    values = frames.to(torch.float32) * (2 / 255 if frames.dtype == torch.uint8 else 2) - 1
    return values.expand(-1, 3, -1, -1)


def _build(variant: str, weights: str | None) -> nn.Module:
    """The network, with an error that says what to do where torchvision or its weights are out of reach."""
    try:
        from torchvision.models import optical_flow
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise InputError(
            "TorchvisionRaft: torchvision cannot be imported; install the build that matches torch, "
            "or use DenseFlow, which needs nothing"
        ) from error
    make = optical_flow.raft_small if variant == "small" else optical_flow.raft_large
    try:
        network: nn.Module = make(weights=weights, progress=False)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"weights: the download of RAFT's weights failed ({error}); off-line, copy the file from a "
            "machine that has it into the folder checkpoints of torch.hub.get_dir(), or take the bundled ones of the "
            "small variant, or pass weights=None and load a state dict, or use DenseFlow, which needs none"
        ) from error
    return network
