"""Options of ``gpuvos demo``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from gpuvos.cli.options.common import RULES, add_method_arguments, add_refinement_argument, check_fresh, whole

SCENES = ("single", "occlusion", "twins", "late", "static", "two")


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``gpuvos demo``."""
    parser.add_argument("-o", "--output", type=Path, default=Path("gpuvos-demo"), help="folder to write")
    parser.add_argument("--scene", default="single", choices=SCENES, help="what is rendered")
    parser.add_argument("--frames", type=whole(), default=24, help="number of frames")
    parser.add_argument("--height", type=whole(), default=240)
    parser.add_argument("--width", type=whole(), default=432)
    parser.add_argument("--seed", type=int, default=0, help="another number, another clip")
    parser.add_argument("--rule", default=RULES[0], choices=RULES, help="how seeds are labelled")
    add_method_arguments(parser)
    add_refinement_argument(parser)


def check(arguments: Namespace) -> None:
    """Raises UsageError where the output folder holds anything but an earlier demo."""
    if not (arguments.output / "sheet.png").is_file():
        check_fresh(arguments.output, overwrite=None)
