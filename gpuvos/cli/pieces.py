"""A video in pieces of bounded memory, segmented in three ways: as one, piece by piece, and as a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gpuvos.data.video import Clip
from gpuvos.errors import fail
from gpuvos.pipeline.stream import StreamingSegmenter
from gpuvos.pipeline.video import VideoSegmenter
from gpuvos.types import Features, Progress, Segmentation, map_tensors

STREAM_PIECE = 32  # frames that are written together


class Piece(NamedTuple):
    """Some frames of a video and what became of them."""

    clip: Clip
    result: Segmentation  # of a stream: with a track score of every frame, [T, K]
    features: Features | None  # of a stream: of the first piece alone


def segment_clip(
    segmenter: VideoSegmenter,
    frames: Tensor,
    device: torch.device,
    first_mask: Tensor | None = None,
    progress: Progress | None = None,
) -> tuple[Features, Segmentation]:
    """Features and segmentation of frames ``[T, 3, H, W]`` on a device, and refined where there is a CRF."""
    frames = frames.to(device)
    features = segmenter.features(frames, progress=progress)
    result = segmenter.label(features, frames, first_mask=first_mask, progress=progress)
    return features, segmenter.refine(result, frames, progress=progress)


def clip_pieces(
    segmenter: VideoSegmenter,
    clips: Iterable[Clip],
    device: torch.device,
    first_mask: Tensor | None = None,
    *,
    progress: Callable[[int], Progress] | None = None,
) -> Iterator[Piece]:
    """Every clip on its own; ``first_mask`` is that of the first one. ``progress`` makes what to tell."""
    done = 0
    for number, clip in enumerate(clips):
        if first_mask is not None and number:
            raise fail("--first-mask", "several pieces", "one stream or one piece", "leave out --mode pieces")
        told = None if progress is None else progress(done)
        features, result = segment_clip(segmenter, clip.frames, device, first_mask, told)
        done += len(clip.names)
        yield Piece(clip, result, features)


def stream_pieces(
    streamer: StreamingSegmenter,
    clips: Iterable[Clip],
    device: torch.device,
    first_mask: Tensor | None = None,
    *,
    progress: Progress | None = None,
) -> Iterator[Piece]:
    """All clips as one stream, out in pieces of ``STREAM_PIECE`` frames; ``progress`` hears of every frame."""
    waiting: deque[Clip] = deque()  # of one frame each

    def frames() -> Iterator[Tensor]:
        for clip in clips:
            for number, frame in enumerate(clip.frames):
                part = slice(number, number + 1)
                waiting.append(Clip(clip.frames[part], clip.timestamps[part], clip.frame_rate, clip.names[part]))
                yield frame.to(device)

    done: list[tuple[Clip, Segmentation, Features | None]] = []
    first = True
    for count, result in enumerate(streamer.stream(frames(), first_mask=first_mask), 1):
        done.append((waiting.popleft(), result, streamer.last_features if first else None))
        if progress is not None:
            progress("frames", count, count)
        if len(done) == STREAM_PIECE:
            yield _joined(done)
            done, first = [], False
    if done:
        yield _joined(done)


def _joined(done: list[tuple[Clip, Segmentation, Features | None]]) -> Piece:
    clips, results, features = zip(*done, strict=True)
    clip = Clip(
        torch.cat([one.frames for one in clips]),
        torch.cat([one.timestamps for one in clips]),
        clips[0].frame_rate,
        tuple(name for one in clips for name in one.names),
    )
    parts = [
        result if result.track_score is None else result._replace(track_score=result.track_score[None])
        for result in results
    ]
    joined = map_tensors(lambda *values: torch.cat(values), *parts)
    seen = None if features[0] is None else map_tensors(lambda *values: torch.cat(values), *features)
    return Piece(clip, joined, seen)
