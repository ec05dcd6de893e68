"""Where frames come from: a video file through PyAV, or image files through Pillow, one frame at a time."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gpuvos.data.atomic import PathLike, as_path, kind_of_path
from gpuvos.data.decoding import (
    Clock,
    decode,
    film_streams,
    is_colour,
    open_video,
    refusals_named,
    stated_duration,
    stated_rate,
)
from gpuvos.data.images import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    count_pages,
    fit,
    flatten_alpha,
    list_images,
    read_image,
    read_pages,
)
from gpuvos.data.orientation import display_matrix
from gpuvos.errors import InputError, fail

if TYPE_CHECKING:
    from av import VideoFrame

DEFAULT_FRAME_RATE = 24.0  # where a file or a folder of images says nothing about time


class Selection(NamedTuple):
    """The frames ``range(start, stop, step)``, the longer side they may have, and the pixels that are decoded."""

    start: int = 0
    stop: int | None = None
    step: int = 1
    max_side: int | None = None
    max_pixels: int = MAX_PIXELS

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


def open_source(
    path: PathLike, video_stream: int | None = None, max_pixels: int = MAX_PIXELS
) -> VideoSource | ImageSource | PageSource:
    """Looks at what ``path`` is; raises InputError where it does not exist or is no video."""
    source = as_path("path", path)
    if kind_of_path("path", source) == "file" and source.suffix.lower() not in IMAGE_SUFFIXES:
        return VideoSource(source, video_stream, max_pixels)
    if video_stream:
        raise fail("video_stream", f"{video_stream}, but '{source}' is of images", "None")
    if source.is_file() and count_pages(source) > 1:
        return PageSource(source, max_pixels)
    return ImageSource(source)


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
            pixels, size = read_image(file, selection.max_side, selection.max_pixels)
            first = first or size
            if size != first:
                one, other = (f"{width} x {height}" for height, width in (first, size))
                got = f"'{self.files[chosen[0]].name}' of {one} and '{file.name}' of {other} pixels"
                raise fail("path", f"{got} in '{self.path}'", "images of one size")
            yield Frame(pixels, number / self.frame_rate, file.stem)


class PageSource:
    """An image file of several pages or an animation: APNG, WebP, TIFF."""

    def __init__(self, path: Path, max_pixels: int = MAX_PIXELS) -> None:
        self.path = path
        self.num_frames = count_pages(path)
        first = next(read_pages(path, max_pixels=max_pixels))
        self.frame_rate = DEFAULT_FRAME_RATE if first.seconds is None else 1 / first.seconds

    def frames(self, selection: Selection) -> Generator[Frame, None, None]:
        """Decodes from the first page on and gives out the selected ones; all of them must have one size."""
        time, size = 0.0, None
        total = 0
        with closing(read_pages(self.path, selection.max_side, selection.max_pixels)) as pages:
            for number, page in enumerate(pages):
                if number == selection.stop:
                    return
                total = number + 1
                size = size or page.size
                if page.size != size:
                    one, other = (f"{width} x {height}" for height, width in (size, page.size))
                    raise fail("path", f"'{self.path}' with pages of {one} and {other} pixels", "pages of one size")
                if number >= selection.start and (number - selection.start) % selection.step == 0:
                    yield Frame(page.pixels, time, f"{number:05d}")
                time += page.seconds or 1 / self.frame_rate
        if total <= selection.start:
            raise selection.empty(self.path, total)
        if total < self.num_frames:
            _warn_damaged(self.path, total, self.num_frames)


class VideoSource:
    """A file that FFmpeg decodes."""

    def __init__(self, path: Path, video_stream: int | None = None, max_pixels: int = MAX_PIXELS) -> None:
        self.path, self._number, self._max_pixels = path, video_stream, max_pixels
        self._note = ""
        with open_video(path, video_stream, max_pixels) as (container, stream), refusals_named(path):
            self.frame_rate = stated_rate(stream) or DEFAULT_FRAME_RATE
            self._duration = stated_duration(container, stream, self.frame_rate)
            seconds = self._duration or (container.duration or 0) / 1_000_000
            self.num_frames = stream.frames or round(seconds * self.frame_rate)
            films = [film for film in film_streams(container) if film.frames != 1 and is_colour(film)]
            if video_stream is None and len(films) > 1:
                number = list(container.streams.video).index(stream)
                self._note = (
                    f"'{path}' has {len(films)} video streams: number {number} of {stream.width} x {stream.height} "
                    "pixels is read; video_stream=, or --video-stream of the command, takes another"
                )

    def frames(self, selection: Selection) -> Generator[Frame, None, None]:
        """Decodes from the beginning and gives out the selected frames."""
        if self._note:
            warnings.warn(self._note, UserWarning, stacklevel=2)
        convert = _Converter(selection.max_side)
        total = 0
        with closing(self._decoded(selection.stop)) as decoded:
            for number, time, frame in decoded:
                total = number + 1
                if number >= selection.start and (number - selection.start) % selection.step == 0:
                    with refusals_named(self.path):
                        pixels = convert(frame)
                    yield Frame(pixels, time, f"{number:05d}")
        if total <= selection.start:
            raise selection.empty(self.path, total)

    def _decoded(self, stop: int | None) -> Generator[tuple[int, float, VideoFrame], None, None]:
        """Every frame up to ``stop`` with its number and time; warns if the file ends early or is damaged."""
        number, clock, errors = 0, Clock(self.frame_rate), 0
        packet: int | None = None  # that of the last frame
        # Decoding frames in parallel loses those in flight when a truncated file ends: what is missing after
        # the first pass is decoded again one by one.
        for threads in ("AUTO", "SLICE"):
            damage: list[str] = []
            with open_video(self.path, self._number, self._max_pixels) as (container, stream):
                stream.thread_type = threads
                for decoded in decode(container, stream, self.path, damage, number, packet):
                    packet = decoded.packet
                    errors += decoded.frame.is_corrupt
                    yield number, clock.tick(decoded), decoded.frame
                    number += 1
                    if number == stop:
                        return
            if not damage and (self._duration is None or clock.covers(self._duration)):
                break
        else:
            errors += 1
        if number == 0:
            wanted = f"an undamaged video of at most {self._max_pixels} pixels a frame"
            raise fail("path", f"'{self.path}', of which no frame can be decoded", wanted)
        if errors:
            _warn_damaged(self.path, number, self.num_frames)


def _warn_damaged(path: Path, number: int, total: int) -> None:
    known = f"of about {total}" if total > number else "with errors"
    message = f"'{path}' is truncated or damaged: {number} frames {known} could be read"
    warnings.warn(message, UserWarning, stacklevel=3)


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
            self._matrix = display_matrix(frame)
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
