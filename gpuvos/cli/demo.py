"""``gpuvos demo``: renders a clip, segments it, and leaves pictures and a score."""

from __future__ import annotations

import sys
from argparse import Namespace

from gpuvos.cli.common import build_segmenter, chosen_refinement, pick_device
from gpuvos.cli.findings import Findings
from gpuvos.cli.pieces import segment_clip
from gpuvos.cli.progress import COSTS, REFINEMENT_COSTS, Stages
from gpuvos.data.atomic import atomic_folder
from gpuvos.data.masks import write_masks
from gpuvos.data.synthetic import render_clip
from gpuvos.data.video_writer import write_video
from gpuvos.metrics import boundary_accuracy, region_similarity
from gpuvos.viz.contact_sheet import contact_sheet
from gpuvos.viz.maps import overlay, save_png


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
    costs = {name: COSTS[name] for name in ("network", "flow", "method")}
    costs["refine"] = REFINEMENT_COSTS[chosen_refinement(arguments)]
    with Stages(costs, arguments.frames, name="demo", lines=True) as told:
        features, result = segment_clip(segmenter, rendered.frames, device, progress=told)
    findings = Findings(segmenter.config)
    findings.add(result)
    if sentence := findings.sentence("demo"):
        print(f"gpuvos: {sentence}", file=sys.stderr)
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
