"""Options of ``gpuvos evaluate``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from gpuvos.cli.options.common import RULES, add_crf_argument, add_method_arguments, existing

DATASETS = ("davis2016", "fbms59", "segtrack2")
SPLITS = ("train", "val", "test", "trainval")
EXPERIMENTS = ("main", "adaptation", "saliency", "semi", "sequences", "drift", "oracles", "embedding")


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``gpuvos evaluate``."""
    parser.add_argument("--dataset", default="davis2016", choices=DATASETS)
    parser.add_argument(
        "--split", choices=SPLITS, help="default: train of davis2016, test of fbms59; segtrack2 has none"
    )
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
    parser.add_argument("--no-crf", action="store_true", help="experiments without the dense CRF, which is slow")
    parser.add_argument("--cache", type=Path, help="folder for features, about 3 MB a frame; default: OUTPUT/features")
    add_crf_argument(parser)
    add_method_arguments(parser)


def check(_arguments: Namespace) -> None:
    """Nothing but what every option says of itself."""
