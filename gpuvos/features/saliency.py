"""What a network of salient objects knows, joined to any front end: one more channel, and a better objectness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from gpuvos.errors import check_choice, check_positive, check_share, check_tensor, fail
from gpuvos.features.base import ClipFeatures, accepted
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.context import over_frames, resize
from gpuvos.features.network.u2net import U2NetP
from gpuvos.features.network.weights import load_saliency
from gpuvos.flow.inference import InferenceModule
from gpuvos.types import Features, Progress

Combination = Literal["mean", "geometric"]


class SaliencyFeatures(InferenceModule):
    """A front end that knows whole objects: another front end and a network of salient objects.

    Embedding: the base's channels of appearance, saliency (1), the base's position (2) and motion (2). Objectness: the
    mean of the base's O and of ``floor + (1 - floor) s``, s = the saliency.

    Args:
        network: called with images ``[N, 3, h, w]`` in [0, 1], in the dtype of its parameters, gives the saliency
            ``[N, h', w']`` (or ``[N, 1, h', w']``) in [0, 1], of any resolution. A Module is put into evaluation mode.
            None: U2NetP with the weights that come with the library.
        base: a front end of the library; None: ``LearnedFeatures()``.
        weight: of the channel of saliency, before what the base multiplies its embedding by.
        share: of the saliency in the objectness, in [0, 1].
        combine: ``mean`` or ``geometric``, the kind of mean. Where the two disagree, the geometric one believes the
            lower.
        floor: least value of the saliency in the objectness.
        chunk: frames the network sees together. By default 1 on the CPU and 16 elsewhere.

    Raises:
        InputError: an option out of its range, or weights that are damaged.

    Example:
        >>> features = SaliencyFeatures(lambda images: images.mean(1))
        >>> features(torch.zeros(2, 3, 192, 256, dtype=torch.uint8)).embedding.shape
        torch.Size([2, 53, 48, 64])
    """

    __call__: ClipFeatures  # what forward takes and gives, which a call of a module does not say

    def __init__(
        self,
        network: Callable[[Tensor], Tensor] | None = None,
        *,
        base: nn.Module | None = None,
        weight: float = 1.0,
        share: float = 0.5,
        combine: Combination = "mean",
        floor: float = 0.05,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        base = LearnedFeatures() if base is None else base
        if not all(hasattr(base, name) for name in ("encode", "flow", "complete")):
            wanted = "a front end with encode, flow and complete"
            raise fail("base", type(base).__name__, wanted, "see LearnedFeatures")
        check_positive("weight", weight, zero=True)
        check_share("share", share)
        check_choice("combine", combine, get_args(Combination))
        if not 0 <= floor < 1:
            raise fail("floor", repr(floor), "a number in [0, 1)")
        self.base: Any = base
        self.network = saliency_network(network)
        if isinstance(self.network, U2NetP):
            self.freeze(self.network)
        self.weight, self.share, self.combine, self.floor, self.chunk = weight, share, combine, floor, chunk
        self.eval()

    @property
    def flow(self) -> nn.Module:
        """The base's flow, which a stream calls itself."""
        flow: nn.Module = self.base.flow
        return flow

    def forward(self, frames: Tensor, *, validate: bool = True, progress: Progress | None = None) -> Features:
        """Computes the features of a clip.

        Args:
            frames: ``[T, 3, h, w]`` uint8, or floating point in [0, 1].
            validate: whether the flow looks at the values of the frames.
            progress: called with a stage, the frames done and all of them, see ``VideoSegmenter``.

        Returns:
            Features on the base's grid, in its dtype.

        Raises:
            InputError: a wrong shape or dtype, no pixel at all, or a saliency that is not as above.
        """
        embedding, objectness = self.encode(frames, progress=progress)
        options = accepted(self.flow, validate=validate, progress=progress)
        flow = self.flow(frames, size=(objectness.shape[-2], objectness.shape[-1]), **options)
        return self.complete(embedding, objectness, flow)

    def encode(self, frames: Tensor, *, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """What needs no other frame (so a stream computes it once): embedding ``[T, D + 1, H, W]``, objectness."""
        embedding, objectness = self.base.encode(frames, **accepted(self.base.encode, progress=progress))
        grid = (objectness.shape[-2], objectness.shape[-1])
        saliency = over_frames(lambda part: self._encode_part(part, grid), frames, self.chunk).to(objectness.dtype)
        channel = self.weight * saliency[:, None].to(embedding.dtype)
        return torch.cat((embedding, channel), 1), self._combined(objectness, saliency)

    def complete(self, embedding: Tensor, objectness: Tensor, flow: Tensor) -> Features:
        """Features from ``encode`` and the flow of the clip."""
        features: Features = self.base.complete(embedding, objectness, flow)
        return features

    def _encode_part(self, frames: Tensor, grid: tuple[int, int]) -> Tensor:
        """Saliency ``[n, H, W]`` of a few frames."""
        found = saliency_maps(self.network, frames)
        return resize(found[:, None].float(), grid)[:, 0].clamp(0, 1)

    def _combined(self, objectness: Tensor, saliency: Tensor) -> Tensor:
        other = self.floor + (1 - self.floor) * saliency
        if self.combine == "mean":
            return torch.lerp(objectness, other, self.share)
        tiny = torch.finfo(other.dtype).tiny  # the power of 0 has no gradient
        return objectness.clamp(min=tiny) ** (1 - self.share) * other.clamp(min=tiny) ** self.share


def saliency_network(network: Callable[[Tensor], Tensor] | None) -> Callable[[Tensor], Tensor]:
    """The network that was given, or U2NetP with the weights that come with the library.

    Args:
        network: see ``SaliencyFeatures``; None: U2NetP.

    Raises:
        InputError: it cannot be called, or the weights are damaged.

    Example:
        >>> saliency_network(None).size
        320
    """
    if network is not None and not callable(network):
        raise fail("network", type(network).__name__, "a torch.nn.Module or a function of images")
    return load_saliency() if network is None else network


def saliency_maps(network: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    """Calls a network of salient objects and checks what it gives.

    Args:
        network: see ``SaliencyFeatures``.
        frames: ``[N, 3, h, w]`` uint8, or floating point in [0, 1].

    Returns:
        ``[N, h', w']``, the network's maps.

    Raises:
        InputError: the network gives anything but one map an image.

    Example:
        >>> saliency_maps(lambda images: images[:, :1], torch.zeros(2, 3, 4, 6, dtype=torch.uint8)).shape
        torch.Size([2, 4, 6])
    """
    parameters = network.parameters() if isinstance(network, nn.Module) else iter(())
    dtype = next((value.dtype for value in parameters), torch.float32)
    found: object = network(frames.to(dtype) / 255 if frames.dtype == torch.uint8 else frames.to(dtype))
    if not isinstance(found, Tensor):
        got, remedy = f"an output of type {type(found).__name__}", "wrap it in a function that picks the map"
        raise fail("network", got, "a tensor [N, h, w]", remedy)
    found = found[:, 0] if found.ndim == 4 and found.shape[1] == 1 else found
    check_tensor("saliency", found, "N H W", sizes={"N": frames.shape[0]}, like=frames, filled=True)
    return found
