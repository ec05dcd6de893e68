"""Reading of videos: files, animated GIFs, folders of images and single images, as uint8 tensors.

Frames come upright (rotation metadata and EXIF orientation are applied), in RGB, transparency composited over
black, values of more than 8 bits reduced to 8. They keep the pixel grid of the file: pixels that are not
square are not resampled. Colour tags are followed; a file without any is read as BT.601, as FFmpeg does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from gpuvos.data.atomic import PathLike
from gpuvos.data.images import MAX_PIXELS
from gpuvos.data.sources import ImageSource, PageSource, Selection, VideoSource, open_source
from gpuvos.data.video_writer import VideoWriter, write_video
from gpuvos.errors import MOST, fail, shortened
from gpuvos.types import Progress

__all__ = ["Clip", "VideoInfo", "VideoWriter", "iterate_video", "probe_video", "read_video", "write_video"]


class Clip(NamedTuple):
    """Frames of a video, or a part of them."""

    frames: Tensor  # [T, 3, H, W] uint8
    timestamps: Tensor  # [T] float64, seconds since the first frame of the video, strictly increasing
    frame_rate: float  # mean number of these frames per second
    names: tuple[str, ...]  # of the images without suffix; for videos the number of the frame, 00000 first


class VideoInfo(NamedTuple):
    """What a file says about its video."""

    height: int  # of the upright frame
    width: int
    num_frames: int  # exact for images, an estimate for videos; 0 where the file says nothing
    frame_rate: float  # mean number of frames per second


def read_video(
    path: PathLike,
    *,
    start: int = 0,
    stop: int | None = None,
    step: int = 1,
    max_side: int | None = None,
    video_stream: int | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Clip:
    """Reads a video, a folder of images or an image into memory.

    Args:
        path: a file that FFmpeg decodes (mp4, mov, mkv, webm, avi, gif, ...), a folder of images (png, jpg,
            jpeg, bmp, webp, tif, ppm; in natural order, frame2 before frame10; 24 frames per second), or one image;
            of an animated one (APNG, WebP) or one of several pages (TIFF) all pictures.
        start: number of the first frame to read. Frames before it are decoded and dropped, so the number is
            exact in every format.
        stop: number of the frame to stop before; None or a number past the end: the end.
        step: read every step-th frame.
        max_side: downsize so that the longer side is at most this many pixels; never enlarges.
        video_stream: number of the video stream to read, from 0, as FFmpeg counts them. None: of those that are
            no stills the largest; of equal ones the first that has colours and that the file calls its default.
        max_pixels: frames of more pixels, by the header of the file, are not decoded; 64 million unless more are
            allowed.
        progress: called as ``progress("decode", done, total)`` after every frame.

    Returns:
        A `Clip` on the CPU. Should the size change in the middle of a video, later frames are scaled to the
        size of the first.

    Raises:
        InputError: if the path does not exist, is no video, has no video stream or not one frame that can be
            decoded, if a folder has no images or images of different sizes, or if the selection is empty.

    Warns:
        UserWarning: if there are several video streams to choose from, or if a video is truncated or damaged; the
            frames that decode are returned. (MPEG-TS and GIF files do not say how long they are, so a clean cut
            cannot be noticed in them.)

    Example:
        >>> import tempfile
        >>> file = tempfile.mkdtemp() + "/clip.mp4"
        >>> write_video(file, torch.zeros(6, 3, 16, 24), frame_rate=10)
        >>> clip = read_video(file, start=1, step=2)
        >>> clip.frames.shape, clip.timestamps.tolist(), clip.frame_rate, clip.names
        (torch.Size([3, 3, 16, 24]), [0.1, 0.3, 0.5], 5.0, ('00001', '00003', '00005'))
    """
    selection = _select(start, stop, step, max_side, video_stream, max_pixels)
    source = open_source(path, video_stream, max_pixels)
    expected = selection.num_selected(source.num_frames)
    buffer = torch.empty(0, dtype=torch.uint8)
    times: list[float] = []
    names: list[str] = []
    for frame in source.frames(selection):
        if len(times) == len(buffer):
            # Room for as many frames as the file announces: a second copy of a long video may not fit. It may announce
            # anything, so it gets no more than a GiB at once.
            announced = min(expected, 1024, 2**30 // frame.pixels.numel())
            room = 2 * len(times) if times else max(announced, 1)
            more = buffer.new_empty(room - len(times), *frame.pixels.shape)
            buffer = torch.cat([buffer, more]) if times else more
        buffer[len(times)] = frame.pixels
        times.append(frame.time)
        names.append(frame.name)
        if progress is not None:
            progress("decode", len(times), max(expected, len(times)))
    frames = buffer if len(buffer) == len(times) else buffer[: len(times)].clone()
    rate = _mean_rate(times, source.frame_rate / step)
    return Clip(frames, torch.tensor(times, dtype=torch.float64), rate, tuple(names))


def iterate_video(
    path: PathLike,
    *,
    chunk: int = 32,
    start: int = 0,
    stop: int | None = None,
    step: int = 1,
    max_side: int | None = None,
    video_stream: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Clip]:
    """Reads a video in pieces of bounded memory; what is read and what is raised is as in `read_video`.

    Arguments are checked at once, the file while it is read. Closing the iterator, or leaving a loop over it,
    closes the file.

    Args:
        path: the file or folder, see `read_video`.
        chunk: frames of a piece; the last one may be shorter.
        start: the first frame, see `read_video`.
        stop: the frame before which to stop, see `read_video`.
        step: the distance between frames, see `read_video`.
        max_side: the longer side that frames may have, see `read_video`.
        video_stream: the number of the stream, see `read_video`.
        max_pixels: the largest frame that is decoded, see `read_video`.

    Returns:
        An iterator of `Clip`, whose ``frame_rate`` is the mean of the whole video as the file states it.

    Raises:
        InputError: see `read_video`.

    Example:
        >>> import tempfile
        >>> file = tempfile.mkdtemp() + "/clip.mp4"
        >>> write_video(file, torch.zeros(7, 3, 16, 24))
        >>> [len(clip.frames) for clip in iterate_video(file, chunk=3)]
        [3, 3, 1]
    """
    _check_integer("chunk", chunk, 1)
    selection = _select(start, stop, step, max_side, video_stream, max_pixels)
    return _chunks(open_source(path, video_stream, max_pixels), chunk, selection)


def probe_video(path: PathLike, *, video_stream: int | None = None, max_pixels: int = MAX_PIXELS) -> VideoInfo:
    """Size, number of frames and frame rate of a video; decodes one frame.

    Args:
        path: see `read_video`.
        video_stream: see `read_video`.
        max_pixels: see `read_video`.

    Raises:
        InputError: if there is no video or its first frame does not decode; see `read_video`.

    Example:
        >>> import tempfile
        >>> file = tempfile.mkdtemp() + "/clip.mp4"
        >>> write_video(file, torch.zeros(5, 3, 16, 24), frame_rate=10)
        >>> probe_video(file)
        VideoInfo(height=16, width=24, num_frames=5, frame_rate=10.0)
    """
    _select(0, None, 1, None, video_stream, max_pixels)
    source = open_source(path, video_stream, max_pixels)
    first = next(source.frames(Selection(stop=1, max_pixels=max_pixels)))
    return VideoInfo(first.pixels.shape[1], first.pixels.shape[2], source.num_frames, source.frame_rate)


def _chunks(source: VideoSource | ImageSource | PageSource, chunk: int, selection: Selection) -> Iterator[Clip]:
    rate = source.frame_rate / selection.step
    with closing(source.frames(selection)) as frames:
        while piece := list(islice(frames, chunk)):
            times = torch.tensor([frame.time for frame in piece], dtype=torch.float64)
            pixels = torch.stack([frame.pixels for frame in piece])
            yield Clip(pixels, times, rate, tuple(frame.name for frame in piece))


def _mean_rate(times: list[float], stated: float) -> float:
    """The rate that the file states, unless the times say otherwise by more than a frame and a half."""
    span = times[-1] - times[0]
    if abs(span - (len(times) - 1) / stated) <= 1.5 / stated:
        return stated
    return (len(times) - 1) / span


def _select(
    start: int, stop: int | None, step: int, max_side: int | None, video_stream: int | None, max_pixels: int
) -> Selection:
    _check_integer("start", start, 0)
    _check_integer("step", step, 1)
    if stop is not None:
        _check_integer("stop", stop, 0)
        if stop <= start:
            raise fail("stop", f"{stop}, which selects no frame", f"a number above start = {start}")
    if max_side is not None:
        _check_integer("max_side", max_side, 1)
    if video_stream is not None:
        _check_integer("video_stream", video_stream, 0)
    _check_integer("max_pixels", max_pixels, 1)
    return Selection(start, stop, step, max_side, max_pixels)


def _check_integer(argument: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= MOST:
        raise fail(argument, shortened(value), f"an integer of at least {low} and at most {MOST}")
