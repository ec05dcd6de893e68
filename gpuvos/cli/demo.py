"""``gpuvos demo``: renders a clip, segments it, and leaves pictures and a score."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from gpuvos.cli.common import RULES, add_method_arguments, build_segmenter, pick_device
from gpuvos.cli.pieces import segment_clip
from gpuvos.data.atomic import atomic_folder
from gpuvos.data.masks import write_masks
from gpuvos.data.synthetic import SCENES, render_clip
from gpuvos.data.video_writer import write_video
from gpuvos.metrics import boundary_accuracy, region_similarity
from gpuvos.viz.contact_sheet import contact_sheet
from gpuvos.viz.maps import overlay, save_png


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``gpuvos demo``."""
    parser.add_argument("-o", "--output", type=Path, default=Path("gpuvos-demo"), help="folder to write")
    parser.add_argument("--scene", default="single", choices=SCENES, help="what is rendered")
    parser.add_argument("--frames", type=int, default=24, help="number of frames")
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--width", type=int, default=432)
    parser.add_argument("--seed", type=int, default=0, help="another number, another clip")
    parser.add_argument("--rule", default=RULES[0], choices=RULES, help="how seeds are labelled")
    add_method_arguments(parser)


def run(arguments: Namespace) -> int:
    """Renders, segments, writes; prints J and F against the exact masks; returns the exit status."""
    rendered = render_clip(
        arguments.scene,
        num_frames=arguments.frames,
        height=arguments.height,
        width=arguments.width,
        seed=arguments.seed,
    )
    names = tuple(f"{number:05d}" for number in range(arguments.frames))
    segmenter, device = build_segmenter(arguments, arguments.rule), pick_device(arguments.device)
    features, result = segment_clip(segmenter, rendered.frames, device)
    mask = result.mask.cpu()
    earlier = (arguments.output / "sheet.png").is_file()  # a folder of anything else is kept
    with atomic_folder(arguments.output, overwrite=earlier) as work:
        write_video(work / "clip.mp4", rendered.frames, frame_rate=24)
        write_video(work / "overlay.mp4", overlay(rendered.frames, mask), frame_rate=24)
        write_masks(work / "masks", mask, names)
        sheet = contact_sheet(
            rendered.frames.to(device),
            features,
            result,
            truth=rendered.mask.to(device),
            config=segmenter.config,
            per_row=7,
        )
        save_png(work / "sheet.png", sheet)
    similarity = region_similarity(mask, rendered.mask).mean().item()
    accuracy = boundary_accuracy(mask, rendered.mask).mean().item()
    print(f"scene {arguments.scene}, {arguments.frames} frames: J {similarity:.3f}, F {accuracy:.3f}")
    print(f"look at {arguments.output / 'sheet.png'} and {arguments.output / 'overlay.mp4'}")
    return 0
