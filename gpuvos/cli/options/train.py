"""Options of ``gpuvos train``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from gpuvos.cli.options.common import UsageError, existing, whole

KEEP = ("none", "spread", "distances")


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``gpuvos train``."""
    parser.add_argument("-o", "--output", type=Path, default=Path("gpuvos-train"), help="folder to write")
    parser.add_argument("--stills", type=existing, help="tree of stills, or a pack of one; default: rendered clips")
    parser.add_argument("--licences", default="free", choices=("free", "all"), help="which stills to train on")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="pack the stills there first, unless it exists")
    parser.add_argument("--init", type=existing, metavar="FILE", help=".pth: the teacher; .safetensors: own weights")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    parser.add_argument("--minutes", type=float, help="time limit (default 2 where --steps is not given)")
    parser.add_argument("--steps", type=whole(), help="limit of steps")
    parser.add_argument("--threads", type=whole(), help="CPU threads of each process")
    parser.add_argument("--workers", type=whole(0), default=0, help="processes that prepare batches (for a GPU: 8)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument("--freeze-statistics", action="store_true", help="keep the batch-norm buffers of --init")
    parser.add_argument("--keep", default="spread", choices=KEEP, help="what keeps variance inside objects")
    parser.add_argument(
        "--linear-objectness", action="store_true", help="one linear map in place of the hidden layer; no --pair-weight"
    )
    parser.add_argument("--size", type=int, help="side of the crops in pixels (default 256; rendered 128)")
    parser.add_argument("--learning-rate", type=float, help="of the heads (default 1e-3; rendered 3e-3)")
    for name, value, text in (
        ("batch_size", 8, "images of a step and process"),
        ("encoder_scale", 1.0, "encoder's learning rate by that of the heads; 0: frozen"),
        ("decoder_scale", 1.0, "decoder's learning rate by that of the heads; 0: frozen"),
        ("pair_weight", 1.0, "of Eq. 2"),
        ("keep_weight", 1.0, "of --keep, within Eq. 2's weight"),
        ("class_weight", 1.0, "of the distillation of classes"),
        ("object_weight", 1.0, "of objectness"),
        ("balance", 0.5, "of objectness: 1: objects weigh what the rest does; 0: all pixels weigh the same"),
        ("rest_weight", 0.0, "0: the background is just no object; 1: it is one more instance"),
        ("paste_share", 0.5, "share of images that an object is pasted onto"),
        ("seed", 0, "of everything random"),
        ("log_every", 20, "steps"),
        ("save_every", 100, "steps"),
        ("evaluate_every", 200, "steps"),
    ):
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=type(value), default=value, help=f"{text} (default {value})")


def check(arguments: Namespace) -> None:
    """Options that exclude each other."""
    if arguments.linear_objectness and arguments.pair_weight:
        given = f"it with --pair-weight {arguments.pair_weight:g}"
        raise UsageError(f"--linear-objectness: got {given}, wanted --pair-weight 0, or the embedding is corrected too")
