"""Hostile files, wild options, killed runs and runs at once: what becomes of them, by a seed.

    python benchmarks/fuzz.py --files 100000 --calls 100000 --kills 200 --pairs 200 --json benchmarks/results/fuzz.json

Every trial may end in a result or in an InputError, within a time and a memory limit. Trials run in forked processes,
so that a crash or a hang of a decoder is counted and does not end the run. Killed and simultaneous runs are those of
``gpuvos segment``; what they leave must be, byte for byte, what one undisturbed run leaves, and nothing else.

The numbers are written as they grow. Called again with the same file, seed and commit, it goes on where it was ended:
every trial has a number, and its chance is that of the seed and the number alone.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from fuzz_runs import Found, killed_runs, paired_runs
from PIL import Image

import gpuvos
from gpuvos import Config, InputError, StreamingSegmenter
from gpuvos.batch.manifest import read_record
from gpuvos.bench.environment import commit_of
from gpuvos.data import read_mask, read_video, render_clip, write_mask, write_video
from gpuvos.data.atomic import atomic_file
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.network.embedding import EmbeddingNetwork
from gpuvos.features.network.weights import load_weights, save_weights
from gpuvos.interactive.instances import instances
from gpuvos.interactive.relabel import relabel
from gpuvos.training.checkpoint import read_checkpoint, sealed

Trial = Callable[[random.Random], object]

RESULT, REFUSED = "result", "InputError"
_STEPS = {"files": 1000, "calls": 1000, "kills": 10, "pairs": 10}  # between two times that the numbers are written
_HASH = 64  # characters at the end of a checkpoint
_SECONDS = 60  # of one trial; a decoder that hangs is ended
_MEMORY = 4 * 2**30  # that a process may add to what it has


# ------------------------------------------------------------------ trials in processes of their own


def run_trials(trial: Trial, numbers: range, seed: int) -> Found:
    """Outcomes of trials, each with a random generator of its own, and those that are not allowed."""
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    number = numbers.start
    while number < numbers.stop:
        said, status = _child(trial, seed, number, numbers.stop)
        for line in said:
            outcome, _, detail = line.partition("\t")
            outcomes[outcome] += 1
            if outcome not in (RESULT, REFUSED):
                wrong.append(f"trial {number}: {outcome} {detail}")
            number += 1
        if status:
            outcome = "hang" if status == -signal.SIGALRM else f"ended with {status}"
            outcomes[outcome] += 1
            wrong.append(f"trial {number}: {outcome}")
            number += 1
    return outcomes, wrong


def _child(trial: Trial, seed: int, first: int, stop: int) -> tuple[list[str], int]:
    """Runs trials in a forked process; gives a line for each that ended, and the status of the process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as stream:
            _limit()
            for number in range(first, stop):
                signal.alarm(_SECONDS)
                stream.write(_outcome(trial, random.Random(f"{seed} {number}")) + "\n")
                stream.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        said = stream.read().splitlines()
    return said, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _limit() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    if pages:
        limit = pages * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)  # decoders write there


def _outcome(trial: Trial, chance: random.Random) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial(chance)
    except InputError:
        return REFUSED
    except BaseException as error:
        return f"{type(error).__name__}\t{str(error).splitlines()[0] if str(error) else ''}"[:300]
    return RESULT


# ------------------------------------------------------------------ files


def make_files(folder: Path) -> dict[str, bytes]:
    """One small file of every kind that is read, by name."""
    clip = render_clip("single", num_frames=3, height=32, width=48, seed=0)
    for suffix in ("mp4", "mov", "mkv", "gif"):
        write_video(folder / f"clip.{suffix}", clip.frames)
    picture = Image.fromarray(clip.frames[0].permute(1, 2, 0).numpy())
    for suffix in ("png", "jpg", "webp", "bmp", "tif"):
        picture.save(folder / f"picture.{suffix}")
    write_mask(folder / "mask.png", clip.mask[0])
    save_weights(EmbeddingNetwork(dimensions=8), folder / "w.safetensors")
    (folder / "record.json").write_text(
        json.dumps({"settings_hash": "a", "run": "b", "frames": 3, "attempts": 1, "files": 5})
    )
    written = io.BytesIO()
    network = torch.nn.Linear(2, 1)
    torch.save(
        {
            "network": network.state_dict(),
            "teacher": None,
            "optimizer": torch.optim.AdamW(network.parameters()).state_dict(),
            "state": {"step": 1, "seconds": 1.0, "temperature": 1.0, "history": []},
            "config": {},
        },
        written,
    )
    (folder / "checkpoint.pt").write_bytes(sealed(written.getvalue()))
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Some bits, bytes, numbers or pieces changed, cut out, repeated or put elsewhere."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place = chance.randrange(len(data)) if data else 0
        if chance.random() < 0.5:  # headers are where it matters
            place = min(place, chance.randrange(256))
        end = place + chance.randrange(1, 64)
        kind = chance.randrange(7)
        if kind == 0 and data:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            extreme = chance.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0"))
            data[place : place + 4] = extreme
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            del data[place:end]
        elif kind == 4:
            data[place:place] = data[place:end]
        elif kind == 5:
            data[place:end] = chance.randbytes(end - place)
        else:
            data[place:place] = chance.choice((b"[" * 50_000, b"#EXTM3U\n", b"ffconcat version 1.0\n", b"\0" * 64))
    return bytes(data)


def _mutated(name: str, files: dict[str, bytes], chance: random.Random) -> bytes:
    if name == "checkpoint.pt" and chance.random() < 0.5:  # with the hash of what it is now
        return sealed(mutate(files[name][:-_HASH], chance))
    return mutate(files[name], chance)


def file_trial(folder: Path, files: dict[str, bytes]) -> Trial:
    """A trial that changes a file and reads it as what its name says."""
    names = [name for name in files if not name.startswith("w.json")]

    def read(name: str, work: Path, chance: random.Random) -> object:
        if name == "mask.png":
            return read_mask(work)
        if name == "w.safetensors":
            return load_weights(work)
        if name == "checkpoint.pt":
            return read_checkpoint(work, torch.device("cpu"))
        if name == "record.json":
            return read_record(work.parent)
        return read_video(work, stop=chance.choice((None, 1, 5)), max_pixels=1_000_000)

    def trial(chance: random.Random) -> object:
        name = chance.choice(names)
        work = folder / str(os.getpid())
        work.mkdir(exist_ok=True)
        try:
            for other in ("w.safetensors", "w.json") if name == "w.safetensors" else (name,):
                (work / other).write_bytes(files[other])
            changed = chance.choice(("w.safetensors", "w.json")) if name == "w.safetensors" else name
            (work / changed).write_bytes(_mutated(changed, files, chance))
            if changed == "w.safetensors" and chance.random() < 0.5:  # a card whose hash fits
                card = json.loads(files["w.json"]) | {"sha256": sha256((work / changed).read_bytes()).hexdigest()}
                (work / "w.json").write_text(json.dumps(card))
            return read(name, work / name, chance)
        finally:
            shutil.rmtree(work)

    return trial


# ------------------------------------------------------------------ calls

_WILD = (
    *(None, True, 0, 1, -1, 2, 3, 2.5, 0.5, 1e-300, 1e300, -0.0, math.nan, math.inf, -math.inf),
    *(2**31, 2**63, 2**64, 10**30, Fraction(1, 3), "a", "", b"x", (), (1,), (2, 3), (2.5, 3), [0], {}, object),
)


def _wild(chance: random.Random, *usual: object) -> Any:
    """Mostly a usual value, else anything, also as a tensor."""
    if chance.random() < 0.6:
        return chance.choice(usual)
    value = chance.choice(_WILD)
    if isinstance(value, int | float) and abs(value) < 2**63 and chance.random() < 0.3:
        return torch.tensor(value)
    return value


def _config(chance: random.Random) -> Config:
    options = {
        "rule": ("robust", "paper"),
        "num_seeds": (5, 20, None),
        "window": (3, 5, None),
        "edge_reduce": ("max", "mean"),
        "distance": ("minimax", "shortest"),
        "adapt_every": (1, 2, None),
        "temperature": (1.0, 0.1, torch.tensor(0.5)),
        "softness": (0.0, 0.25),
        "smoothing_share": (0.01, 0.5),
        "smoothing_frames": (1, 16),
        "min_motion": (0.25, 0),
        "coverage": (0.5, 0.0),
        "mask_coverage": (0.5,),
        "mask_vote": (0.5, 0.0),
        "confident_share": (0.5,),
        "vote_threshold": (0.5,),
        "num_background": (3, 30),
    }
    chosen = chance.sample(sorted(options), chance.randrange(4))
    return Config(**{name: _wild(chance, *options[name]) for name in chosen})


def _features(chance: random.Random) -> list[Any]:
    generator = torch.Generator().manual_seed(chance.randrange(2**31))
    t, d, h, w = chance.choice((1, 2, 3)), chance.choice((1, 4)), chance.choice((1, 5, 8)), chance.choice((1, 7, 9))
    tensors: list[Any] = [
        torch.randn((t, d, h, w), generator=generator),
        torch.rand((t, h, w), generator=generator),
        torch.randn((t, 2, h, w), generator=generator),
    ]
    if chance.random() < 0.3:  # one of another shape, type or range
        number = chance.randrange(3)
        changes: tuple[Callable[[Any], Any], ...] = (
            lambda value: value[..., :0],
            lambda value: value.double(),
            lambda value: value.half(),
            lambda value: value * chance.choice((math.nan, math.inf, 1e30, 1e17, 0.0, 1e-30)),
            lambda value: value[0],
            lambda value: value.to(torch.int32),
            lambda _: _wild(chance, None),
        )
        tensors[number] = chance.choice(changes)(tensors[number])
    return tensors


def _colors(frames: torch.Tensor) -> gpuvos.Features:
    values = frames.float() / 255
    return gpuvos.Features(values, values[:, 0], values[:, :2])


def call_trial(chance: random.Random) -> object:
    """A call of the public functions with values of any kind; what comes out must be finite and in range."""
    kind = chance.randrange(6)
    if kind == 0:
        return _config(chance)
    if kind == 1:
        return StreamingSegmenter(AppearanceFeatures(), history=_wild(chance, 9), latency=_wild(chance, 2))
    if kind == 2:
        frames = torch.zeros(2, 3, 8, 12, dtype=torch.uint8)
        front_end = AppearanceFeatures() if chance.random() < 0.1 else _colors  # the flow takes most of the time
        segmenter = gpuvos.VideoSegmenter(front_end, _config(chance), chunk=_wild(chance, None, 1))
        return _checked(segmenter(_wild(chance, frames, frames.float(), frames[:1])))
    features = _features(chance)
    size = _wild(chance, None, (4, 6))
    result = _checked(gpuvos.segment(*features, config=_config(chance), size=size))
    if kind == 4:
        pairs = [(_wild(chance, 0), _wild(chance, 0, 1))]
        return _checked(relabel(result, features[0], foreground=_wild(chance, pairs), background=_wild(chance, ())))
    if kind == 5:
        return instances(result, num_instances=_wild(chance, 1, 3), min_share=_wild(chance, 0.1, 0.0))
    return result


def _checked(result: gpuvos.Segmentation) -> gpuvos.Segmentation:
    probability = result.probability
    if not bool(((probability >= 0) & (probability <= 1)).all()):
        raise AssertionError("a probability that is NaN or outside of [0, 1]")
    return result


# ------------------------------------------------------------------ the command


def _prepared(name: str, folder: Path, seed: int) -> Callable[[range], Found]:
    """What runs trials of a kind by their numbers."""
    AppearanceFeatures()(torch.zeros(2, 3, 16, 24, dtype=torch.uint8))  # imports, once for all forked processes
    if name == "kills":
        return partial(killed_runs(folder), seed=seed)
    if name == "pairs":
        return partial(paired_runs(folder), seed=seed)
    if name == "calls":
        return partial(run_trials, call_trial, seed=seed)
    (folder / "made").mkdir()
    return partial(run_trials, file_trial(folder, make_files(folder / "made")), seed=seed)


def fuzz(files: int, calls: int, kills: int, pairs: int, seed: int, *, json_file: Path | None = None) -> dict[str, Any]:
    """Runs everything; gives numbers of outcomes, and what was not allowed; writes them while they grow."""
    torch.set_num_threads(1)
    versions = {"gpuvos": gpuvos.__version__, "torch": torch.__version__, "python": sys.version.split()[0]}
    commit, changed = commit_of(Path(__file__).parents[1])
    made = {**versions, "commit": f"{commit} and changes" if changed else commit, "seed": seed}
    report: dict[str, Any] = {}
    if json_file is not None and json_file.exists():
        report = json.loads(json_file.read_text(encoding="utf-8"))
    for name, count in (("files", files), ("calls", calls), ("kills", kills), ("pairs", pairs)):
        nothing = {**made, "tried": 0, "outcomes": {}, "wrong": [], "processor_seconds": 0}
        part = report.get(name, nothing)
        if any(part[fact] != value for fact, value in made.items()):
            raise SystemExit(f"{json_file} has {name} of another commit, seed or version: give another file")
        with tempfile.TemporaryDirectory() as folder:
            run = _prepared(name, Path(folder), seed) if part["tried"] < count else None
            while run is not None and part["tried"] < count:
                begin, stop = sum(os.times()[:4]), min(part["tried"] + _STEPS[name], count)
                outcomes, wrong = run(range(part["tried"], stop))
                part["tried"] = stop
                part["outcomes"] = dict(Counter(part["outcomes"]) + outcomes)
                part["wrong"] += wrong
                part["processor_seconds"] = round(part["processor_seconds"] + sum(os.times()[:4]) - begin, 1)
                report[name] = part
                print(name, json.dumps(part), flush=True)
                if json_file is not None:
                    with atomic_file(json_file) as temporary:
                        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def main() -> int:
    """Runs what the arguments ask for; returns 1 where anything happened that is not allowed."""
    parser = argparse.ArgumentParser(description="Hostile files, wild options, killed runs and runs at once.")
    for name, default in (("files", 100_000), ("calls", 100_000), ("kills", 200), ("pairs", 200), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path, help="file for the numbers, and of those to go on from")
    arguments = parser.parse_args()
    counts = (arguments.files, arguments.calls, arguments.kills, arguments.pairs)
    report = fuzz(*counts, arguments.seed, json_file=arguments.json)
    return int(any(part["wrong"] for part in report.values()))


if __name__ == "__main__":
    sys.exit(main())
