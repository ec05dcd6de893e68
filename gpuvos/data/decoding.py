"""Video files through PyAV: which stream, every frame once, and when it is shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import dropwhile, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gpuvos.data.images import MAX_PIXELS, too_large
from gpuvos.errors import InputError, fail

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

# What files are opened as. Nothing that names other files or the network (concat, hls, dash, sdp, image2, imf), runs a
# script or makes a picture of anything.
_FORMATS = (
    "3gp,amv,apng,asf,av1,avi,dv,f4v,flv,gif,gxf,h261,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp4,mpeg,mpegts,"
    "mpegvideo,mxf,nut,obu,ogg,rm,vc1,vvc,webm,wtv,yuv4mpegpipe,"
    "bmp_pipe,jpeg_pipe,png_pipe,tiff_pipe,webp_pipe,"  # pictures by another name
    "aac,flac,mp3,wav"  # which are told that they have no video
)
_REORDERING = ("h264", "hevc", "vvc")  # codecs whose frames may leave a decoder in another order than they went in


class Decoded(NamedTuple):
    """A frame as it comes out of the decoder."""

    frame: VideoFrame
    time: float | None  # presentation time of the file in seconds; None where it says nothing
    packet: int | None  # number of the packet it was decoded from; None where the decoder does not tell


@contextmanager
def refusals_named(path: Path) -> Iterator[None]:
    """Turns whatever PyAV raises into an InputError that names the file: a damaged one makes it raise anything."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = getattr(error, "strerror", None)
        if isinstance(error, MemoryError) and not said:  # FFmpeg's own is about a count that a damaged header claims
            raise
        reason = said or str(error) or type(error).__name__
        got = f"'{path}' ({reason.splitlines()[0]})"
        raise fail("path", got, "a video that FFmpeg can read", "is it complete?") from error


@contextmanager
def open_video(
    path: Path, number: int | None = None, max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a file and picks a video stream: that of the number, or the one that ``stream_rank`` puts first."""
    with refusals_named(path):
        container = _open(path, max_pixels)
    with container:
        with refusals_named(path):
            stream = _pick(container, path, number)
            if stream.width * stream.height > max_pixels:
                raise too_large(path, stream.width, stream.height, max_pixels)
            stream.codec_context.options = _limit(max_pixels)  # for frames that claim more later
        yield container, stream


def _limit(max_pixels: int) -> dict[str, str]:
    """FFmpeg's own limit, which counts the padding of a frame as well: what the header says is checked exactly."""
    return {"max_pixels": str(2 * max_pixels + 2**16)}


def _open(path: Path, max_pixels: int) -> InputContainer:
    import av

    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", **_limit(max_pixels)}
    name = str(path.absolute())  # an absolute name is never taken for a protocol
    try:
        return av.open(name, "r", options=options, metadata_errors="replace")  # tags of cameras are in any encoding
    except TypeError:  # a PyAV without this argument
        return av.open(name, "r", options=options)


def _pick(container: InputContainer, path: Path, number: int | None) -> VideoStream:
    videos = list(container.streams.video)
    films = film_streams(container)
    if not films:
        raise fail("path", f"'{path}' without a video stream", "a file with video")
    if number is not None and number >= len(videos):
        has = f"{len(videos)} video stream{'s' if len(videos) > 1 else ''}"
        raise fail("video_stream", f"{number}, but '{path}' has {has}", f"a number from 0 to {len(videos) - 1}")
    stream = max(films, key=stream_rank) if number is None else videos[number]
    if getattr(stream, "codec_context", None) is None:
        raise fail("path", f"'{path}' in a codec that this PyAV lacks", "a video that FFmpeg can decode")
    return stream


def film_streams(container: InputContainer) -> list[VideoStream]:
    """The video streams that are no cover pictures."""
    from av.stream import Disposition

    return [video for video in container.streams.video if not video.disposition & Disposition.attached_pic]


def stream_rank(stream: VideoStream) -> tuple[bool, bool, int, bool, bool, int]:
    """The larger, the more likely this is the film and not a still, a preview, or an alpha or depth plane."""
    from av.stream import Disposition

    known = getattr(stream, "codec_context", None) is not None
    size = stream.width * stream.height if known else 0
    default = bool(stream.disposition & Disposition.default)
    return known, stream.frames != 1, size, known and is_colour(stream), default, -stream.index


def is_colour(stream: VideoStream) -> bool:
    """Whether the pixels of a stream have a colour."""
    form = stream.format
    return form is None or form.has_palette or len([part for part in form.components if not part.is_alpha]) > 1


def decode(
    container: InputContainer, stream: VideoStream, path: Path, damage: list[str], seen: int, last: int | None
) -> Iterator[Decoded]:
    """Decodes to the end, past packets that are broken; what went wrong is appended to ``damage``.

    Args:
        container: that of the stream, at its beginning.
        stream: what to decode.
        path: for errors.
        damage: list to append to.
        seen: frames that an earlier pass gave out; they are left out.
        last: packet of the last one of them.
    """
    from av.codec.context import Flags

    stream.codec_context.flags |= Flags.copy_opaque  # frames know their packet
    frames = _frames(container, stream, path, damage)
    if last is None:
        return islice(frames, seen, None)
    # A pass may have lost frames in the middle, so that counting them would give some of them out twice.
    return islice(dropwhile(lambda decoded: decoded.packet != last, frames), 1, None)


def _frames(container: InputContainer, stream: VideoStream, path: Path, damage: list[str]) -> Iterator[Decoded]:
    import av

    packets, timing, number = container.demux(stream), _timing(container, stream), 0
    while True:
        packet = None
        with refusals_named(path):
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                damage.append(str(error))
            if packet is not None:
                packet.opaque = number
                number += 1
            try:
                timing.arrives(packet)
                frames = stream.decode(packet)
            except av.EOFError:  # flushed already
                frames = []
            except av.FFmpegError as error:
                damage.append(str(error))
                timing.lost()
                frames = []
            decoded = [Decoded(frame, timing.leaves(frame), _packet_number(frame)) for frame in frames]
        yield from decoded
        if packet is None:
            return


def _packet_number(frame: VideoFrame) -> int | None:
    number = frame.opaque
    return number if isinstance(number, int) else None


class _StatedTimes:
    """Presentation times are in the file."""

    def arrives(self, packet: Packet[Any] | None) -> None:
        """A packet goes into the decoder."""

    def lost(self) -> None:
        """The packet that went in last gives no frame."""

    def leaves(self, frame: VideoFrame) -> float | None:
        """A frame comes out: when it is shown."""
        return None if frame.pts is None else float(frame.time)


class _DecodingTimes(_StatedTimes):
    """The file says when packets are decoded, and nothing of reordering: AVI.

    Frames leave a decoder in the order in which they are shown. So the k-th one is shown when, without reordering,
    the k-th packet would be.
    """

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def arrives(self, packet: Packet[Any] | None) -> None:
        if packet is not None and packet.size and packet.dts is not None and packet.time_base is not None:
            self._times.append(float(packet.dts * packet.time_base))

    def lost(self) -> None:
        if self._times:
            self._times.pop()

    def leaves(self, frame: VideoFrame) -> float | None:  # noqa: ARG002
        return self._times.popleft() if self._times else None


def _timing(container: InputContainer, stream: VideoStream) -> _StatedTimes:
    context = stream.codec_context
    reorders = context.has_b_frames or context.name in _REORDERING
    return _DecodingTimes() if container.format.name == "avi" and reorders else _StatedTimes()


class Clock:
    """Makes times out of presentation times: from 0, strictly increasing, also where a file lacks them."""

    def __init__(self, rate: float) -> None:
        self.gap = 1 / rate
        self._origin = 0.0
        self._time: float | None = None
        self._end = 0.0  # when the last frame is over, by the clock of the file or by this one

    def tick(self, decoded: Decoded) -> float:
        """The time of the next frame."""
        raw, frame = decoded.time, decoded.frame
        if self._time is None:
            self._origin, time = raw or 0.0, 0.0
        else:
            time = self._time + self.gap if raw is None else raw - self._origin
            if time <= self._time:
                time = self._time + self.gap
        lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else self.gap
        self._time, self._end = time, max(time, raw or 0.0) + lasts
        return time

    def covers(self, duration: float) -> bool:
        """Whether the frames so far fill ``duration`` seconds, within what files are wrong by."""
        return self._end >= duration - max(1.5 * self.gap, 0.01 * duration)


def stated_rate(stream: VideoStream) -> float | None:
    """Frames per second as the file states them; None where it says nothing that can be."""
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    return next((float(rate) for rate in rates if rate and 0 < rate <= 1000), None)


def stated_duration(container: InputContainer, stream: VideoStream, rate: float) -> float | None:
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
