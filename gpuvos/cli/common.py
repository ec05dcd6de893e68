"""Arguments that several commands share, and what they build."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch
from torch import nn

from gpuvos.config import Config
from gpuvos.errors import fail
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.network.weights import load_saliency
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.nn import DenseCRF, GuidedFilter
from gpuvos.pipeline.video import VideoSegmenter

RULES = ("robust", "paper")
FRONT_ENDS = ("bundled", "embedding", "appearance")
REFINEMENTS = ("none", "guided", "crf")
PRECISIONS = ("float32", "bfloat16")
FLOWS = ("dense", "raft-small", "raft-large")


def add_method_arguments(parser: ArgumentParser) -> None:
    """Device, flow and the parameters of the method that a user changes most."""
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--front-end",
        default="bundled",
        choices=FRONT_ENDS,
        help="bundled: the networks in the package; embedding: without that of salient objects; "
        "appearance: no network, a floor",
    )
    parser.add_argument("--weights", type=Path, help="weights of gpuvos train for the embedding network")
    parser.add_argument(
        "--precision",
        default="float32",
        choices=PRECISIONS,
        help="of the network; bfloat16 is quicker on GPUs and on CPUs that multiply in it, much slower on others",
    )
    parser.add_argument("--flow", default="dense", choices=FLOWS, help="optical flow (raft-large downloads weights)")
    default = Config()
    parser.add_argument("--num-seeds", type=int, help="seeds of a frame; of the rule where absent")
    parser.add_argument("--window", type=int, help="side of the candidate window, odd; of the rule where absent")
    parser.add_argument("--distance", default=default.distance, choices=("minimax", "shortest"))
    parser.add_argument("--rank-by", default=default.rank_by, choices=("both", "motion", "objectness"))
    parser.add_argument(
        "--adapt-every",
        type=int,
        default=1,
        metavar="K",
        help="frames between renewals of the seed sets; 0: never",
    )


def add_crf_argument(parser: ArgumentParser) -> None:
    """Whether masks are refined."""
    parser.add_argument(
        "--refine",
        default="none",
        choices=REFINEMENTS,
        help="refine masks by the frames: guided, a quick filter that keeps edges; crf, a dense CRF: 0.4 s a frame "
        "on a CPU",
    )
    parser.add_argument("--crf", dest="refine", action="store_const", const="crf", help="the same as --refine crf")


def build_config(arguments: Namespace, rule: str) -> Config:
    """The Config that the arguments describe."""
    return Config(
        rule=rule,
        num_seeds=arguments.num_seeds,
        window=arguments.window,
        distance=arguments.distance,
        rank_by=arguments.rank_by,
        adapt_every=arguments.adapt_every or None,
        track_seeds=True,  # for the pages and arrays that are left
    )


def build_segmenter(arguments: Namespace, rule: str) -> VideoSegmenter:
    """Front end and method on the chosen device."""
    flow = _flow(arguments.flow)
    front_end: AppearanceFeatures | LearnedFeatures | SaliencyFeatures
    dtype = getattr(torch, arguments.precision)
    if arguments.front_end == "bundled":
        base = LearnedFeatures(arguments.weights, flow=flow, dtype=dtype, scales=(1.0,))
        front_end = SaliencyFeatures(load_saliency().to(dtype), base=base)
    elif arguments.front_end == "embedding":
        front_end = LearnedFeatures(arguments.weights, flow=flow, dtype=dtype)
    else:
        for name, given in (("weights", arguments.weights), ("precision", arguments.precision)):
            if given not in (None, PRECISIONS[0]):
                raise fail(f"--{name}", f"'{given}'", "nothing: --front-end appearance has no network")
        front_end = AppearanceFeatures(flow=flow)
    segmenter = VideoSegmenter(front_end, build_config(arguments, rule), crf=_refinement(arguments))
    return segmenter.to(pick_device(arguments.device)).eval()


def _refinement(arguments: Namespace) -> nn.Module | None:
    name = getattr(arguments, "refine", "none")
    return {"none": None, "guided": GuidedFilter(), "crf": DenseCRF()}[name]


def _flow(name: str) -> nn.Module:
    if name == "dense":
        from gpuvos.flow.clip import DenseFlow

        return DenseFlow()
    from gpuvos.flow.raft import TorchvisionRaft

    variant = name.removeprefix("raft-")
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
