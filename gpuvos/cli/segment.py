"""``gpuvos segment``: masks of the moving object of a video file or a folder of images."""

from __future__ import annotations

import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch.nn.functional import interpolate
from tqdm import tqdm

from gpuvos.batch.worker import SegmentVideo
from gpuvos.cli.common import (
    RULES,
    add_crf_argument,
    add_method_arguments,
    build_segmenter,
    pick_device,
)
from gpuvos.cli.engine import add_engine_arguments, run_engine
from gpuvos.cli.pieces import Piece, clip_pieces, stream_pieces
from gpuvos.data.masks import read_mask, save_npz, write_mask
from gpuvos.data.prefetch import prefetch
from gpuvos.data.video import Clip, iterate_video, probe_video, read_video
from gpuvos.data.video_writer import VideoWriter
from gpuvos.errors import check_count, fail
from gpuvos.pipeline.chunked import attempt, explain_memory
from gpuvos.pipeline.stream import StreamingSegmenter
from gpuvos.pipeline.video import VideoSegmenter
from gpuvos.viz.contact_sheet import contact_sheet
from gpuvos.viz.maps import overlay, save_png

MODES = ("auto", "whole", "stream", "pieces")
_READ = 16  # frames of a stream that are decoded together


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``gpuvos segment``."""
    parser.add_argument(
        "video",
        nargs="+",
        help="video file, GIF, folder of images; folder of such; @FILE: a list of them, one a line",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="folder to write; default: NAME-gpuvos beside you. Several videos: NAME-gpuvos in it",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace output folders that exist")
    parser.add_argument("--rule", default=RULES[0], choices=RULES, help="how seeds are labelled")
    parser.add_argument("--first-mask", type=Path, help="PNG mask of the object in the first frame: semi-supervised")
    parser.add_argument("--start", type=int, default=0, help="first frame")
    parser.add_argument("--stop", type=int, help="frame to stop before")
    parser.add_argument("--step", type=int, default=1, help="take every STEP-th frame")
    parser.add_argument("--max-side", type=int, default=960, help="larger frames are scaled down to this (960)")
    _add_length_arguments(parser)
    add_crf_argument(parser)
    add_engine_arguments(parser)
    add_method_arguments(parser)


def _add_length_arguments(parser: ArgumentParser) -> None:
    """How videos of any length fit into memory."""
    parser.add_argument(
        "--mode",
        default=MODES[0],
        choices=MODES,
        help="whole: all frames at once; stream: one object through any length in flat memory; pieces: of "
        "--clip-length frames, each on its own; auto: whole up to --clip-length frames if they fit into memory, "
        "else stream",
    )
    parser.add_argument(
        "--clip-length",
        type=int,
        default=200,
        help="longest video that auto takes whole; frames of a piece (200)",
    )
    parser.add_argument("--history", type=int, default=32, help="frames that a stream remembers (32)")
    parser.add_argument("--latency", type=int, default=8, help="frames that a stream looks ahead (8)")
    parser.add_argument("--no-arrays", action="store_true", help="leave out result-*.npz, which take most of the disk")


def run(arguments: Namespace) -> int:
    """Segments and writes masks, overlay, contact sheet and arrays; returns the exit status."""
    check_count("--step", arguments.step)
    check_count("--clip-length", arguments.clip_length)
    return run_engine(arguments, open_segmenter)


def open_segmenter(arguments: Namespace) -> SegmentVideo:
    """Builds the segmenter, once for many videos."""
    segmenter = build_segmenter(arguments, arguments.rule)
    return partial(segment_file, arguments, segmenter, pick_device(arguments.device))


def segment_file(arguments: Namespace, segmenter: VideoSegmenter, device: torch.device, path: Path, work: Path) -> int:
    """Segments one video into a folder that exists and is empty; returns the number of frames."""
    total, mode = _expected_frames(arguments, path), arguments.mode
    fill = partial(_fill, arguments, segmenter, device, path, work, total)
    if mode == "auto" and total is not None and total <= arguments.clip_length:
        count, _ = attempt(partial(fill, "whole"))
        if count is not None:
            return count
        print(f"{path}: out of memory for all frames at once, going on as a stream", file=sys.stderr)
        for left in work.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return fill("stream" if mode == "auto" else mode)


@explain_memory("video")
def _fill(
    arguments: Namespace,
    segmenter: VideoSegmenter,
    device: torch.device,
    path: Path,
    work: Path,
    total: int | None,
    mode: str,
) -> int:
    """Writes everything of one video in one of the modes."""
    count = 0
    with ExitStack() as stack:
        clips = stack.enter_context(closing(prefetch(_clips(arguments, mode, path))))
        first = next(clips)
        bar = stack.enter_context(tqdm(total=total, unit="frame", disable=None, leave=None))
        segmented = _pieces(arguments, mode, segmenter, chain([first], clips), device, bar.update)
        video = stack.enter_context(VideoWriter(work / "overlay.mp4", frame_rate=first.frame_rate))
        for number, piece in enumerate(segmented):
            _write_piece(work, piece, segmenter, sheet=number == 0, arrays=not arguments.no_arrays)
            video.write(overlay(piece.clip.frames, piece.result.mask.cpu()))
            count += len(piece.clip.names)
    return count


def _clips(arguments: Namespace, mode: str, path: Path) -> Iterator[Clip]:
    """The frames asked for, as many at a time as are segmented together."""
    selection = {
        "start": arguments.start,
        "stop": arguments.stop,
        "step": arguments.step,
        "max_side": arguments.max_side,
    }
    if mode == "whole":
        return iter([read_video(path, **selection)])
    chunk = _READ if mode == "stream" else arguments.clip_length
    return iterate_video(path, chunk=chunk, **selection)


def _pieces(
    arguments: Namespace,
    mode: str,
    segmenter: VideoSegmenter,
    clips: Iterable[Clip],
    device: torch.device,
    advance: Callable[[int], object],
) -> Iterator[Piece]:
    """The video, segmented; wrong options raise here, not at the first piece."""
    first_mask = None if arguments.first_mask is None else (read_mask(arguments.first_mask) > 0).to(device)
    if mode != "stream":
        return clip_pieces(segmenter, clips, device, first_mask, advance=advance)
    if not 0 <= arguments.latency < arguments.history:
        raise fail(
            "--latency",
            f"{arguments.latency} with --history {arguments.history}",
            "0 or more, below --history",
        )
    streamer = StreamingSegmenter(
        segmenter.front_end,
        segmenter.config,
        crf=segmenter.crf,
        history=arguments.history,
        latency=arguments.latency,
    )
    return stream_pieces(streamer, clips, device, first_mask, advance=advance)


def _expected_frames(arguments: Namespace, path: Path) -> int | None:
    known = probe_video(path).num_frames
    if known == 0:
        return None
    last: int = known if arguments.stop is None else min(known, arguments.stop)
    return max(0, len(range(arguments.start, last, arguments.step)))


def _write_piece(work: Path, piece: Piece, segmenter: VideoSegmenter, *, sheet: bool, arrays: bool) -> None:
    clip, result = piece.clip, piece.result
    for name, mask in zip(clip.names, result.mask, strict=True):
        write_mask(work / "masks" / f"{name}.png", mask)
    if arrays:  # a probability of the frames' size takes twelve times the bytes and says little more
        grid = result.forest.label.shape[-2:]
        probability = interpolate(result.probability[:, None], grid, mode="area")
        save_npz(
            work / f"result-{clip.names[0]}.npz",
            mask=result.mask,
            probability=probability[:, 0].half(),
            seed_index=result.seeds.index,
            seed_foreground=result.foreground,
            seed_background=result.background,
            saliency=result.saliency,
            **{name: value for name in ("tracks", "track_score") if (value := getattr(result, name)) is not None},
            region=result.forest.label.to(torch.int16),
            timestamps=clip.timestamps,
        )
    if sheet and piece.features is not None:
        frames = clip.frames.to(result.mask.device)
        save_png(work / "sheet.png", contact_sheet(frames, piece.features, result, config=segmenter.config))
