"""Dense optical flow without weights, for pairs of frames and for clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpuvos.errors import InputError, check_choice, check_tensor, check_values, fail
from gpuvos.flow.base import ClipFlow, Direction
from gpuvos.flow.variational import FlowParameters, coarse_to_fine, pyramid, resize_flow, warp
from gpuvos.types import Progress

__all__ = [
    "DenseFlow",
    "FlowParameters",
    "clip_flow",
    "forward_backward_error",
    "occlusion_mask",
    "optical_flow",
]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_CHUNK = 16  # pairs: enough pixels to fill a GPU, and for a CPU to make much of a call on a coarse level
_DEFAULTS = FlowParameters()


@torch.no_grad()
def optical_flow(first: Tensor, second: Tensor, *, parameters: FlowParameters = _DEFAULTS) -> Tensor:
    """Dense flow from ``first`` to ``second``: what is at p in ``first`` is at p + flow(p) in ``second``.

    A coarse-to-fine minimisation of a robust variational energy (see ``flow_variational``). The pairs of a
    batch do not influence one another, no gradient is tracked, and a device repeats its result bit for bit.

    Args:
        first: ``[N, 3, H, W]`` or ``[N, 1, H, W]``, uint8 or float in [0, 1]. Colour is reduced to luma.
        second: the frames after them, of the same shape, dtype and device.
        parameters: the parameters of the energy and of its minimisation.

    Returns:
        ``[N, 2, H, W]`` float32, (x, y) in pixels. A region without texture takes the flow of its
        surroundings; equal frames, constant frames and frames of one pixel give zeros.

    Raises:
        InputError: shape, dtype or device is not as above, or a value is not finite or outside of [0, 1].

    Example:
        >>> frame = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
        >>> optical_flow(frame, frame).abs().max() < 1e-3
        tensor(True)
    """
    sizes = _check_frames("first", first, "N C H W")
    check_tensor("second", second, "N C H W", kind="frames", sizes=sizes, like=first)
    if second.dtype != first.dtype:
        raise fail("second", str(second.dtype), f"{first.dtype}, the dtype of first")
    check_values("second", second, low=0.0, high=1.0)
    return resize_flow(_pair_flow(first, second, parameters), (sizes["H"], sizes["W"]))


@torch.no_grad()
def clip_flow(
    frames: Tensor,
    *,
    size: tuple[int, int] | None = None,
    direction: Direction = "forward",
    chunk: int | None = None,
    parameters: FlowParameters = _DEFAULTS,
    validate: bool = True,
    progress: Progress | None = None,
) -> Tensor:
    """Flow of every frame of a clip, with memory for ``chunk`` pairs at a time.

    Args:
        frames: ``[T, 3, H, W]`` or ``[T, 1, H, W]``, uint8 or float in [0, 1].
        size: (h, w) of the grid to average the flow on; None keeps (H, W).
        direction: ``forward`` (t to t + 1; the last frame gets minus its flow to the frame before) or
            ``backward`` (t to t - 1; the first frame gets minus its flow to the frame after).
        chunk: pairs solved together. By default 16.
        parameters: those of ``optical_flow``.
        validate: look for values out of range, which reads back from the device.
        progress: called as ``progress("flow", done, total)`` after every chunk.

    Returns:
        ``[T, 2, h, w]`` float32, (x, y) in pixels of the image, not of the grid. A clip of one frame gives zeros.

    Raises:
        InputError: as ``optical_flow``; or an unknown direction, or a size or chunk below 1.

    Example:
        >>> clip_flow(torch.zeros(4, 3, 32, 48, dtype=torch.uint8), size=(8, 12)).shape
        torch.Size([4, 2, 8, 12])
    """
    if torch.compiler.is_compiling():  # one op: the pyramid's depth depends on the size of the frames
        rows, columns = size or (frames.shape[-2], frames.shape[-1])
        numbers = [float(getattr(parameters, field.name)) for field in dataclasses.fields(parameters)]
        flow: Tensor = torch.ops.gpuvos.clip_flow(frames, rows, columns, direction, chunk, numbers)
        return flow
    return over_clip(
        lambda window, here, there: _window_flow(window, here, there, parameters),
        frames,
        size=size,
        direction=direction,
        chunk=chunk,
        validate=validate,
        progress=progress,
    )


def _run_clip_flow(
    frames: Tensor, rows: int, columns: int, direction: Direction, chunk: int | None, numbers: list[float]
) -> Tensor:
    """``clip_flow`` as an op of numbers."""
    kinds: list[Any] = [type(field.default) for field in dataclasses.fields(FlowParameters)]
    names = [field.name for field in dataclasses.fields(FlowParameters)]
    given: Any = {name: kind(number) for name, kind, number in zip(names, kinds, numbers, strict=True)}
    parameters = FlowParameters(**given)
    return over_clip(
        lambda window, here, there: _window_flow(window, here, there, parameters),
        frames,
        size=(rows, columns),
        direction=direction,
        chunk=chunk,
    )


def _shape_of_clip_flow(frames: Tensor, rows: int, columns: int, *_: Any) -> Tensor:
    return frames.new_empty((frames.shape[0], 2, rows, columns), dtype=torch.float32)


_Library: Any = torch.library.Library  # has no types
_LIBRARY = _Library("gpuvos", "FRAGMENT")  # it lives as long as its registrations
_LIBRARY.define(
    "clip_flow(Tensor frames, SymInt rows, SymInt columns, str direction, SymInt? chunk, float[] numbers) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.impl("clip_flow", torch.no_grad()(_run_clip_flow), "CompositeExplicitAutograd")
torch.library.register_fake("gpuvos::clip_flow", _shape_of_clip_flow, lib=_LIBRARY)


def forward_backward_error(forward: Tensor, backward: Tensor) -> Tensor:
    """How far a pixel is from where it began after following both flows: ``|f(p) + b(p + f(p))|``.

    Args:
        forward: ``[N, 2, H, W]`` float, flow from frame A to frame B in pixels.
        backward: ``[N, 2, H, W]``, flow from B to A. Past the border its nearest value counts.

    Returns:
        ``[N, H, W]``, in pixels.

    Raises:
        InputError: the shapes are not as above.

    Example:
        >>> forward = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 8)
        >>> forward_backward_error(forward, -forward).max()
        tensor(0.)
    """
    return _round_trip(forward, backward)[0]


def occlusion_mask(forward: Tensor, backward: Tensor, *, relative: float = 0.01, absolute: float = 0.5) -> Tensor:
    """Pixels of frame A that frame B does not show.

    A pixel counts as occluded if its flow leaves the frame, or if the squared forward-backward error is over
    ``relative * (|f|^2 + |b|^2) + absolute`` (Sundaram, Brox and Keutzer, 2010).

    Args:
        forward: ``[N, 2, H, W]`` float, flow from A to B in pixels.
        backward: ``[N, 2, H, W]``, flow from B to A.
        relative: tolerance in parts of the squared flow.
        absolute: tolerance in squared pixels.

    Returns:
        ``[N, H, W]`` bool.

    Raises:
        InputError: the shapes are not as above.

    Example:
        >>> forward = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 8)
        >>> occlusion_mask(forward, -forward)[0, 0].int()
        tensor([0, 0, 0, 0, 0, 1, 1, 1], dtype=torch.int32)
    """
    error, returned, inside = _round_trip(forward, backward)
    squared = forward.square().sum(1) + returned.square().sum(1)
    return ~inside | (error.square() > relative * squared + absolute)


class DenseFlow(nn.Module):
    """``clip_flow`` as a module without weights.

    Args:
        parameters: those of ``optical_flow``.
        chunk: pairs solved together; see ``clip_flow``.

    Example:
        >>> DenseFlow()(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 2, 16, 16])
    """

    __call__: ClipFlow  # what forward takes and gives, which a call of a module does not say

    def __init__(self, *, parameters: FlowParameters = _DEFAULTS, chunk: int | None = None) -> None:
        super().__init__()
        self.parameters_of_flow = parameters
        self.chunk = chunk

    def forward(
        self,
        frames: Tensor,
        *,
        size: tuple[int, int] | None = None,
        direction: Direction = "forward",
        validate: bool = True,
        progress: Progress | None = None,
    ) -> Tensor:
        """Flow ``[T, 2, h, w]`` of frames ``[T, 3, H, W]``; see ``clip_flow``."""
        return clip_flow(
            frames,
            size=size,
            direction=direction,
            chunk=self.chunk,
            parameters=self.parameters_of_flow,
            validate=validate,
            progress=progress,
        )

    def pairs(
        self, first: Tensor, second: Tensor, *, size: tuple[int, int] | None = None, validate: bool = True
    ) -> Tensor:
        """Flow ``[N, 2, h, w]``, in pixels of the image, from frames ``first`` ``[N, 3, H, W]`` to ``second``."""
        solve = partial(_pair_flow, parameters=self.parameters_of_flow)
        return over_pairs(solve, first, second, size=size, validate=validate)

    def extra_repr(self) -> str:
        """The parameters, for printing."""
        return f"{self.parameters_of_flow}, chunk={self.chunk}"


def over_clip(
    window_flow: Callable[[Tensor, list[int], list[int]], Tensor],
    frames: Tensor,
    *,
    size: tuple[int, int] | None,
    direction: Direction,
    chunk: int | None,
    cpu_chunk: int = _CHUNK,
    validate: bool = True,
    progress: Progress | None = None,
) -> Tensor:
    """Runs ``window_flow`` over the neighbouring frames of a clip; arguments and result as of ``clip_flow``.

    Args:
        window_flow: from frames ``[n, C, H, W]`` and the numbers of the first and of the second frames of N pairs to
            a flow ``[N, 2, h, w]`` in pixels of its own size.
        frames: ``[T, C, H, W]``.
        size: rows and columns of the result; None takes those of the frames.
        direction: ``forward`` or ``backward``.
        chunk: most pairs in a call of ``window_flow``; 16 where it is None.
        cpu_chunk: the same on a CPU.
        validate: see ``clip_flow``.
        progress: see ``clip_flow``.

    Returns:
        ``[T, 2, h, w]`` float32 in pixels of the image.

    Raises:
        InputError: see ``clip_flow``.
    """
    sizes = _check_frames("frames", frames, "T C H W", validate)
    check_choice("direction", direction, get_args(Direction))
    if chunk is None:
        chunk = cpu_chunk if frames.device.type == "cpu" else _CHUNK
    if chunk < 1:
        raise fail("chunk", repr(chunk), "a whole number above zero")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise fail("size", repr(size), "(rows, columns), both above zero")
    image = (sizes["H"], sizes["W"])
    length = sizes["T"]
    flow = torch.zeros((length, 2, *(size or image)), dtype=torch.float32, device=frames.device)
    if length < 2:
        return flow
    # the frame without a neighbour on that side looks the other way
    step, lone, instead = (1, length - 1, length - 2) if direction == "forward" else (-1, 0, 1)
    partners = [number + step for number in range(length)]
    partners[lone] = instead
    for start in range(0, length, chunk):
        there = partners[start : start + chunk]
        stop = start + len(there)
        low, high = min(start, *there), max(stop - 1, *there)
        window = frames[low : high + 1]
        first, second = [number - low for number in range(start, stop)], [number - low for number in there]
        flow[start:stop] = _on_grid(window_flow(window, first, second), image, size)
        if progress is not None:
            progress("flow", stop, length)
    flow[lone].neg_()
    return flow


@torch.no_grad()
def over_pairs(
    pair_flow: Callable[[Tensor, Tensor], Tensor],
    first: Tensor,
    second: Tensor,
    *,
    size: tuple[int, int] | None,
    validate: bool = True,
) -> Tensor:
    """One call of ``pair_flow``, its flow in pixels of the image on the grid ``size``: a part of ``over_clip``.

    Args:
        pair_flow: the flow of pairs of frames, see ``over_clip``.
        first: ``[N, C, H, W]``.
        second: ``[N, C, H, W]``.
        size: rows and columns of the result; None takes those of the frames.
        validate: look for values out of range, which reads back from the device.

    Returns:
        ``[N, 2, h, w]`` float32.
    """
    sizes = _check_frames("first", first, "N C H W", validate)
    _check_frames("second", second, "N C H W", validate)
    check_tensor("second", second, "N C H W", kind="frames", sizes=sizes, like=first)
    return _on_grid(pair_flow(first, second), (sizes["H"], sizes["W"]), size)


def frames_at(frames: Tensor, numbers: list[int]) -> Tensor:
    """Frames ``[N, ...]`` of these numbers; unlike an index, it makes a GPU wait for nothing."""
    return torch.cat([frames[number : number + 1] for number in numbers])


def _on_grid(flow: Tensor, image: tuple[int, int], size: tuple[int, int] | None) -> Tensor:
    """Brings a flow, in pixels of its own size, to ``size``, in pixels of the image."""
    if size is None or size[0] > flow.shape[-2] or size[1] > flow.shape[-1]:
        flow = resize_flow(flow, image)
    scale = flow.new_tensor((image[1] / flow.shape[-1], image[0] / flow.shape[-2]))
    if size is not None and tuple(flow.shape[-2:]) != size:
        larger = size[0] > flow.shape[-2] or size[1] > flow.shape[-1]
        flow = F.interpolate(flow, size=size, mode="bilinear") if larger else F.adaptive_avg_pool2d(flow, size)
    return flow * scale[:, None, None]


def _pair_flow(first: Tensor, second: Tensor, parameters: FlowParameters) -> Tensor:
    """Flow ``[N, 2, h, w]`` between checked frames, at the finest size of the pyramid and in its pixels."""
    if first.shape[0] == 0:
        return torch.zeros((0, 2, *first.shape[-2:]), dtype=torch.float32, device=first.device)
    levels = [pyramid(_grey(frames), scale=parameters.scale) for frames in (first, second)]
    return coarse_to_fine(levels[0], levels[1], parameters)


def _window_flow(frames: Tensor, here: list[int], there: list[int], parameters: FlowParameters) -> Tensor:
    """As ``_pair_flow`` for the pairs of these numbers; the pyramid of a frame that two pairs share is made once."""
    levels = pyramid(_grey(frames), scale=parameters.scale)
    first, second = ([frames_at(level, numbers) for level in levels] for numbers in (here, there))
    return coarse_to_fine(first, second, parameters)


def _grey(frames: Tensor) -> Tensor:
    """Luma in [0, 1] as float32, ``[N, 1, H, W]``."""
    values = frames.to(torch.float32)
    values = values / 255 if frames.dtype == torch.uint8 else values
    if frames.shape[1] == 3:
        red, green, blue = values[:, :1], values[:, 1:2], values[:, 2:]
        values = (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
    return values


def _round_trip(forward: Tensor, backward: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Forward-backward error ``[N, H, W]``, the backward flow met ``[N, 2, H, W]``, its being inside ``[N, H, W]``."""
    sizes = check_tensor("forward", forward, "N 2 H W")
    check_tensor("backward", backward, "N 2 H W", sizes=sizes, like=forward)
    returned, inside = warp(backward.to(forward.dtype), forward, margin=0.5)
    return torch.linalg.vector_norm(forward + returned, dim=1), returned, inside[:, 0]


def _check_frames(argument: str, frames: Tensor, shape: str, validate: bool = True) -> dict[str, int]:
    """Checks frames, with ``validate`` their values as well, and returns their sizes."""
    sizes = check_tensor(argument, frames, shape, kind="frames")
    if sizes["C"] not in (1, 3):
        raise fail(argument, f"{sizes['C']} channels", "3 (red, green, blue) or 1 (grey)")
    if min(sizes["H"], sizes["W"]) < 1:
        raise InputError(f"{argument}: got shape {tuple(frames.shape)}, wanted at least one pixel a frame")
    if validate:
        check_values(argument, frames, low=0.0, high=1.0)
    return sizes
