"""``gpuvos figures``: the paper's figures 1, 3, 4, 5 and 7 of any sequence or video."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

import torch
from torch import Tensor

from gpuvos.cli.common import build_segmenter, pick_device
from gpuvos.data.atomic import atomic_folder, check_outside
from gpuvos.data.images import list_images
from gpuvos.data.masks import read_mask
from gpuvos.data.video import read_video
from gpuvos.errors import fail
from gpuvos.paper.figures import draw_figures
from gpuvos.viz.maps import save_png


def run(arguments: Namespace) -> int:
    """Draws the figures; returns the exit status."""
    if arguments.overwrite:
        for kept in (arguments.video, arguments.truth, arguments.weights):
            if kept is not None:
                check_outside("--output", kept, arguments.output)
        _check_ours(arguments.output)
    segmenter, device = build_segmenter(arguments, arguments.rule), pick_device(arguments.device)
    clip = read_video(arguments.video, stop=arguments.stop, max_side=arguments.max_side)
    frames = clip.frames.to(device)
    if not 0 <= arguments.frame < len(frames):
        raise fail("--frame", str(arguments.frame), f"a number from 0 to {len(frames) - 1}")
    truth = _truth(arguments, frames)
    with torch.no_grad(), atomic_folder(arguments.output, overwrite=arguments.overwrite) as work:
        features = segmenter.features(frames)
        figures = draw_figures(frames, features, segmenter.config, frame=arguments.frame, truth=truth)
        for name, picture in figures.items():
            save_png(work / f"{name}.png", picture)
    print(f"{arguments.output}: " + ", ".join(f"{name}.png" for name in figures))
    if truth is None:
        print("no true masks were found: figure 7 needs them (--truth)")
    return 0


def _check_ours(folder: Path) -> None:
    """Raises InputError where a folder that is to be replaced holds anything but figures."""
    others = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    others = [name for name in others if re.fullmatch(r"figure\d\.png", name) is None]
    if others:
        raise fail("--output", f"'{folder}' with {others[0]}", "a new folder or one of figures", "choose another one")


def _truth(arguments: Namespace, frames: Tensor) -> Tensor | None:
    """Masks ``[T, H, W]`` bool at the size of the frames, where there are any."""
    folder = arguments.truth
    if folder is None:
        parts = list(arguments.video.absolute().parts)
        if "JPEGImages" not in parts:
            return None
        parts[len(parts) - 1 - parts[::-1].index("JPEGImages")] = "Annotations"
        folder = Path(*parts)
        if not folder.is_dir():
            return None
    files = list_images(folder)
    if len(files) < len(frames):
        raise fail("--truth", f"{len(files)} masks in '{folder}'", f"one for each of the {len(frames)} frames")
    masks = [read_mask(file)[None, None].float() for file in files[: len(frames)]]
    size = (frames.shape[-2], frames.shape[-1])
    scaled = [torch.nn.functional.interpolate((mask > 0).float(), size=size, mode="nearest") for mask in masks]
    return torch.cat(scaled)[:, 0].bool().to(frames.device)
