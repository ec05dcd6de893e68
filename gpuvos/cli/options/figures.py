"""Options of ``gpuvos figures``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from gpuvos.cli.options.common import RULES, add_method_arguments, check_fresh, existing, whole


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``gpuvos figures``."""
    parser.add_argument("video", type=existing, metavar="SEQUENCE", help="folder of images, video file, GIF")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the output folder if it exists")
    parser.add_argument(
        "--truth",
        type=existing,
        help="folder of masks, one a frame; default: the Annotations beside JPEGImages, as in DAVIS",
    )
    parser.add_argument("--frame", type=whole(0), default=0, help="frame that figures 3 and 4 show (0)")
    parser.add_argument("--rule", default=RULES[0], choices=RULES, help="how seeds are labelled")
    parser.add_argument("--stop", type=whole(), help="frame to stop before")
    parser.add_argument("--max-side", type=whole(), default=960, help="larger frames are scaled down to this (960)")
    add_method_arguments(parser)


def check(arguments: Namespace) -> None:
    """Raises UsageError where the output folder is taken."""
    check_fresh(arguments.output, overwrite=arguments.overwrite)
