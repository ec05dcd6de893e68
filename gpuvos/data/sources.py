"""Where frames come from: a video file through PyAV, or image files through Pillow, one frame at a time."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from itertools import dropwhile, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpuvos.data.atomic import PathLike, as_path, kind_of_path
from gpuvos.data.images import IMAGE_SUFFIXES, fit, flatten_alpha, list_images, read_image
from gpuvos.errors import InputError, fail

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

DEFAULT_FRAME_RATE = 24.0  # where a file or a folder of images says nothing about time


class Selection(NamedTuple):
    """The frames ``range(start, stop, step)``, and the longer side they may have."""

    start: int = 0
    stop: int | None = None
    step: int = 1
    max_side: int | None = None

    def num_selected(self, total: int) -> int:
        """How many of ``total`` frames are selected."""
        return len(range(self.start, total if self.stop is None else min(self.stop, total), self.step))

    def empty(self, path: Path, total: int) -> InputError:
        """The error for a selection that no frame is in."""
        return fail("start", f"{self.start}, but '{path}' has {total} frames", f"a number below {total}")


class Frame(NamedTuple):
    """One decoded frame."""

    pixels: Tensor  # [3, H, W] uint8
    time: float  # seconds since the first frame of the video
    name: str


def open_source(path: PathLike) -> VideoSource | ImageSource:
    """Looks at what ``path`` is; raises InputError where it does not exist or is no video."""
    source = as_path("path", path)
    if kind_of_path("path", source) == "folder" or source.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(source)
    return VideoSource(source)


class ImageSource:
    """A folder of images in natural order, or one image."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = list_images(path)
        self.frame_rate = DEFAULT_FRAME_RATE
        self.num_frames = len(self.files)

    def frames(self, selection: Selection) -> Generator[Frame, None, None]:
        """Reads the selected images; all of them must have one size."""
        chosen = range(self.num_frames)[selection.start : selection.stop : selection.step]
        if not chosen:
            raise selection.empty(self.path, self.num_frames)
        first: tuple[int, int] | None = None
        for number in chosen:
            file = self.files[number]
            pixels, size = read_image(file, selection.max_side)
            first = first or size
            if size != first:
                one, other = (f"{width} x {height}" for height, width in (first, size))
                got = f"'{self.files[chosen[0]].name}' of {one} and '{file.name}' of {other} pixels"
                raise fail("path", f"{got} in '{self.path}'", "images of one size")
            yield Frame(pixels, number / self.frame_rate, file.stem)


class VideoSource:
    """A file that FFmpeg decodes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _open_video(path) as (container, stream):
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            self.frame_rate = rate if 0 < rate <= 1000 else DEFAULT_FRAME_RATE
            self._duration = _stated_duration(container, stream, self.frame_rate)
            seconds = self._duration or (container.duration or 0) / 1_000_000
            self.num_frames = stream.frames or round(seconds * self.frame_rate)

    def frames(self, selection: Selection) -> Generator[Frame, None, None]:
        """Decodes from the beginning and gives out the selected frames."""
        convert = _Converter(selection.max_side)
        total = 0
        with closing(self._decoded(selection.stop)) as decoded:
            for number, time, frame in decoded:
                total = number + 1
                if number >= selection.start and (number - selection.start) % selection.step == 0:
                    yield Frame(convert(frame), time, f"{number:05d}")
        if total <= selection.start:
            raise selection.empty(self.path, total)

    def _decoded(self, stop: int | None) -> Generator[tuple[int, float, VideoFrame], None, None]:
        """Every frame up to ``stop`` with its number and time; warns if the file ends early or is damaged."""
        number, clock, errors = 0, _Clock(self.frame_rate), 0
        # Decoding frames in parallel loses those in flight when a truncated file ends: what is missing after
        # the first pass is decoded again one by one.
        for threads in ("AUTO", "SLICE"):
            damage: list[str] = []
            with _open_video(self.path) as (container, stream):
                stream.thread_type = threads
                frames = _decode(container, stream, damage)
                left = islice(frames, number, None) if clock.raw is None else dropwhile(clock.passed, frames)
                for frame in left:
                    errors += frame.is_corrupt
                    yield number, clock.tick(frame), frame
                    number += 1
                    if number == stop:
                        return
            if not damage and (self._duration is None or clock.covers(self._duration)):
                break
        else:
            errors += 1
        if number == 0:
            raise fail("path", f"'{self.path}', of which no frame can be decoded", "a video that is not damaged")
        if errors:
            known = f"of about {self.num_frames}" if self.num_frames > number else "with errors"
            message = f"'{self.path}' is truncated or damaged: {number} frames {known} could be read"
            warnings.warn(message, UserWarning, stacklevel=2)


class _Clock:
    """Makes times out of presentation times: from 0, strictly increasing, also where a file lacks them."""

    def __init__(self, rate: float) -> None:
        self.gap = 1 / rate
        self.raw: float | None = None  # presentation time of the last frame
        self._origin = 0.0
        self._time: float | None = None
        self._end = 0.0  # when the last frame is over, by the clock of the file or by this one

    def passed(self, frame: VideoFrame) -> bool:
        return frame.pts is not None and self.raw is not None and frame.time <= self.raw

    def tick(self, frame: VideoFrame) -> float:
        raw = None if frame.pts is None else frame.time
        if self._time is None:
            self._origin, time = raw or 0.0, 0.0
        else:
            time = self._time + self.gap if raw is None else raw - self._origin
            if time <= self._time:
                time = self._time + self.gap
        lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else self.gap
        self.raw, self._time, self._end = raw, time, max(time, raw or 0.0) + lasts
        return time

    def covers(self, duration: float) -> bool:
        return self._end >= duration - max(1.5 * self.gap, 0.01 * duration)


class _Converter:
    """Turns decoded frames into upright RGB of one size, that of the first frame."""

    def __init__(self, max_side: int | None) -> None:
        from av.video.reformatter import VideoReformatter

        self._max_side = max_side
        self._size: tuple[int, int] | None = None
        self._matrix = (1, 0, 0, 1)
        self._reformatter = VideoReformatter()  # kept, as setting up a conversion costs as much as one

    def __call__(self, frame: VideoFrame) -> Tensor:
        """uint8 ``[3, H, W]``."""
        from av import VideoFrame
        from av.video.reformatter import Interpolation

        if self._size is None:
            self._size = fit(frame.height, frame.width, self._max_side)
            self._matrix = _display_matrix(frame)
        if frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components):
            frame = VideoFrame.from_ndarray(flatten_alpha(frame.to_ndarray(format="rgba")), format="rgb24")
        height, width = self._size
        shrinks = height < frame.height or width < frame.width
        method = Interpolation.AREA if shrinks else Interpolation.BILINEAR
        rgb = self._reformatter.reformat(frame, width, height, format="rgb24", interpolation=method)
        pixels = torch.from_numpy(rgb.to_ndarray()).permute(2, 0, 1)
        a, b, c, d = self._matrix
        if abs(a) + abs(d) < abs(b) + abs(c):  # x of the screen runs along y of the file
            a, d, pixels = c, b, pixels.transpose(1, 2)
        return pixels.flip([axis for axis, sign in ((1, d), (2, a)) if sign < 0])


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The matrix ``(a, b, c, d)`` of x' = a x + c y, y' = b x + d y from the file to the screen."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    return a, b, c, d


@contextmanager
def _open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    import av
    from av.stream import Disposition

    try:
        container = av.open(str(path.absolute()), "r")  # an absolute name is never taken for a protocol
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise fail("path", f"'{path}' ({reason})", "a video that FFmpeg can read", "is it complete?") from error
    with container:
        streams = [video for video in container.streams.video if not video.disposition & Disposition.attached_pic]
        if not streams or container.format.name == "tty":  # which draws the letters of any text file
            raise fail("path", f"'{path}' without a video stream", "a file with video")
        if getattr(streams[0], "codec_context", None) is None:
            raise fail("path", f"'{path}' in a codec that this PyAV lacks", "a video that FFmpeg can decode")
        yield container, streams[0]


def _decode(container: InputContainer, stream: VideoStream, damage: list[str]) -> Iterator[VideoFrame]:
    """Decodes to the end, past packets that are broken; what went wrong is appended to ``damage``."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            damage.append(str(error))
            packet = None
        try:
            frames = stream.decode(packet)
        except av.EOFError:  # flushed already
            frames = []
        except av.FFmpegError as error:
            damage.append(str(error))
            frames = []
        yield from frames
        if packet is None:
            return


def _stated_duration(container: InputContainer, stream: VideoStream, rate: float) -> float | None:
    """Seconds that the header promises; None where the format has no such field."""
    if container.format.name == "avi" and stream.frames:  # its duration shrinks with the file
        return stream.frames / rate
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    hours, *rest = stream.metadata.get("DURATION", "").split(":")  # Matroska, as 00:01:02.5
    try:
        return 3600 * float(hours) + 60 * float(rest[0]) + float(rest[1])
    except (ValueError, IndexError):
        return None
