"""A front end without weights: colour, texture, position and motion as embedding, a prior as objectness."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from gpuvos.errors import check_count, check_tensor, fail
from gpuvos.features.base import ClipFeatures, accepted
from gpuvos.features.context import grid_stride, over_frames, with_context
from gpuvos.flow.clip import DenseFlow
from gpuvos.flow.inference import InferenceModule
from gpuvos.functional.precision import full_precision
from gpuvos.types import Features, Progress


class AppearanceFeatures(InferenceModule):
    """Features from pixels alone: smoke tests, a floor to beat, and a first look at any video.

    Embedding (channels in this order): CIE Lab colour (3), texture (6: contrast at two scales, oriented gradients at
    four angles), position (2), flow left over after the motion of the camera (2). Objectness: contrast of the
    colour against the borders of the frame, times a centre prior.

    Args:
        stride: pixels of the image per pixel of the grid. None: 4, and less for frames whose shorter side would
            have fewer than 48 pixels on the grid, where small objects fall between the candidates.
        color: weight of the colours in the embedding.
        texture: weight of the texture.
        position: weight of the position.
        motion: weight of the motion.
        flow: module that gives the flow of a clip, called as ``flow(frames, size=(H, W))``; ``DenseFlow()`` if absent.
        chunk: frames processed at a time. By default 1 on the CPU, where no frame then changes a bit of another, and
            16 elsewhere.

    Example:
        >>> AppearanceFeatures()(torch.rand(2, 3, 32, 48)).embedding.shape
        torch.Size([2, 13, 32, 48])
    """

    __call__: ClipFeatures  # what forward takes and gives, which a call of a module does not say

    def __init__(
        self,
        *,
        stride: int | None = None,
        color: float = 1.0,
        texture: float = 0.75,
        position: float = 3.0,
        motion: float = 1.5,
        flow: nn.Module | None = None,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        check_count("stride", 4 if stride is None else stride)
        check_count("chunk", 1 if chunk is None else chunk)
        self.stride, self.chunk = stride, chunk
        self.color, self.texture, self.position, self.motion = color, texture, position, motion
        self.flow = DenseFlow() if flow is None else flow
        self.eval()

    def forward(self, frames: Tensor, *, validate: bool = True, progress: Progress | None = None) -> Features:
        """Computes the features of a clip.

        Args:
            frames: ``[T, 3, h, w]`` uint8, or floating point in [0, 1]; half types are computed in float32.
            validate: look for values out of range, which reads back from the device.
            progress: called with ``"network"`` or ``"flow"``, the frames that are done and all of them.

        Returns:
            Features on the grid ``ceil(h / stride) x ceil(w / stride)``.

        Raises:
            InputError: a wrong shape or dtype, or no pixel at all.
        """
        look, objectness = self.encode(frames, progress=progress)
        options = accepted(self.flow, validate=validate, progress=progress)
        flow = self.flow(frames, size=(objectness.shape[-2], objectness.shape[-1]), **options)
        return self.complete(look, objectness, flow)

    def encode(self, frames: Tensor, *, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """What needs no other frame (so a stream computes it once): embedding ``[T, 9, H, W]``, objectness."""
        sizes = check_tensor("frames", frames, "T 3 h w", kind="frames")
        if any(size == 0 for size in sizes.values()):
            raise fail("frames", f"shape {tuple(frames.shape)}", "at least one frame of at least one pixel")
        if frames.dtype in (torch.float16, torch.bfloat16):  # the solver of color_contrast has no half types
            frames = frames.float()
        stride = self.stride or grid_stride(sizes["h"], sizes["w"])
        grid = (-(-sizes["h"] // stride), -(-sizes["w"] // stride))
        return over_frames(lambda part: self._encode_part(part, grid), frames, self.chunk, progress)

    def complete(self, embedding: Tensor, objectness: Tensor, flow: Tensor) -> Features:
        """Features from ``appearance`` and the flow of the clip."""
        return with_context(embedding, objectness, flow, position_weight=self.position, motion_weight=self.motion)

    @full_precision
    def _encode_part(self, frames: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Embedding ``[n, 9, H, W]`` and objectness ``[n, H, W]`` of a few frames."""
        from kornia.color import rgb_to_lab

        frames = frames.float() / 255 if frames.dtype == torch.uint8 else frames
        small = interpolate(frames, size=grid, mode="area")
        lab = rgb_to_lab(small)
        grey = frames.mean(1, keepdim=True)
        across, along = _gradients(grey)
        angles = torch.stack(
            (across.abs(), along.abs(), (across + along).abs() * 0.7071, (across - along).abs() * 0.7071), 1
        ).squeeze(2)
        energy = _blur(interpolate(angles, size=grid, mode="area"), 5)
        light = lab[:, :1] / 100
        contrast = [(_blur(light * light, size) - _blur(light, size).square()).clamp(min=0).sqrt() for size in (5, 11)]
        texture = torch.cat((8 * torch.cat(contrast, 1), 12 * energy), 1)
        look = torch.cat((self.color * lab / 20, self.texture * texture), 1)
        return look, color_contrast(lab) * centre_prior(lab)


def _gradients(grey: Tensor) -> tuple[Tensor, Tensor]:
    kernel = grey.new_tensor([[[[-0.5, 0, 0.5]]]])
    padded = pad(grey, (1, 1, 1, 1), mode="replicate")
    return conv2d(padded[:, :, 1:-1], kernel), conv2d(padded[..., 1:-1], kernel.mT)


def _blur(values: Tensor, size: int) -> Tensor:
    return avg_pool2d(values, size, stride=1, padding=size // 2, count_include_pad=False)


def centre_prior(like: Tensor, *, spread: float = 0.5) -> Tensor:
    """Gaussian of the distance to the centre, in halves of the frame's sides: ``[T, H, W]``."""
    h, w = like.shape[-2:]
    y, x = (  # a side of one pixel is at its own centre
        (torch.arange(side, dtype=like.dtype, device=like.device) * 2 - (side - 1)) / max(side - 1, 1)
        for side in (h, w)
    )
    y = y[:, None]
    return torch.exp(-(x.square() + y.square()) / (2 * spread**2)).expand(like.shape[0], h, w)


@full_precision
def color_contrast(lab: Tensor) -> Tensor:
    """How unlike the borders of the frame a colour is, in [0, 1].

    Over the four borders, the second smallest (an object may touch one) Mahalanobis distance to the colours along
    the border, divided by the largest of the frame.

    Args:
        lab: ``[T, 3, H, W]``.

    Returns:
        ``[T, H, W]``; 0 for a frame of one colour.
    """
    _, _, h, w = lab.shape
    depth = max(1, min(h, w) // 15)
    borders = (lab[:, :, :depth], lab[:, :, -depth:], lab[..., :depth], lab[..., -depth:])
    pixels = lab.flatten(2)
    eye = torch.eye(3, dtype=lab.dtype, device=lab.device)
    distances = []
    for border in borders:
        sample = border.flatten(2)
        mean = sample.mean(2, keepdim=True)
        spread = (sample - mean) @ (sample - mean).mT / sample.shape[2] + 25 * eye  # five units of noise
        away = pixels - mean
        distances.append((away * torch.linalg.solve_ex(spread, away)[0]).sum(1).clamp(min=0).sqrt())
    contrast = torch.stack(distances).sort(0).values[1].reshape(lab.shape[0], h, w)
    contrast = _blur(contrast[:, None], 5)[:, 0]
    return contrast / contrast.amax((1, 2), keepdim=True).clamp(min=1)
