"""Writing of videos: H.264 and animated GIF, a few frames at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from gpuvos.data.atomic import PathLike, as_path, atomic_file
from gpuvos.errors import InputError, check_tensor, check_values, fail

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer
    from av.filter import Graph
    from av.video.stream import VideoStream

_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".gif": "gif"}
_GIF_TICKS = 100  # a GIF counts in hundredths of a second
_TICKS = 90_000  # of variable timestamps; every usual frame rate divides it
_FRAMES_AT_ONCE = 8  # that are converted together; bounds the memory of a long write
_MATRIX_709 = 1  # AVCOL_SPC_BT709, AVCOL_PRI_BT709 and AVCOL_TRC_BT709


class VideoWriter:
    """Writes a video a few frames at a time; the file appears under its name only when all of it is written.

    H.264 in ``.mp4``, ``.mov`` and ``.mkv`` (yuv420p and BT.709, which every player shows), or an animated
    ``.gif`` with a palette of its own for every frame. H.264 needs even sizes: where a size is odd, the last
    row or column is repeated. On an exception inside the ``with`` block nothing is left behind.

    Args:
        path: file to write; the suffix chooses the format. Missing folders are created.
        frame_rate: frames per second, 0.01 to 1000 (GIF: to 50). With timestamps it only guides the encoder.
        crf: quality of H.264, 0 (lossless but for colour subsampling) to 51 (worst). GIF ignores it.

    Raises:
        InputError: for an unknown suffix, a bad rate or quality, a place that cannot be written to, or a
            block that wrote no frame.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "clip.mp4"
        >>> with VideoWriter(file, frame_rate=25) as writer:
        ...     for _ in range(3):
        ...         writer.write(torch.zeros(2, 3, 16, 24, dtype=torch.uint8))
        >>> file.stat().st_size > 0
        True
    """

    def __init__(self, path: PathLike, *, frame_rate: float = 24.0, crf: float = 18.0) -> None:
        self.path = as_path("path", path)
        suffix = self.path.suffix.lower()
        if suffix not in _FORMATS:
            raise fail("path", f"'{self.path}'", f"a file name ending in {', '.join(_FORMATS)}")
        self._format = _FORMATS[suffix]
        self._rate = self._check_rate(frame_rate)
        if isinstance(crf, bool) or not isinstance(crf, int | float) or not 0 <= crf <= 51:
            raise fail("crf", repr(crf), "a number from 0 (best) to 51 (worst)")
        self._crf = crf
        self._stack: ExitStack | None = None
        self._temporary: Path | None = None
        self._container: OutputContainer | None = None
        self._stream: VideoStream
        self._graph: Graph | None = None
        self._size = (0, 0)
        self._count = 0
        self._timed = False  # whether the caller gives timestamps
        self._first_time = 0.0
        self._last_tick = -1

    def _check_rate(self, rate: object) -> Fraction:
        highest = 50 if self._format == "gif" else 1000
        wanted = f"frames per second from 0.01 to {highest}"
        if isinstance(rate, bool) or not isinstance(rate, int | float | Fraction):
            raise fail("frame_rate", repr(rate), wanted)
        if not (math.isfinite(rate) and 0.01 <= rate <= highest):
            remedy = "a GIF cannot be faster: write an mp4" if self._format == "gif" else ""
            raise fail("frame_rate", repr(rate), wanted, remedy)
        return Fraction(rate).limit_denominator(100_000)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._temporary = stack.enter_context(atomic_file(self.path))
            stack.callback(self._abandon)
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._stack, self._temporary = self._stack, None, None
        if stack is not None:
            stack.__exit__(kind, error, trace)

    def write(self, frames: Tensor, *, timestamps: Sequence[float] | Tensor | None = None) -> None:
        """Adds frames.

        Args:
            frames: ``[T, 3, H, W]`` uint8, or floating-point in [0, 1]; any device; H and W as in the first call.
            timestamps: [T] seconds, growing from frame to frame and from call to call. The first one of the
                file becomes time 0. Either every call gives them, or none does and frames are evenly spaced.
                They are kept to 1/90000 s (mkv: 1 ms, gif: 10 ms, at least 20 ms apart).

        Raises:
            InputError: for another shape, type, range or size, or timestamps that do not grow.
        """
        if self._temporary is None:
            raise InputError("VideoWriter: got frames outside of its block, wanted 'with VideoWriter(path) as writer:'")
        sizes = check_tensor("frames", frames, "T 3 H W", kind="frames")
        check_values("frames", frames, low=0.0, high=1.0)
        size = sizes["H"], sizes["W"]
        if self._container is not None and size != self._size:
            raise fail("frames", f"size {size}", f"the size of the frames before, {self._size}")
        if 0 in size:
            raise fail("frames", f"size {size}", "at least one pixel")
        ticks = self._ticks(sizes["T"], timestamps)
        if self._container is None and ticks:
            self._open(*size)
        for start in range(0, len(ticks), _FRAMES_AT_ONCE):
            pixels = _to_pixels(frames[start : start + _FRAMES_AT_ONCE])
            for image, tick in zip(pixels, ticks[start:], strict=False):
                self._encode(image, tick)

    def _ticks(self, count: int, timestamps: Sequence[float] | Tensor | None) -> list[int]:
        """Presentation times of the next frames in units of the time base."""
        numbers = range(self._count, self._count + count)
        if self._count == 0:
            self._timed = timestamps is not None
        elif self._timed != (timestamps is not None):
            raise fail("timestamps", "some calls with and some without", "timestamps in every call or in none")
        self._count += count
        gif = self._format == "gif"
        if timestamps is None:
            return [round(number * _GIF_TICKS / self._rate) for number in numbers] if gif else list(numbers)
        times = torch.as_tensor(timestamps, dtype=torch.float64).flatten().tolist()
        if len(times) != count or not all(map(math.isfinite, times)):
            raise fail("timestamps", f"{len(times)} values", f"{count} finite values, one for each frame")
        if self._last_tick < 0 and times:
            self._first_time = times[0]
        ticks = [round((time - self._first_time) * (_GIF_TICKS if gif else _TICKS)) for time in times]
        gap = 2 if gif else 1
        for time, tick in zip(times, ticks, strict=True):
            if self._last_tick >= 0 and tick < self._last_tick + gap:
                wanted = "each at least 0.02 s after the one before (GIF)" if gif else "growing values"
                raise fail("timestamps", f"{time} s after a value that is as late or later", wanted)
            self._last_tick = tick
        return ticks

    @property
    def _time_base(self) -> Fraction:
        if self._format == "gif":
            return Fraction(1, _GIF_TICKS)
        return Fraction(1, _TICKS) if self._timed else 1 / self._rate

    def _open(self, height: int, width: int) -> None:
        import av

        self._size = (height, width)
        movable = {"movflags": "faststart"} if self._format in ("mp4", "mov") else {}
        self._container = av.open(str(self._temporary), "w", format=self._format, container_options=movable)
        if self._format == "gif":
            self._stream = self._container.add_stream("gif", rate=self._rate)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "pal8"
            self._graph = _palette_graph(height, width)
        else:
            # Reordered frames make the mp4 muxer understate the length of a video of uneven timestamps; rate control
            # by macroblock tree makes different files of the same frames in different processes.
            # The preset takes 40 % of the time of the default one for 4 % more bytes at the same quality setting.
            options = {
                "crf": str(self._crf),
                "preset": "veryfast",
                "mbtree": "0",
                **({"bf": "0"} if self._timed else {}),
            }
            self._stream = self._container.add_stream("libx264", rate=self._rate, options=options)
            self._stream.width, self._stream.height = width + width % 2, height + height % 2
            self._stream.pix_fmt = "yuv420p"
            context = self._stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = _MATRIX_709
            context.color_range = 1  # limited
        self._stream.codec_context.time_base = self._time_base

    def _encode(self, pixels: np.ndarray[Any, Any], tick: int) -> None:
        from av import VideoFrame

        assert self._container is not None
        if self._graph is None:
            height, width = self._size
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(pixels, format="rgb24")
        if self._graph is None:
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = tick, self._time_base
        for ready in [frame] if self._graph is None else _filter(self._graph, frame):
            self._container.mux(self._stream.encode(ready))

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Writes what the encoder still holds, unless the block failed."""
        if kind is not None:
            return
        if self._container is None:
            raise fail("frames", "no frame", f"at least one frame before '{self.path}' is closed")
        for ready in [] if self._graph is None else _filter(self._graph, None):
            self._container.mux(self._stream.encode(ready))
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._container = None

    def _abandon(self) -> None:
        if self._container is not None:
            with suppress(Exception):  # the file is about to be deleted; the first error is the one to report
                self._container.close()
            self._container = None


def write_video(
    path: PathLike,
    frames: Tensor,
    *,
    frame_rate: float = 24.0,
    timestamps: Sequence[float] | Tensor | None = None,
    crf: float = 18.0,
) -> None:
    """Writes frames as a video; see `VideoWriter` for formats and padding, and for long videos.

    Args:
        path: file to write: ``.mp4``, ``.mov``, ``.mkv`` or ``.gif``. It appears whole or not at all.
        frames: ``[T, 3, H, W]`` uint8, or floating-point in [0, 1]; any device.
        frame_rate: frames per second, where no ``timestamps`` are given.
        timestamps: [T] growing times in seconds, such as ``Clip.timestamps``; the first becomes 0.
        crf: quality of H.264, 0 (best) to 51 (worst).

    Raises:
        InputError: for bad arguments, no frames, or a place that cannot be written to.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "clip.gif"
        >>> write_video(file, torch.rand(4, 3, 16, 24), frame_rate=10)
        >>> file.stat().st_size > 0
        True
    """
    with VideoWriter(path, frame_rate=frame_rate, crf=crf) as writer:
        writer.write(frames, timestamps=timestamps)


def _to_pixels(frames: Tensor) -> np.ndarray[Any, Any]:
    """uint8 ``[T, H, W, 3]`` in main memory."""
    if frames.dtype.is_floating_point:
        frames = (frames.detach().float() * 255).round().to(torch.uint8)
    pixels: np.ndarray[Any, Any] = frames.cpu().permute(0, 2, 3, 1).contiguous().numpy()
    return pixels


def _palette_graph(height: int, width: int) -> Graph:
    """A filter that gives every frame the 256 colours that suit it best."""
    from av import VideoFormat
    from av.filter import Graph

    graph, time_base = Graph(), Fraction(1, _GIF_TICKS)
    source = graph.add_buffer(width=width, height=height, format=VideoFormat("rgb24"), time_base=time_base)
    split, palette = graph.add("split"), graph.add("palettegen", "stats_mode=single")
    use, sink = graph.add("paletteuse", "new=1"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph


def _filter(graph: Graph, frame: VideoFrame | None) -> Iterator[VideoFrame]:
    """Puts a frame (None: the end) into the graph and gives out what is ready."""
    import av

    graph.push(frame)
    while True:
        try:
            ready = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(ready, av.VideoFrame)
        yield ready
