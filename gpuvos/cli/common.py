"""What the options that several commands share stand for."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from typing import Any, cast

import torch
from torch import nn

from gpuvos.cli.options.common import PRECISIONS
from gpuvos.config import Config, Rule
from gpuvos.errors import fail
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.flow.clip import DenseFlow
from gpuvos.pipeline.presets import PRESETS, Preset, Refined, preset_embedding, preset_features, preset_refinement
from gpuvos.pipeline.video import VideoSegmenter


def build_config(arguments: Namespace, rule: str) -> Config:
    """The Config that the arguments describe."""
    own = arguments.adjacent_sets
    return Config(
        rule=cast("Rule", rule),  # argparse has checked it
        num_seeds=arguments.num_seeds,
        window=arguments.window,
        distance=arguments.distance,
        rank_by=arguments.rank_by,
        adapt_every=arguments.adapt_every or None,
        adjacent_sets=PRESETS[arguments.preset].adjacent_sets if own is None else own,
        track_seeds=True,  # for the pages and arrays that are left
    )


def build_segmenter(arguments: Namespace, rule: str) -> VideoSegmenter:
    """Front end and method on the chosen device."""
    preset = PRESETS[arguments.preset]
    flow = _flow(arguments, preset)
    front_end: AppearanceFeatures | LearnedFeatures | SaliencyFeatures
    if arguments.front_end in ("bundled", "embedding"):
        build = preset_features if arguments.front_end == "bundled" else preset_embedding
        front_end = build(arguments.preset, weights=arguments.weights, flow=flow, precision=arguments.precision)
    else:
        for name, given in (("weights", arguments.weights), ("precision", arguments.precision)):
            if given not in (None, PRECISIONS[0]):
                raise fail(f"--{name}", f"'{given}'", "nothing: --front-end appearance has no network")
        front_end = AppearanceFeatures(flow=flow)
    refine = preset_refinement(arguments.preset, chosen_refinement(arguments))
    segmenter = VideoSegmenter(front_end, build_config(arguments, rule), refinement=refine)
    return segmenter.to(pick_device(arguments.device)).eval()


def chosen_refinement(arguments: Namespace) -> Refined:
    """What masks are refined by: what ``--refine`` says, or what the preset does with the bundled front end."""
    default = PRESETS[arguments.preset].refine if arguments.front_end == "bundled" else "none"
    chosen: Refined = getattr(arguments, "refine", "none") or default
    return chosen


def _flow(arguments: Namespace, preset: Preset) -> nn.Module:
    name, parameters = arguments.flow, preset.flow
    if arguments.front_end == "appearance":  # no network tells it where outlines are
        parameters = dataclasses.replace(parameters, finest_warps=parameters.warps)
    if name in (None, "dense"):
        return DenseFlow(parameters=parameters)
    from gpuvos.flow.raft import TorchvisionRaft

    variant: Any = str(name).removeprefix("raft-")  # argparse has checked it
    return TorchvisionRaft(variant=variant, weights="bundled" if variant == "small" else "DEFAULT")


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise fail("--device", repr(name), "auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise fail("--device", repr(name), "a device of this machine", "there is no CUDA device here: use cpu")
    try:
        torch.zeros(1, device=device).cpu()
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # none of that number, or of a kind that nothing computes on
        raise fail("--device", repr(name), "a device of this machine") from error
    return device
