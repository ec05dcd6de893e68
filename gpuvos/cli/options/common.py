"""Options that several commands share, and the checks that need no library."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

RULES = ("robust", "paper")
FRONT_ENDS = ("bundled", "embedding", "appearance")
PRESETS = ("accurate", "balanced", "fast", "realtime")
REFINEMENTS = ("none", "guided", "zoom", "crf", "zoom-crf")
PRECISIONS = ("float32", "bfloat16")
FLOWS = ("dense", "raft-small", "raft-large")
DISTANCES = ("minimax", "shortest")
RANKINGS = ("both", "motion", "objectness")


class UsageError(Exception):
    """What is wrong with a command line, in one line."""


class Parser(ArgumentParser):
    """An ArgumentParser that raises UsageError instead of printing every option there is."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{message.removeprefix('argument ')}; {self.prog} --help lists the options")


def whole(low: int = 1) -> Callable[[str], int]:
    """A type of options: whole numbers of at least ``low``.

    Example:
        >>> whole(0)("12")
        12
    """

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if number < low:
            raise ArgumentTypeError(f"got {text}, wanted a whole number of at least {low}")
        return number

    return read


def existing(text: str) -> Path:
    """A type of options: a file or folder that is there."""
    path = Path(text)
    if not text or not _exists(path):
        raise ArgumentTypeError(f"got '{text}', which does not exist")
    return path


def check_fresh(output: Path, *, overwrite: bool | None) -> None:
    """Raises UsageError where a folder to write holds something; ``overwrite`` is None where there is no such option.

    Folders of results, which hold a record, and what cannot be looked at are left to the command.
    """
    try:
        filled = output.is_dir() and any(output.iterdir()) and not (output / "record.json").exists()
    except OSError:
        return
    if filled and not overwrite:
        remedy = "choose another folder" + ("" if overwrite is None else ", or replace it with --overwrite")
        raise UsageError(f"--output: got '{output}', which is not empty; {remedy}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, a folder that may not be entered
        return False


def add_method_arguments(parser: ArgumentParser) -> None:
    """Device, flow and the parameters of the method that a user changes most."""
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--front-end",
        default=FRONT_ENDS[0],
        choices=FRONT_ENDS,
        help="bundled: the networks in the package; embedding: without that of salient objects; "
        "appearance: no network, a floor",
    )
    parser.add_argument(
        "--preset",
        default=PRESETS[0],
        choices=PRESETS,
        help="how much work a frame gets: sizes of the networks and steps of the flow; the other options go before it",
    )
    parser.add_argument("--weights", type=existing, help="weights of gpuvos train for the embedding network")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the networks, in place of the preset's; bfloat16 is quicker on GPUs and on CPUs that multiply in it, "
        "much slower on others",
    )
    parser.add_argument(
        "--flow", choices=FLOWS, help="optical flow, in place of the preset's dense one (raft-large downloads weights)"
    )
    parser.add_argument("--num-seeds", type=whole(), help="seeds of a frame; of the rule where absent")
    parser.add_argument("--window", type=whole(), help="side of the candidate window, odd; of the rule where absent")
    parser.add_argument("--distance", default=DISTANCES[0], choices=DISTANCES)
    parser.add_argument("--rank-by", default=RANKINGS[0], choices=RANKINGS)
    parser.add_argument(
        "--adapt-every",
        type=whole(0),
        default=1,
        metavar="K",
        help="frames between renewals of the seed sets; 0: never",
    )
    parser.add_argument(
        "--adjacent-sets",
        type=whole(0),
        metavar="N",
        help="frames before and after a frame whose seed sets serve it as well; default: of the preset or the rule, 0 "
        "in the app, where corrections then take a third of the time",
    )


def add_refinement_argument(parser: ArgumentParser) -> None:
    """How masks are refined."""
    parser.add_argument(
        "--refine",
        choices=REFINEMENTS,
        help="refine masks by the frames: guided, a quick filter that keeps edges; zoom, the network of salient "
        "objects on the part of the frame around the object; crf, the dense CRF of the paper, 0.4 s a frame on "
        "a CPU; zoom-crf, zoom and then a dense CRF around the object, the sharpest; "
        "default: what the preset does with the bundled front end, none with another",
    )
    parser.add_argument("--crf", dest="refine", action="store_const", const="crf", help="the same as --refine crf")
