"""Front ends around the networks of others: any module, torchvision's DeepLabV3, SAM's image encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, normalize

from gpuvos.data.atomic import PathLike
from gpuvos.errors import check_count, check_positive, check_tensor, fail
from gpuvos.features.appearance import centre_prior, color_contrast
from gpuvos.features.base import ClipFeatures, accepted
from gpuvos.features.context import grid_stride, over_frames, resize, with_context
from gpuvos.features.network.pretrained import Backbone, SamVariant, build_deeplab, build_sam_encoder
from gpuvos.flow.clip import DenseFlow
from gpuvos.flow.inference import InferenceModule
from gpuvos.functional.precision import full_precision
from gpuvos.types import Features, Progress

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue in [0, 1]


class ModuleFeatures(InferenceModule):
    """Features from someone else's network.

    Its output is brought to the grid, made of unit length at every pixel and multiplied by ``scale``: numbers that no
    other frame changes, so a stream gives what the whole clip gives. More than ``dimensions`` channels (C) are
    projected on as many (d) by a fixed matrix, ``sqrt(C / d)`` times random orthonormal rows: squared distances are
    right on average over such matrices, with a standard deviation of ``sqrt(2 (C - d) / (d (C + 2)))`` of their value
    (0.15 for 256 to 64). Embedding (channels in this order): these, position (2), flow left over after the
    motion of the camera (2).

    Args:
        module: called with images ``[N, 3, h, w]``, normalised by ``mean`` and ``std``, in the dtype of its parameters;
            gives ``[N, C, h', w']`` of any resolution. A Module is put into evaluation mode and stays there,
            whatever ``train()`` of a parent says, until ``trainable()`` is called.
        select: picks that tensor from an output of another form, for example ``lambda output: output["out"]``.
        objectness: called with the same images, gives ``[N, h', w']`` in [0, 1]. None: contrast of the colour against
            the borders of the frame, times a centre prior. ``floor + (1 - floor)`` times it is used.
        normalize: False leaves the lengths as they are, times ``scale``.
        scale: length of the embedding without position and motion.
        dimensions: most channels to keep of the module's.
        mean: of the three colours in [0, 1]; by default ImageNet's. Zeros leave frames as they are.
        std: standard deviation of the three colours, likewise. Ones leave frames as they are.
        multiple: frames are enlarged to sides that it divides, such as 14 for many transformers.
        position: weight of the two channels of position, whose values are in [-1, 1].
        motion: weight of the two channels of motion, likewise.
        floor: least objectness, as of ``LearnedFeatures``.
        flow: module that gives the flow of a clip, called as ``flow(frames, size=(H, W))``; ``DenseFlow()`` if absent.
        stride: pixels of the image per pixel of the grid. None: 4, and less for small frames.
        chunk: frames the module sees together. By default 1 on the CPU and 16 elsewhere.

    Raises:
        InputError: an option out of its range.

    Example:
        >>> features = ModuleFeatures(nn.Conv2d(3, 100, 8, stride=8))
        >>> features(torch.zeros(2, 3, 64, 96, dtype=torch.uint8)).embedding.shape
        torch.Size([2, 68, 16, 24])
    """

    projection: Tensor | None

    __call__: ClipFeatures  # what forward takes and gives, which a call of a module does not say

    def __init__(
        self,
        module: Callable[[Tensor], Any],
        *,
        select: Callable[[Any], Tensor] | None = None,
        objectness: Callable[[Tensor], Tensor] | None = None,
        normalize: bool = True,
        scale: float = 2.0,
        dimensions: int = 64,
        mean: Sequence[float] = _MEAN,
        std: Sequence[float] = _STD,
        multiple: int = 1,
        position: float = 0.7,
        motion: float = 1.0,
        floor: float = 0.02,
        flow: nn.Module | None = None,
        stride: int | None = 4,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        if not callable(module):
            raise fail("module", type(module).__name__, "a torch.nn.Module or a function of images")
        counts = {
            "dimensions": dimensions,
            "multiple": multiple,
            "stride": 4 if stride is None else stride,
            "chunk": 1 if chunk is None else chunk,
        }
        for name, value in counts.items():
            check_count(name, value)
        check_positive("scale", scale)
        check_positive("position", position, zero=True)
        check_positive("motion", motion, zero=True)
        if not 0 <= floor < 1:
            raise fail("floor", repr(floor), "a number in [0, 1)")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise fail("mean, std", f"{mean}, {std}", "three numbers each, those of std above zero")
        self.module, self.select, self.objectness = module, select, objectness
        self.normalize, self.scale, self.dimensions = normalize, scale, dimensions
        self.mean, self.std, self.multiple = tuple(mean), tuple(std), multiple
        self.position, self.motion, self.floor = position, motion, floor
        self.stride, self.chunk = stride, chunk
        self.flow = DenseFlow() if flow is None else flow
        self.register_buffer("projection", None, persistent=False)  # made when C is known
        self.eval()

    def forward(self, frames: Tensor, *, validate: bool = True, progress: Progress | None = None) -> Features:
        """Computes the features of a clip.

        Args:
            frames: ``[T, 3, h, w]`` uint8, or floating point in [0, 1], on the device of the module.
            validate: look for values out of range, which reads back from the device.
            progress: called with ``"network"`` or ``"flow"``, the frames that are done and all of them.

        Returns:
            Features on the grid ``ceil(h / stride) x ceil(w / stride)``; embedding and objectness in
            float32, or in float64 where the module's output is.

        Raises:
            InputError: a wrong shape, dtype or device, no pixel at all, an output of the module or of ``objectness``
                that is not as above.
        """
        embedding, objectness = self.encode(frames, progress=progress)
        options = accepted(self.flow, validate=validate, progress=progress)
        flow = self.flow(frames, size=(objectness.shape[-2], objectness.shape[-1]), **options)
        return self.complete(embedding, objectness, flow)

    def encode(self, frames: Tensor, *, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """What needs no other frame (so a stream computes it once): embedding ``[T, d, H, W]``, objectness."""
        sizes = check_tensor("frames", frames, "T 3 h w", kind="frames")
        if any(size == 0 for size in sizes.values()):
            raise fail("frames", f"shape {tuple(frames.shape)}", "at least one frame of at least one pixel")
        stride = self.stride or grid_stride(sizes["h"], sizes["w"])
        grid = (-(-sizes["h"] // stride), -(-sizes["w"] // stride))
        return over_frames(lambda part: self._encode_part(part, grid), frames, self.chunk, progress)

    def complete(self, embedding: Tensor, objectness: Tensor, flow: Tensor) -> Features:
        """Features from ``appearance`` and the flow of the clip."""
        return with_context(embedding, objectness, flow, position_weight=self.position, motion_weight=self.motion)

    def _encode_part(self, frames: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Embedding and objectness of a few frames."""
        dtype = self._dtype(frames)
        unit = frames.to(torch.promote_types(dtype, torch.float32)) / (255 if frames.dtype == torch.uint8 else 1)
        images = ((unit - _channels(self.mean, unit)) / _channels(self.std, unit)).to(dtype)
        h, w = (-(-side // self.multiple) * self.multiple for side in images.shape[-2:])
        images = resize(images, (h, w))
        features, objectness = self._observe(images)  # alone in the precision of the caller's autocast
        if self.objectness is not None:
            objectness = self.objectness(images)
        return self._finished(unit, features, objectness, grid)

    @full_precision
    def _finished(
        self, unit: Tensor, features: Tensor, objectness: Tensor | None, grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """What the module says of frames in [0, 1], brought to the grid."""
        if objectness is None:
            objectness = _prior(unit, grid)
        check_tensor("objectness", objectness, "N H W", sizes={"N": unit.shape[0]}, like=unit)
        features = resize(features.to(torch.promote_types(features.dtype, torch.float32)), grid)
        if self.normalize:
            features = normalize(features, dim=1)
        objectness = objectness[:, None].to(features.dtype)
        low, high = objectness.amin((2, 3), keepdim=True), objectness.amax((2, 3), keepdim=True)
        votes = resize(objectness, grid).clamp(low, high)[:, 0]  # rounding would leave [0, 1]
        return self.scale * self._project(features), self.floor + (1 - self.floor) * votes

    def _observe(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The module's features of normalised images, and its objectness where it has one."""
        output = self.module(images)
        features = output if self.select is None else self.select(output)
        if not isinstance(features, Tensor):
            keys = f" with keys {', '.join(map(repr, features))}" if isinstance(features, Mapping) else ""
            remedy = "pass select, a function that picks the tensor from the module's output"
            raise fail("module", f"an output of type {type(features).__name__}{keys}", "a tensor", remedy)
        sizes = check_tensor("output of module", features, "N C H W", sizes={"N": images.shape[0]}, like=images)
        if min(sizes.values()) == 0:
            raise fail("output of module", f"shape {tuple(features.shape)}", "at least one pixel and channel")
        return features, None

    def _dtype(self, frames: Tensor) -> torch.dtype:
        """That of the module's parameters, which must be where the frames are; float32 without parameters."""
        parameters = self.module.parameters() if isinstance(self.module, nn.Module) else ()
        first = next((value for value in parameters if value.is_floating_point()), None)
        if first is None:
            return torch.float32
        if first.device != frames.device:
            raise fail(
                "frames",
                f"device {frames.device}",
                f"{first.device}, that of the module",
                "move one of them with .to(device)",
            )
        return first.dtype

    def _project(self, features: Tensor) -> Tensor:
        channels = features.shape[1]
        if channels <= self.dimensions:
            return features
        if self.projection is None or self.projection.shape[1] != channels:
            with torch.inference_mode(False):  # it is kept, so it must serve outside of that mode too
                self.projection = _random_rows(channels, self.dimensions).to(features)
        return conv2d(features, self.projection.to(features)[:, :, None, None])


class DeepLabFeatures(ModuleFeatures):
    """Features from torchvision's DeepLabV3 (Chen et al., 2017); torchvision is imported only here, on construction.

    Embedding: what its last layer sees (256 channels). Objectness: ``1 - P(background)``; it knows the 20 classes of
    Pascal VOC.

    Args:
        weights: ``"DEFAULT"`` downloads torchvision's; None leaves them random; or a state dict of this model.
        backbone: ``"resnet50"`` (stride 8) or ``"mobilenet_v3_large"`` (stride 16, quicker).
        options: those of ``ModuleFeatures``, except ``module`` and ``select``.

    Raises:
        InputError: torchvision is missing, its weights cannot be downloaded or do not fit, or an option is out of
            its range.

    Example:
        >>> features = DeepLabFeatures(weights=None, backbone="mobilenet_v3_large")
        >>> features(torch.zeros(1, 3, 32, 48)).embedding.shape
        torch.Size([1, 68, 8, 12])
    """

    def __init__(
        self,
        *,
        weights: Literal["DEFAULT"] | Mapping[str, Tensor] | None = "DEFAULT",
        backbone: Backbone = "resnet50",
        **options: Any,
    ) -> None:
        network = build_deeplab(backbone, weights)
        super().__init__(network, select=None, **options)
        self.freeze(network)

    def _observe(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        network: Any = self.module
        *layers, last = network.classifier
        hidden = network.backbone(images)["out"]
        for layer in layers:
            hidden = layer(hidden)
        return hidden, 1 - last(hidden).float().softmax(1)[:, 0]


class SamFeatures(ModuleFeatures):
    """Features from the image encoder of a Segment Anything model (Kirillov et al., 2023) as kornia builds it.

    Embedding: the encoder's 256 channels at a sixteenth of ``size``. Objectness: the prior of ``ModuleFeatures``.

    Args:
        checkpoint: file of the published weights of ``variant``, the whole model or its encoder; None: random ones.
        variant: ``"mobile_sam"`` (a small encoder of the same output), ``"vit_b"``, ``"vit_l"`` or ``"vit_h"``.
        size: longer side of the frames that the encoder sees, a multiple of 16. Trained at 1024; less is quicker.
        options: those of ``ModuleFeatures``, except ``module`` and ``select``.

    Raises:
        InputError: kornia has no SAM, the checkpoint is missing or of something else, or an option is out of range.

    Example:
        >>> SamFeatures(size=64)(torch.zeros(1, 3, 32, 48)).embedding.shape
        torch.Size([1, 68, 8, 12])
    """

    def __init__(
        self,
        *,
        checkpoint: PathLike | None = None,
        variant: SamVariant = "mobile_sam",
        size: int = 1024,
        **options: Any,
    ) -> None:
        encoder = build_sam_encoder(variant, size, checkpoint)
        super().__init__(encoder, select=None, **options)
        self.freeze(encoder)


def _channels(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


def _prior(frames: Tensor, grid: tuple[int, int]) -> Tensor:
    """Contrast of the colour against the borders, times closeness to the centre, of frames in [0, 1]."""
    from kornia.color import rgb_to_lab

    lab = rgb_to_lab(interpolate(frames, size=grid, mode="area"))
    return color_contrast(lab) * centre_prior(lab)


def _random_rows(channels: int, dimensions: int) -> Tensor:
    """``[d, C]``: orthonormal rows, the same on every machine, times sqrt(C / d)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(channels, dimensions, generator=generator, dtype=torch.float64, device="cpu")
    columns, upper = torch.linalg.qr(noise)
    rows: Tensor = (columns * upper.diagonal().sign()).mT  # with these signs they are unique
    return rows * math.sqrt(channels / dimensions)
