"""Which way up a decoded frame is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av import VideoFrame

Matrix = tuple[int, int, int, int]

_KINDS = 128  # numbers of side data that are looked at; FFmpeg 8 knows 32 of them


def display_matrix(frame: VideoFrame) -> Matrix:
    """The matrix ``(a, b, c, d)`` of x' = a x + c y, y' = b x + d y from the file to the screen."""
    try:
        data: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # beside it is something that FFmpeg sends and PyAV has no name for, such as EXIF
        data = _named(frame).side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    return a, b, c, d


def _named(frame: VideoFrame) -> VideoFrame:
    """The frame without the side data that PyAV has no name for, at which it would stumble."""
    from av import VideoFrame
    from av.filter import Graph
    from av.sidedata.sidedata import Type

    names = {kind.value for kind in Type}
    graph = Graph()
    last = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    for number in sorted(set(range(_KINDS)) - names):
        step = graph.add("sidedata", f"mode=delete:type={number}")
        last.link_to(step)
        last = step
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    graph.push(frame)
    bare = graph.pull()
    assert isinstance(bare, VideoFrame)
    return bare
