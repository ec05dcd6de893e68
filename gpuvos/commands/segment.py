"""``gpuvos segment``: masks of the moving object of a video file or a folder of images."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from gpuvos.commands.common import (
    RULES,
    add_crf_argument,
    add_method_arguments,
    build_segmenter,
    pick_device,
)
from gpuvos.commands.engine import add_engine_arguments, run_engine
from gpuvos.data.masks import read_mask, save_npz, write_mask
from gpuvos.data.prefetch import prefetch
from gpuvos.data.video import Clip, iterate_video, probe_video
from gpuvos.data.video_writer import VideoWriter
from gpuvos.engine.worker import SegmentVideo
from gpuvos.errors import fail
from gpuvos.segmenter import VideoSegmenter, segment
from gpuvos.sheet import contact_sheet
from gpuvos.types import Features, Segmentation
from gpuvos.viz import overlay, save_png


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
    parser.add_argument(
        "--first-mask", type=Path, help="PNG mask of the object in the first frame: semi-supervised"
    )
    parser.add_argument("--start", type=int, default=0, help="first frame")
    parser.add_argument("--stop", type=int, help="frame to stop before")
    parser.add_argument("--step", type=int, default=1, help="take every STEP-th frame")
    parser.add_argument(
        "--max-side", type=int, default=960, help="larger frames are scaled down to this (960)"
    )
    parser.add_argument(
        "--clip-length",
        type=int,
        default=200,
        help="longer videos are segmented in pieces of so many frames (200)",
    )
    add_crf_argument(parser)
    add_engine_arguments(parser)
    add_method_arguments(parser)


def run(arguments: Namespace) -> int:
    """Segments and writes masks, overlay, contact sheet and arrays; returns the exit status."""
    return run_engine(arguments, open_segmenter)


def open_segmenter(arguments: Namespace) -> SegmentVideo:
    """Builds the segmenter, once for many videos."""
    segmenter = build_segmenter(arguments, arguments.rule)
    return partial(segment_file, arguments, segmenter, pick_device(arguments.device))


def segment_file(
    arguments: Namespace, segmenter: VideoSegmenter, device: torch.device, path: Path, work: Path
) -> int:
    """Segments one video into a folder that exists; returns the number of frames."""
    first_mask = None if arguments.first_mask is None else read_mask(arguments.first_mask) > 0
    count = 0
    with ExitStack() as stack:
        clips = stack.enter_context(closing(prefetch(_read(arguments, path))))
        first = next(clips)
        total = _expected_frames(arguments, path)
        video = stack.enter_context(VideoWriter(work / "overlay.mp4", frame_rate=first.frame_rate))
        bar = stack.enter_context(tqdm(total=total, unit="frame", disable=None, leave=None))
        for piece, clip in enumerate(chain([first], clips)):
            if first_mask is not None and piece:
                raise fail(
                    "--first-mask", f"a video longer than {arguments.clip_length} frames", "one piece",
                    "raise --clip-length or give --stop",
                )  # fmt: skip
            features, result = segment_clip(segmenter, clip.frames, device, first_mask)
            _write_piece(work, clip, features, result, segmenter, sheet=piece == 0)
            video.write(overlay(clip.frames, result.mask.cpu()))
            bar.update(len(clip.names))
            count += len(clip.names)
    return count


def _read(arguments: Namespace, path: Path) -> Iterator[Clip]:
    return iterate_video(
        path, chunk=arguments.clip_length, start=arguments.start, stop=arguments.stop, step=arguments.step,
        max_side=arguments.max_side,
    )  # fmt: skip


def segment_clip(
    segmenter: VideoSegmenter, frames: Tensor, device: torch.device, first_mask: Tensor | None = None
) -> tuple[Features, Segmentation]:
    """Features and segmentation of frames ``[T, 3, H, W]`` on a device; the mask is resized to the frames."""
    frames = frames.to(device)
    if first_mask is not None:
        if first_mask.shape != frames.shape[-2:]:
            first_mask = torch.nn.functional.interpolate(
                first_mask[None, None].float(), size=frames.shape[-2:], mode="nearest"
            )[0, 0].bool()
        first_mask = first_mask.to(device)
    features = segmenter.features(frames)
    size = (frames.shape[-2], frames.shape[-1])
    result = segment(*features, config=segmenter.config, size=size, first_mask=first_mask)
    return features, segmenter.refine(result, frames)


def _expected_frames(arguments: Namespace, path: Path) -> int | None:
    known = probe_video(path).num_frames
    if known == 0:
        return None
    last: int = known if arguments.stop is None else min(known, arguments.stop)
    return max(0, len(range(arguments.start, last, arguments.step)))


def _write_piece(
    work: Path,
    clip: Clip,
    features: Features,
    result: Segmentation,
    segmenter: VideoSegmenter,
    *,
    sheet: bool,
) -> None:
    for name, mask in zip(clip.names, result.mask, strict=True):
        write_mask(work / "masks" / f"{name}.png", mask)
    save_npz(
        work / f"result-{clip.names[0]}.npz",
        mask=result.mask,
        probability=result.probability.half(),
        seed_index=result.seeds.index,
        seed_foreground=result.foreground,
        seed_background=result.background,
        saliency=result.saliency,
        tracks=result.tracks,
        track_score=result.track_score,
        region=result.forest.label.to(torch.int16),
        timestamps=clip.timestamps,
    )
    if sheet:
        frames = clip.frames.to(result.mask.device)
        save_png(work / "sheet.png", contact_sheet(frames, features, result, config=segmenter.config))
