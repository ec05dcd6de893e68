"""Options of ``gpuvos segment``."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from gpuvos.cli.options.common import (
    RULES,
    UsageError,
    add_method_arguments,
    add_refinement_argument,
    check_fresh,
    existing,
    whole,
)

MODES = ("auto", "whole", "stream", "pieces")
ENGINES = ("local", "ray")


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``gpuvos segment``."""
    parser.add_argument(
        "video",
        nargs="+",
        type=_video,
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
        "--first-mask", type=existing, help="PNG mask of the object in the first frame: semi-supervised"
    )
    parser.add_argument("--start", type=whole(0), default=0, help="first frame")
    parser.add_argument("--stop", type=whole(0), help="frame to stop before")
    parser.add_argument("--step", type=whole(), default=1, help="take every STEP-th frame")
    parser.add_argument("--max-side", type=whole(), default=960, help="larger frames are scaled down to this (960)")
    parser.add_argument(
        "--max-pixels",
        type=whole(),
        default=64_000_000,
        help="frames and masks of more pixels are refused unread (64 million)",
    )
    parser.add_argument(
        "--video-stream",
        type=whole(0),
        metavar="N",
        help="of a file with several video streams the N-th, from 0; default: the largest",
    )
    _add_length_arguments(parser)
    add_refinement_argument(parser)
    _add_engine_arguments(parser)
    add_method_arguments(parser)


def check(arguments: Namespace) -> None:
    """Raises UsageError where options do not fit one another or the output is taken."""
    if not arguments.latency < arguments.history:
        got = f"{arguments.latency} with --history {arguments.history}"
        raise UsageError(f"--latency: got {got}, wanted 0 or more, below --history")
    if arguments.stop is not None and arguments.stop <= arguments.start:
        raise UsageError(f"--stop: got {arguments.stop}, wanted a number above --start {arguments.start}")
    if arguments.output is not None and len(arguments.video) == 1 and Path(arguments.video[0]).is_file():
        check_fresh(arguments.output, overwrite=arguments.overwrite)


def _video(text: str) -> str:
    if not text.startswith("@"):
        existing(text)
    elif not Path(text[1:]).is_file():
        remedy = "for a file whose name begins with @ write ./@..."
        raise ArgumentTypeError(f"got '{text}', wanted @FILE, a text file of paths; {remedy}")
    return text


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
        type=whole(),
        default=200,
        help="longest video that auto takes whole; frames of a piece (200)",
    )
    parser.add_argument("--history", type=whole(), default=32, help="frames that a stream remembers (32)")
    parser.add_argument("--latency", type=whole(0), default=8, help="frames that a stream looks ahead (8)")
    parser.add_argument("--no-arrays", action="store_true", help="leave out result-*.npz, which take most of the disk")
    parser.add_argument("--no-report", action="store_true", help="leave out report.html, which holds the overlay again")


def _add_engine_arguments(parser: ArgumentParser) -> None:
    """Where many videos are segmented, and what happens to those that fail."""
    parser.add_argument("--engine", default=ENGINES[0], choices=ENGINES, help="local: here; ray: on a cluster")
    parser.add_argument("--retries", type=whole(0), default=2, help="further attempts of a video that fails (2)")
    parser.add_argument(
        "--workers",
        type=whole(),
        help="videos at a time, of a single video frames; default: one a core and 4 GiB of memory, of a single video "
        "1 GiB; with GPUs one, one a GPU with --engine ray",
    )
    parser.add_argument(
        "--ray-address",
        default=os.environ.get("RAY_ADDRESS") or "local",
        help="cluster of --engine ray: auto, HOST:PORT; default: RAY_ADDRESS, else this machine alone",
    )
