"""A video on its way to a project: read, segmented, made ready, in a thread that tells how far it is and can stop."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from gpuvos.app.project import Project
from gpuvos.cli.progress import COSTS, REFINEMENT_COSTS
from gpuvos.data.images import fit
from gpuvos.data.synthetic import Scene, render_clip
from gpuvos.data.video import Clip, VideoInfo, probe_video, read_video
from gpuvos.errors import InputError, fail
from gpuvos.pipeline.chunked import explain_memory
from gpuvos.pipeline.presets import PRESETS
from gpuvos.pipeline.segment import segment
from gpuvos.pipeline.video import VideoSegmenter

_SAMPLE = (24, 240, 432)  # frames, height and width of a rendered clip
_CHUNK = 8  # frames that the front end sees at a time, which bounds memory and how long a cancel takes
_PIXELS = 480 * 854  # of the frames that the costs are of
STAGES = {
    "decode": "Reading the frames",
    "network": "Looking at every frame",
    "features": "Looking at every frame",
    "flow": "Measuring motion",
    "method": "Finding what moves",
    "ready": "Getting ready for corrections",
    "refine": "Sharpening edges",
}
QUICK = "quick"
"""The quality without any network; the others are presets."""
_COSTS = {name: COSTS[name] for name in ("decode", "network", "flow", "method")} | {"ready": 45.0}
_QUICK_COST = 60.0  # of features without a network
_EFFORTS = {"accurate": 1.0, "balanced": 0.85, "fast": 0.7, "realtime": 0.25}  # of networks and flow of a preset
_ONE_AT_A_TIME = threading.Lock()


class Wish(NamedTuple):
    """What somebody asks for, within the limits."""

    source: Path | Scene  # a file, or the scene of a rendered clip
    name: str
    quality: str  # a preset, or ``QUICK``
    edges: str  # how masks are refined; "" as suits the quality
    start: int
    step: int
    frames: int  # at most
    max_side: int


class Method(NamedTuple):
    """What a quality and edges stand for."""

    segmenter: VideoSegmenter
    words: tuple[str, ...]  # options of a command that does the same


Build = Callable[[str, str], Method]
"""Gives the method of a quality and of edges."""


class StoppedError(Exception):
    """Somebody does not want it any more."""


class Progressed(NamedTuple):
    """How far a job is."""

    stage: str
    done: int
    total: int
    share: float  # of all stages, 0 to 1
    left: float | None  # seconds, None while nobody can tell


class Job:
    """Makes a project in a thread of its own. One job computes at a time; others wait.

    Args:
        wish: what is asked for.
        build: gives the method that is asked for.
        max_pixels: the largest frame that is decoded.
    """

    def __init__(self, wish: Wish, build: Build, max_pixels: int) -> None:
        self._wish, self._build, self._max_pixels = wish, build, max_pixels
        self._stop = threading.Event()
        self._costs = stage_costs(wish.quality, wish.edges)
        self._done = dict.fromkeys(self._costs, 0.0)
        self._at = ("waiting", 0, 0)
        self._begin = time.monotonic()
        self.project: Project | None = None
        self.error: str | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it is neither done nor stopped."""
        return self._thread.is_alive()

    def cancel(self) -> None:
        """Asks it to stop, which it does after a few frames."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Waits; returns whether it is over."""
        self._thread.join(seconds)
        return not self.running

    def progress(self) -> Progressed:
        """How far it is."""
        share = sum(self._costs[name] * part for name, part in self._done.items()) / sum(self._costs.values())
        passed = time.monotonic() - self._begin
        return Progressed(*self._at, share, passed * (1 / share - 1) if share > 0.02 else None)

    def _run(self) -> None:
        try:
            while not _ONE_AT_A_TIME.acquire(timeout=0.2):
                self._look()
            try:
                self._begin = time.monotonic()
                self.project = self._make()
            finally:
                _ONE_AT_A_TIME.release()
        except StoppedError:
            self.error = "Cancelled."
        except InputError as error:
            self.error = plain(str(error), self._wish)
        except Exception as error:  # the thread has nobody else to tell it to
            self.error = f"Something went wrong: {type(error).__name__}: {error}"

    def _look(self) -> None:
        if self._stop.is_set():
            raise StoppedError

    def _told(self, stage: str, done: int, total: int) -> None:
        self._look()
        self._at = (stage, done, total)
        if stage in ("method", "ready", "refine"):  # what comes before is over; some front ends do not say so
            names = [*self._done]
            self._done |= dict.fromkeys(names[: names.index(stage)], 1.0)
        if stage in self._done:
            self._done[stage] = max(self._done[stage], min(1.0, done / max(total, 1)))

    @torch.no_grad()
    @explain_memory("video")
    def _make(self) -> Project:
        wish = self._wish
        clip = self._clip()
        segmenter, words = self._build(wish.quality, wish.edges)
        device = next((value.device for value in segmenter.buffers()), torch.device("cpu"))
        device = next((value.device for value in segmenter.parameters()), device)
        parted = VideoSegmenter(segmenter.front_end, segmenter.config, chunk=_CHUNK)
        features = parted.features(clip.frames.to(device), progress=self._told)
        self._told("method", 0, len(clip.frames))
        result = segment(*features, config=segmenter.config)
        self._told("ready", 0, len(clip.frames))
        project = Project(
            clip, features, result, name=wish.name, refine=segmenter.refinement, command=command(wish, words)
        )
        self._told("ready", 1, 1)
        if segmenter.refinement is not None:  # else a frame costs next to nothing when it is looked at
            for frame in range(project.num_frames):
                project.labels(frame)
                self._told("refine", frame + 1, project.num_frames)
        return project

    def _clip(self) -> Clip:
        wish = self._wish
        if isinstance(wish.source, str):
            count, height, width = _SAMPLE
            count = min(count, wish.frames)
            self._told("decode", 0, count)
            frames = render_clip(wish.source, num_frames=count, height=height, width=width).frames
            names = tuple(f"{number:05d}" for number in range(count))
            return Clip(frames, torch.arange(count, dtype=torch.float64) / 24, 24.0, names)
        stop = wish.start + wish.frames * wish.step
        return read_video(
            wish.source,
            start=wish.start,
            stop=stop,
            step=wish.step,
            max_side=wish.max_side,
            max_pixels=self._max_pixels,
            progress=self._told,
        )


def look_at(path: Path, name: str, max_pixels: int) -> VideoInfo:
    """What a file says of its video; raises InputError in plain words."""
    try:
        return probe_video(path, max_pixels=max_pixels)
    except InputError as error:
        message = _named(str(error), path, name).removeprefix("path: ")
        raise InputError(f"this file cannot be read: {message}") from None


def outlook(info: VideoInfo, wish: Wish) -> tuple[int, tuple[int, int], float]:
    """Frames that are taken, their height and width, and about how many seconds it takes on one core."""
    count = wish.frames
    if info.num_frames:
        count = len(range(wish.start, min(info.num_frames, wish.start + wish.frames * wish.step), wish.step))
    if count < 1:
        raise fail("the first frame", str(wish.start), f"a number below {info.num_frames}, the frames of the video")
    size = fit(info.height, info.width, wish.max_side)
    cost = sum(stage_costs(wish.quality, wish.edges).values()) / 1000
    return count, size, cost * count * size[0] * size[1] / _PIXELS


def stage_costs(quality: str, edges: str) -> dict[str, float]:
    """About how many milliseconds of one core the stages of a job take for a frame of 480 x 854 pixels.

    Example:
        >>> stage_costs("quick", "") == stage_costs("quick", "none"), stage_costs("fast", "")["refine"] > 0
        (True, True)
    """
    quick = quality == QUICK
    refined = REFINEMENT_COSTS[edges or ("none" if quick else PRESETS[quality].refine)]
    if quick:
        looking = {"decode": _COSTS["decode"], "features": _QUICK_COST}
        return looking | {name: _COSTS[name] for name in ("flow", "method", "ready")} | {"refine": refined}
    costs = {**_COSTS, "refine": refined}
    scaled = ("network", "flow", "refine")
    return {name: value * (_EFFORTS[quality] if name in scaled else 1.0) for name, value in costs.items()}


def command(wish: Wish, method: tuple[str, ...] = ()) -> str:
    """The command that segments the same video with the same settings; ``method`` are its options of the method."""
    if isinstance(wish.source, str):
        options: dict[str, object] = {"scene": wish.source, "frames": min(_SAMPLE[0], wish.frames)}
        words = ["gpuvos", "demo"]
    else:
        stop = wish.start + wish.frames * wish.step
        options = {"stop": stop, "max-side": wish.max_side}
        options |= {"start": wish.start} if wish.start else {}
        options |= {"step": wish.step} if wish.step > 1 else {}
        words = ["gpuvos", "segment", f"./{wish.name}" if wish.name.startswith("-") else wish.name]
    for option, value in options.items():
        words += [f"--{option}", str(value)]
    return shlex.join([*words, *method])


def plain(message: str, wish: Wish) -> str:
    """An error of the library without the names of its arguments and without where the file lies here."""
    if isinstance(wish.source, Path):
        message = _named(message, wish.source, wish.name)
    name, colon, rest = message.partition(": ")
    return rest[:1].upper() + rest[1:] if colon and " " not in name else message


def _named(message: str, path: Path, name: str) -> str:
    return message.replace(str(path), name).replace(path.name, name)
