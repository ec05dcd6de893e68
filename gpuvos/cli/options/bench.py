"""Options of ``gpuvos bench``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from gpuvos.cli.options.common import whole

SIZES = ("240p", "480p", "720p", "1080p", "2160p")
DTYPES = ("float32", "bfloat16", "float16")
CLOCKS = ("wall", "processor")
ARCHITECTURES = (80, 90, 100)


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of the command."""
    sizes = parser.add_argument_group("workload")
    sizes.add_argument("--size", choices=SIZES, default="480p", help="of the frames (default 480p)")
    sizes.add_argument("--height", type=int, help="rows of the frames, instead of --size")
    sizes.add_argument("--width", type=int, help="columns of the frames, instead of --size")
    sizes.add_argument(
        "--stride",
        type=int,
        nargs="+",
        metavar="S",
        help="of the grid, one table each (default 4; 4 and 1 on a GPU)",
    )
    sizes.add_argument("--frames", type=int, metavar="T", help="default 8, 80 on a GPU")
    sizes.add_argument("--channels", type=int, default=64, metavar="D", help="of the embedding (default 64)")
    sizes.add_argument("--seeds", type=int, metavar="K", help="of a frame (default 100, and 300 for the robust rule)")
    sizes.add_argument("--dtype", choices=DTYPES, help="default float32, bfloat16 on a GPU")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=whole(), help="CPU threads; torch's own choice where absent")
    parser.add_argument("--stages", nargs="+", metavar="WORD", help="only those whose name has one of the words")
    parser.add_argument("--rounds", type=whole(), default=7, help="timed calls of a stage (default 7)")
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="after so long a stage ends with three rounds or what it has; of a point of --curves (default 60)",
    )
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="of a CPU: processor time of all threads")
    parser.add_argument("--no-peers", action="store_true", help="leave other packages out")
    parser.add_argument("--peer-frames", type=whole(), default=2, help="frames for peers on the CPU (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record there as well")
    parser.add_argument("--base", metavar="REV", help="compare with that commit of the checkout instead")
    parser.add_argument(
        "--curves",
        type=Path,
        metavar="FOLDER",
        help="instead: time and peak memory against T, pixels, D and K as JSON, CSV and plots",
    )
    static = parser.add_argument_group("kernels")
    static.add_argument(
        "--static",
        action="store_true",
        help="instead: compile every Triton kernel (no GPU needed) and print registers, spills and shared memory, and "
        "what the method is estimated to take on an H200",
    )
    static.add_argument("--ops", nargs="+", metavar="OP", help="only these, and no estimates")
    static.add_argument(
        "--architectures",
        nargs="*",
        type=int,
        default=list(ARCHITECTURES),
        metavar="SM",
        help="for which every variant is compiled: 80 90 100; none: the estimates alone",
    )


def check(_arguments: Namespace) -> None:
    """Nothing but what every option says of itself."""
