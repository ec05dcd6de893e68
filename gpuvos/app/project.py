"""A segmented clip in somebody's hands: its objects, what was corrected, and what follows from that."""

from __future__ import annotations

import secrets
from functools import cached_property, lru_cache
from threading import RLock
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gpuvos.data.video import Clip
from gpuvos.errors import fail
from gpuvos.interactive.corrections import (
    Correction,
    Reach,
    correct_area,
    correct_points,
    corrected_owner,
    link_seeds,
)
from gpuvos.interactive.explain import tracks_through
from gpuvos.interactive.instances import instances
from gpuvos.interactive.objects import ObjectMasks, Standing
from gpuvos.interactive.session import config_of
from gpuvos.interactive.timeline import Timeline, timeline
from gpuvos.pipeline.rules import RULES
from gpuvos.pipeline.tracking import tracks_of
from gpuvos.types import Features, Segmentation
from gpuvos.viz.maps import flow_scale

MOST_OBJECTS = 20
_NAME_LENGTH = 40
_KEPT_STEPS = 6  # that an undo takes back without computing; each has the memory of the frames that it changed
_KEPT_FRAMES = 24  # whose probabilities at full size are kept


class Named(NamedTuple):
    """An object as the page lists it."""

    number: int  # from 1; its id in masks
    name: str


class Mark(NamedTuple):
    """Where somebody clicked to correct, in pixels of the frame."""

    frame: int
    x: float
    y: float
    owner: int


class State(NamedTuple):
    """What an undo brings back."""

    base: Tensor  # [T, K] int64, owners before the corrections
    corrections: tuple[Correction, ...]
    objects: tuple[Named, ...]
    marks: tuple[Mark, ...]


class Why(NamedTuple):
    """What decided a pixel."""

    owner: int  # 0 the ground, else an object
    seed: int  # -1: the frame has none
    place: tuple[float, float]  # (x, y) of the seed in pixels of the frame
    margin: float
    score: float
    track: int
    reason: int  # a ``Reason``


class Project:
    """The clip of one tab. Everything is computed on the method's grid; frames get their full size one by one.

    Args:
        clip: the frames.
        features: theirs.
        result: what ``segment`` made of them, on the grid.
        name: of the video.
        refine: sharpens probabilities of the full size by the frames; None does not.
        command: the command line that segments the same.
    """

    def __init__(
        self,
        clip: Clip,
        features: Features,
        result: Segmentation,
        *,
        name: str,
        refine: nn.Module | None = None,
        command: str = "",
    ) -> None:
        self.clip, self.features, self.result = clip, features, result
        self.name, self.command = name, command
        self.token = secrets.token_urlsafe(16)  # by which its pictures are asked for
        self.version = -1  # 0 when it is ready
        self.lock = RLock()
        self._refine = refine
        self._links = link_seeds(result._replace(mask=_full(clip, result)), features)
        self._track = tracks_through(tracks_of(result, config_of(result, None)))
        base = torch.where(result.foreground, 1, torch.where(result.background, 0, -1))
        self._masks = ObjectMasks(result, features.embedding, base)
        self._label = torch.zeros_like(result.forest.label, dtype=torch.uint8)
        self._probability = torch.zeros_like(result.probability)
        self._changes = [0] * len(base)  # of every frame
        self._labels: dict[int, tuple[int, Tensor]] = {}  # at full size, and after how many changes of their frame
        self._past: list[tuple[State, Standing | None]] = []
        self._state = State(base, (), (Named(1, "Object 1"),), ())
        self._sum_up(list(range(len(base))))
        self._sizes = lru_cache(_KEPT_FRAMES)(self._full_size)

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.clip.frames)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.clip.frames.shape[-2], self.clip.frames.shape[-1]

    @property
    def objects(self) -> tuple[Named, ...]:
        """Objects in their order."""
        return self._state.objects

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Clicks that corrected something."""
        return self._state.marks

    @property
    def corrected(self) -> list[bool]:
        """Whether somebody corrected each frame."""
        frames = {one.frame for one in self._state.corrections}
        return [frame in frames for frame in range(self.num_frames)]

    @property
    def undoable(self) -> int:
        """How many steps can be undone."""
        return len(self._past)

    @cached_property
    def flow_scale(self) -> Tensor:
        """The length of the flow that pictures show in full colour, one for the clip."""
        return flow_scale(self.features.flow)

    @property
    def owner(self) -> Tensor:
        """``[T, K]`` int64, the object of every seed."""
        return self._masks.owner

    def current(self) -> Segmentation:
        """The result as it is corrected, all objects together, on the grid."""
        owner = self.owner
        return self.result._replace(
            mask=self._label > 0,
            probability=self._probability,
            confidence=(2 * self._probability - 1).abs(),
            foreground=owner > 0,
            background=owner == 0,
        )

    def timeline(self) -> Timeline:
        """Every frame in numbers, as it is corrected."""
        return timeline(self.current())

    def probability(self, frame: int) -> Tensor:
        """``[N, h, w]`` of every object, at the size of the frames."""
        return self._sizes(self._changes[frame], frame)

    def labels(self, frame: int) -> Tensor:
        """``[h, w]`` uint8 at the size of the frames: the number of the object, 0 for none."""
        change = self._changes[frame]
        known, found = self._labels.get(frame, (-1, None))
        if found is None or known != change:
            value, number = self.probability(frame).max(0)
            found = torch.where(value > 0.5, number + 1, 0).to(torch.uint8)
            self._labels[frame] = change, found
        return found

    def click(self, frame: int, x: float, y: float, owner: int, reach: Reach) -> None:
        """Gives what is under a click to an object, or to the ground (0)."""
        self._check_owner(owner)
        height, width = self.size
        h, w = self.result.mask.shape[-2:]
        point = torch.tensor([[(x + 0.5) * w / width - 0.5, (y + 0.5) * h / height - 0.5]])
        found = correct_points(self.result, point.to(self.result.probability), owner, frame=frame, reach=reach)
        self._correct(found, Mark(frame, x, y, owner))

    def paint(self, frame: int, area: Tensor, owner: int, *, whole: bool) -> None:
        """Gives a painted area ``[h, w]`` to an object or to the ground; ``whole``: the object is there alone."""
        self._check_owner(owner)
        found = correct_area(self.result, area.to(self.result.mask.device), owner, frame=frame, whole=whole)
        if whole:  # other objects stay where they are
            others = (self.owner[frame] > 0) & (self.owner[frame] != owner) & (found.owner == 0)
            found = Correction(frame, torch.where(others, self.owner[frame], found.owner))
        self._correct(found)

    def why(self, frame: int, x: float, y: float) -> Why:
        """What decided the pixel (x, y)."""
        height, width = self.size
        h, w = self.result.mask.shape[-2:]
        owner, seed, margin = self._masks.deciding(frame, int(y * h / height), int(x * w / width))
        if seed < 0:
            return Why(0, -1, (x, y), 0.0, 0.0, -1, 0)
        index = int(self.result.seeds.index[frame, seed])
        place = ((index % w + 0.5) * width / w - 0.5, (index // w + 0.5) * height / h - 0.5)
        config = config_of(self.result, None)
        reason = int(RULES[config.rule].reasons(self.current(), config)[frame, seed])
        score = float(self.result.seed_score[frame, seed])
        return Why(owner, seed, place, margin, score, int(self._track[frame, seed]), reason)

    def add_object(self, name: str) -> int:
        """Adds an object that has nothing yet; returns its number."""
        number = 1 + max((one.number for one in self.objects), default=0)
        if number > MOST_OBJECTS:
            raise fail("objects", f"{number} objects", f"at most {MOST_OBJECTS}")
        objects = (*self.objects, Named(number, _clean(name) or f"Object {number}"))
        self._advance(self._state._replace(objects=objects))
        return number

    def rename(self, number: int, name: str) -> None:
        """Gives an object another name."""
        self._check_owner(number)
        named = (one._replace(name=_clean(name) or one.name) if one.number == number else one for one in self.objects)
        self._advance(self._state._replace(objects=tuple(named)))

    def remove(self, number: int) -> None:
        """Gives what an object has to the ground and takes it off the list."""
        self._check_owner(number)
        corrections = (
            one._replace(owner=torch.where(one.owner == number, 0, one.owner)) for one in self._state.corrections
        )
        base = torch.where(self._state.base == number, 0, self._state.base)
        objects = tuple(one for one in self.objects if one.number != number)
        marks = tuple(one for one in self.marks if one.owner != number)
        self._advance(State(base, tuple(corrections), objects, marks))

    def split(self) -> int:
        """Tells the objects of the foreground apart; returns how many there are."""
        found = instances(self.current(), num_instances=MOST_OBJECTS)
        count = int((found.score > -torch.inf).sum())
        owner = torch.where(found.seed >= 0, found.seed + 1, self.owner.clamp(max=0))
        named = tuple(Named(number + 1, f"Object {number + 1}") for number in range(max(count, 1)))
        self._advance(State(owner, (), named, ()))
        return count

    def undo(self) -> bool:
        """Takes the last step back; False where there is none."""
        if not self._past:
            return False
        self._state, standing = self._past.pop()
        self._sum_up(self._masks.assign(self._owner()) if standing is None else self._masks.restore(standing))
        return True

    def _correct(self, correction: Correction, *marks: Mark) -> None:
        corrections = (*self._state.corrections, correction)
        self._advance(self._state._replace(corrections=corrections, marks=(*self.marks, *marks)))

    def _advance(self, state: State) -> None:
        self._past.append((self._state, self._masks.standing()))
        if len(self._past) > _KEPT_STEPS:
            self._past[-_KEPT_STEPS - 1] = (self._past[-_KEPT_STEPS - 1][0], None)
        self._state = state
        self._sum_up(self._masks.assign(self._owner()))

    def _owner(self) -> Tensor:
        return corrected_owner(self._state.base, self._state.corrections, self._links)

    def _sum_up(self, frames: list[int]) -> None:
        """Labels and probabilities on the grid of frames that changed."""
        for frame in frames:
            value, number = self._masks.probability(frame).max(0)
            self._probability[frame] = value
            self._label[frame] = torch.where(value > 0.5, number + 1, 0).to(torch.uint8)
            self._changes[frame] += 1
        self.version += 1

    @torch.no_grad()
    def _full_size(self, change: int, frame: int) -> Tensor:  # noqa: ARG002, the cache asks for it
        small = self._masks.probability(frame)
        large = interpolate(small[:, None], size=self.size, mode="bilinear", align_corners=False)[:, 0].clamp_(0, 1)
        if self._refine is None:
            return large
        pixels = self.clip.frames[frame : frame + 1].to(large.device).expand(len(large), -1, -1, -1)
        refined: Tensor = self._refine(large, pixels)
        return refined

    def _check_owner(self, owner: int) -> None:
        if owner and owner not in {one.number for one in self.objects}:
            raise fail("object", str(owner), "one of the list")


def _clean(name: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())[:_NAME_LENGTH]


def _full(clip: Clip, result: Segmentation) -> Tensor:
    """A mask of the frames' size without memory: the scale of the flow is read off its shape."""
    return result.mask.new_zeros(()).expand(len(clip.frames), *clip.frames.shape[-2:])
