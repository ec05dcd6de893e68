"""Options of ``gpuvos evaluate``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from gpuvos.cli.options.common import (
    REFINEMENTS,
    RULES,
    UsageError,
    add_method_arguments,
    add_refinement_argument,
    existing,
    whole,
)

DATASETS = ("davis2016", "davis2017", "fbms59", "segtrack2")
MOST_PROPOSALS = 20  # of the unsupervised challenge of DAVIS-2017
SPLITS = ("train", "val", "test", "trainval")
EXPERIMENTS = ("main", "adaptation", "saliency", "semi", "sequences", "drift", "oracles", "embedding")


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``gpuvos evaluate``."""
    parser.add_argument("--dataset", default="davis2016", choices=DATASETS)
    parser.add_argument("--split", choices=SPLITS, help="default: train of DAVIS, test of fbms59; segtrack2 has none")
    parser.add_argument("--root", type=existing, help="folder of the dataset in its official layout")
    parser.add_argument("--frames", type=existing, help="with --masks: your own videos, a folder of images or folders")
    parser.add_argument("--masks", type=existing, help="true masks of --frames, of the same names")
    parser.add_argument(
        "--predictions",
        nargs="+",
        type=existing,
        default=[],
        metavar="DIR",
        help="score masks of other methods as well: a folder or a zip archive with a folder a sequence",
    )
    parser.add_argument(
        "--no-stability",
        dest="stability",
        action="store_false",
        help="leave out T, which takes about 0.2 s a frame on a CPU",
    )
    parser.add_argument(
        "--num-instances",
        type=whole(),
        default=10,
        metavar="N",
        help="of davis2017: tell at most so many objects apart; 10, the challenge allows 20",
    )
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--rule", nargs="+", choices=RULES, help="one or both; default: robust, both with --experiment")
    parser.add_argument(
        "-o", "--output", type=Path, help="folder for tables and sheets; an experiment resumes what is in it"
    )
    parser.add_argument(
        "--experiment",
        nargs="+",
        metavar="NAME",
        choices=(*EXPERIMENTS, "all"),
        help="the paper's experiments instead: all, or some of " + ", ".join(EXPERIMENTS),
    )
    parser.add_argument(
        "--refinements",
        nargs="*",
        default=("zoom", "zoom-crf"),
        choices=REFINEMENTS[1:],
        metavar="NAME",
        help="what experiments refine by beside nothing, some of " + ", ".join(REFINEMENTS[1:]) + " or, with the "
        "option alone, nothing at all; default: zoom zoom-crf",
    )
    parser.add_argument("--cache", type=Path, help="folder for features, about 3 MB a frame; default: OUTPUT/features")
    add_refinement_argument(parser)
    add_method_arguments(parser)


def check(arguments: Namespace) -> None:
    """Raises UsageError where options do not fit one another."""
    if arguments.num_instances > MOST_PROPOSALS:
        raise UsageError(f"--num-instances: got {arguments.num_instances}, wanted at most {MOST_PROPOSALS}")
    if arguments.experiment is not None and arguments.dataset == "davis2017":
        raise UsageError("--experiment: got --dataset davis2017, wanted one of one foreground: davis2016 or another")
