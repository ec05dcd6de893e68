"""Options of ``gpuvos app``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from gpuvos.cli.options.common import UsageError, add_method_arguments, add_refinement_argument, whole


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``gpuvos app``."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine alone")
    parser.add_argument("--port", type=whole(0), default=7860, help="port (7860); 0: any that is free")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")
    parser.add_argument("--max-frames", type=whole(), default=200, help="frames of a clip (200)")
    parser.add_argument(
        "--max-side", type=whole(16), default=960, help="longer side that frames are scaled down to (960)"
    )
    parser.add_argument("--max-upload", type=whole(), default=512, metavar="MB", help="size of a file (512)")
    parser.add_argument(
        "--max-pixels", type=whole(), default=64_000_000, help="frames of more pixels are refused (64 million)"
    )
    add_method_arguments(parser)
    add_refinement_argument(parser)
    parser.set_defaults(adjacent_sets=0)


def check(arguments: Namespace) -> None:
    """Raises UsageError where options do not fit one another."""
    if arguments.port > 65535:
        raise UsageError(f"--port: got {arguments.port}, wanted a number from 0 to 65535")
    if arguments.adapt_every != 1:
        raise UsageError(f"--adapt-every: got {arguments.adapt_every}, wanted 1: corrections need seeds in every frame")
