"""``gpuvos segment``: masks of the moving object of a video file or a folder of images."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gpuvos.batch.worker import SegmentVideo
from gpuvos.cli.common import build_segmenter, chosen_refinement, pick_device
from gpuvos.cli.engine import run_engine, settings
from gpuvos.cli.findings import Findings
from gpuvos.cli.pieces import Piece, clip_pieces, stream_pieces
from gpuvos.cli.progress import COSTS, REFINEMENT_COSTS, Stages
from gpuvos.cli.report import Report
from gpuvos.data.images import fit
from gpuvos.data.masks import read_mask, save_npz, write_mask
from gpuvos.data.prefetch import prefetch
from gpuvos.data.video import Clip, VideoInfo, iterate_video, probe_video, read_video
from gpuvos.data.video_writer import VideoWriter
from gpuvos.errors import fail
from gpuvos.pipeline.chunked import attempt, explain_memory
from gpuvos.pipeline.stream import StreamingSegmenter
from gpuvos.pipeline.threads import in_threads
from gpuvos.pipeline.video import VideoSegmenter
from gpuvos.types import Progress
from gpuvos.viz.contact_sheet import contact_sheet
from gpuvos.viz.maps import overlay, save_png

_READ = 16  # frames of a stream that are decoded together
_DRAWN = 8  # frames of the overlay that are drawn together


def run(arguments: Namespace) -> int:
    """Segments and writes masks, overlay, contact sheet, arrays and report; returns the exit status."""
    return run_engine(arguments, open_segmenter)


def open_segmenter(arguments: Namespace, *, threads: int = 1) -> SegmentVideo:
    """Builds the segmenter, once for many videos; a video's frames are seen by so many threads."""
    segmenter = build_segmenter(arguments, arguments.rule)
    if threads > 1:
        segmenter = in_threads(segmenter, threads)
    return partial(segment_file, arguments, segmenter, pick_device(arguments.device))


def segment_file(arguments: Namespace, segmenter: VideoSegmenter, device: torch.device, path: Path, work: Path) -> int:
    """Segments one video into a folder that exists and is empty; returns the number of frames."""
    info = probe_video(path, video_stream=arguments.video_stream, max_pixels=arguments.max_pixels)
    total, mode = _expected_frames(arguments, info), arguments.mode
    named = None if arguments.first_mask is None else _first_mask(arguments, info).to(device)
    fill = partial(_fill, arguments, segmenter, path, work, total, named)
    if mode == "auto" and total is not None and total <= arguments.clip_length:
        count, _ = attempt(partial(fill, "whole", device))
        if count is not None:
            return count
        print(f"{path}: out of memory for all frames at once, going on as a stream", file=sys.stderr)
        for left in work.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return fill("stream" if mode == "auto" else mode, device)


@explain_memory("video")
def _fill(
    arguments: Namespace,
    segmenter: VideoSegmenter,
    path: Path,
    work: Path,
    total: int | None,
    named: Tensor | None,
    mode: str,
    device: torch.device,
) -> int:
    """Writes everything of one video in one of the modes."""
    names: list[str] = []
    findings, report = Findings(segmenter.config, named=named is not None), Report()
    with ExitStack() as stack:
        costs = _costs(arguments, mode, total)
        told = stack.enter_context(Stages(costs, total, name=path.name, lines=arguments.engine == "local"))
        clips = stack.enter_context(closing(prefetch(_clips(arguments, mode, path, told))))
        first = next(clips)
        segmented = _pieces(arguments, mode, segmenter, chain([first], clips), device, named, told)
        video = stack.enter_context(VideoWriter(work / "overlay.mp4", frame_rate=first.frame_rate))
        for number, piece in enumerate(segmented):
            here = told.from_frame(len(names))
            _write_masks(work, piece, here)
            _write_overlay(video, piece, here)
            _write_piece(work, piece, segmenter, sheet=number == 0, arrays=not arguments.no_arrays, told=told)
            findings.add(piece.result)
            report.add(piece)
            names += piece.clip.names
    _check_written(work, names)
    if sentence := findings.sentence(str(path)):
        print(f"gpuvos: {sentence}", file=sys.stderr)
    if not arguments.no_report:
        report.write(work, path.name, findings.sentence(path.name), settings(arguments))
    return len(names)


def _check_written(work: Path, names: Sequence[str]) -> None:
    """Raises InputError unless every mask and the overlay are there: they could have been deleted meanwhile."""
    masks = {file.name for file in (work / "masks").glob("*.png")}
    missing = [name for name in names if f"{name}.png" not in masks]
    if missing or len(masks) != len(names) or not (work / "overlay.mp4").is_file():
        got = f"a work folder with {len(masks)} masks of {len(names)} frames when all was written"
        raise fail("--output", got, "a folder that nobody else touches", "run it again")


def _costs(arguments: Namespace, mode: str, total: int | None) -> dict[str, float]:
    """Milliseconds of a frame in every stage, roughly, on one core."""
    if mode == "stream":
        costs = {"frames": 500.0}
    else:
        costs = {name: COSTS[name] for name in ("decode", "network", "flow", "method")}
        if arguments.front_end != "bundled":
            costs["network"] = 60.0
        costs["refine"] = REFINEMENT_COSTS[chosen_refinement(arguments)]
    return {**costs, "masks": COSTS["masks"], "overlay": COSTS["overlay"], "page": 3000.0 / max(total or 100, 1)}


def _clips(arguments: Namespace, mode: str, path: Path, told: Stages) -> Iterator[Clip]:
    """The frames asked for, as many at a time as are segmented together."""
    options = ("start", "stop", "step", "max_side", "max_pixels", "video_stream")
    selection = {name: getattr(arguments, name) for name in options}
    if mode == "whole":
        return iter([read_video(path, **selection, progress=told)])
    chunk = _READ if mode == "stream" else arguments.clip_length
    return _counted(iterate_video(path, chunk=chunk, **selection), told)


def _counted(clips: Iterator[Clip], told: Stages) -> Iterator[Clip]:
    """The same clips; their frames are said to be decoded where that is a stage."""
    count = 0
    for clip in clips:
        count += len(clip.names)
        told.note("decode", count)
        yield clip


def _pieces(
    arguments: Namespace,
    mode: str,
    segmenter: VideoSegmenter,
    clips: Iterable[Clip],
    device: torch.device,
    named: Tensor | None,
    told: Stages,
) -> Iterator[Piece]:
    """The video, segmented; wrong options raise here, not at the first piece."""
    if mode != "stream":
        return clip_pieces(segmenter, clips, device, named, progress=told.from_frame)
    streamer = StreamingSegmenter(
        segmenter.front_end,
        segmenter.config,
        refinement=segmenter.refinement,
        history=arguments.history,
        latency=arguments.latency,
    )
    return stream_pieces(streamer, clips, device, named, progress=told)


def _first_mask(arguments: Namespace, info: VideoInfo) -> Tensor:
    """The mask of ``--first-mask`` at the size of the frames; it must be as large as the video."""
    file, size = arguments.first_mask, (info.height, info.width)
    mask = read_mask(file, max_pixels=arguments.max_pixels) > 0
    scaled = fit(*size, arguments.max_side)
    if tuple(mask.shape) not in (size, scaled):
        got = f"'{file}' of {mask.shape[1]} x {mask.shape[0]} pixels"
        remedy = "turn it by 90 degrees" if tuple(mask.shape) == size[::-1] else "it must be of the frames themselves"
        raise fail("--first-mask", got, f"{size[1]} x {size[0]}, the size of the video", remedy)
    if not bool(mask.any()):
        raise fail(
            "--first-mask", f"'{file}', which is empty", "a mask with the object in it", "without it, it is found"
        )
    share = interpolate(mask[None, None].float(), size=scaled, mode="area")[0, 0]
    return share >= share.amax().clamp(max=0.5)  # a small object is not lost where the frames are scaled down


def _expected_frames(arguments: Namespace, info: VideoInfo) -> int | None:
    if info.num_frames == 0:
        return None
    last = info.num_frames if arguments.stop is None else min(info.num_frames, arguments.stop)
    return max(0, len(range(arguments.start, last, arguments.step)))


def _write_masks(work: Path, piece: Piece, told: Progress) -> None:
    for number, (name, mask) in enumerate(zip(piece.clip.names, piece.result.mask, strict=True), 1):
        write_mask(work / "masks" / f"{name}.png", mask)
        told("masks", number, number)


def _write_overlay(video: VideoWriter, piece: Piece, told: Progress) -> None:
    """The frames with their masks over them, at the times of the input."""
    clip, mask = piece.clip, piece.result.mask.cpu()
    for start in range(0, len(clip.names), _DRAWN):
        part = slice(start, start + _DRAWN)
        video.write(overlay(clip.frames[part], mask[part]), timestamps=clip.timestamps[part])
        told("overlay", min(start + _DRAWN, len(clip.names)), len(clip.names))


def _write_piece(
    work: Path, piece: Piece, segmenter: VideoSegmenter, *, sheet: bool, arrays: bool, told: Progress
) -> None:
    clip, result = piece.clip, piece.result
    if arrays:  # a probability of the frames' size takes twelve times the bytes and says little more
        probability = interpolate(result.probability[:, None], result.forest.label.shape[-2:], mode="area")
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
        told("page", 0, len(clip.names))
        frames = clip.frames.to(result.mask.device)
        save_png(work / "sheet.png", contact_sheet(frames, piece.features, result, config=segmenter.config))
        told("page", len(clip.names), len(clip.names))
