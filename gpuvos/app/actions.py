"""What somebody does in the viewer: every message of the page is checked here before anything happens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gpuvos.app.exports import EXPORTS, color_of
from gpuvos.app.pictures import STEPS
from gpuvos.app.project import Project
from gpuvos.app.words import found_said, why_said
from gpuvos.cli.report import timeline_rows
from gpuvos.errors import InputError, fail
from gpuvos.interactive.corrections import REACHES
from gpuvos.viz.timeline import FlagRow, frame_ranges, timeline_html

_MOST_POINTS = 20_000  # of a stroke
_WIDEST = 400  # brush, in pixels


def shown(project: Project, **extra: object) -> dict[str, object]:
    """Everything that the viewer needs to know of a project; pictures it asks for by the token."""
    found = project.timeline()
    strips, flags = timeline_rows(found)
    height, width = project.size
    return {
        "token": project.token,
        "version": project.version,
        "name": project.name,
        "frames": project.num_frames,
        "width": width,
        "height": height,
        "rate": project.clip.frame_rate,
        "times": [round(time, 3) for time in (project.clip.timestamps - project.clip.timestamps[0]).tolist()],
        "objects": [{"number": one.number, "name": one.name, "color": color_of(one.number)} for one in project.objects],
        "marks": [one._asdict() for one in project.marks],
        "timeline": timeline_html(strips, [*flags, FlagRow("Corrected here", project.corrected)]),
        "unusual": unusual(flags),
        "undo": project.undoable,
        "steps": STEPS,
        "files": {name: words for name, (words, _) in EXPORTS.items()},
        "command": project.command,
        "said": found_said(found),
        "why": None,
        **extra,
    }


def act(project: Project, message: object) -> dict[str, object]:
    """Does what a message says and returns what is to be shown then; what is wrong with it is said there."""
    extra: dict[str, object] = {}
    with project.lock:
        try:
            if not isinstance(message, Mapping) or message.get("kind") not in _ACTIONS:
                raise fail("kind", repr(message)[:80], "an action of the page")
            extra = _ACTIONS[message["kind"]](project, message)
        except InputError as error:
            extra = {"said": f"That did not work: {error}"}
        return shown(project, **extra)


def unusual(flags: Sequence[FlagRow]) -> list[dict[str, object]]:
    """Where something unusual begins and what it is, in the order of the frames.

    Example:
        >>> unusual([FlagRow("Hidden", [False, True, True]), FlagRow("Still", [True, True, False])])
        [{'frame': 0, 'said': 'Still'}, {'frame': 1, 'said': 'Hidden'}]
    """
    begins: dict[int, list[str]] = {}
    for flag in flags:
        for first, _ in frame_ranges(flag.values):
            begins.setdefault(first, []).append(flag.name)
    return [{"frame": frame, "said": ", ".join(names)} for frame, names in sorted(begins.items())]


def painted(strokes: object, radius: float, size: tuple[int, int]) -> Tensor:
    """The area ``[h, w]`` bool under brush strokes, lists of points (x, y).

    Example:
        >>> painted([[[1, 1], [3, 1]]], 0.5, (3, 5)).int().tolist()
        [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    """
    import numpy as np
    from PIL import Image, ImageDraw

    if not isinstance(strokes, list) or not all(isinstance(line, list) for line in strokes):
        raise fail("strokes", type(strokes).__name__, "lists of points")
    if sum(len(line) for line in strokes) > _MOST_POINTS:
        raise fail("strokes", "a very long one", f"at most {_MOST_POINTS} points")
    image = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(image)
    for line in strokes:
        points = [(_number("x", point, 0), _number("y", point, 1)) for point in line]
        if len(points) > 1:
            draw.line(points, fill=1, width=max(1, round(2 * radius)), joint="curve")
        for x, y in points:
            draw.ellipse((x - radius + 0.5, y - radius + 0.5, x + radius - 0.5, y + radius - 0.5), fill=1)
    return torch.from_numpy(np.array(image))


def _why(project: Project, message: Mapping[str, Any]) -> dict[str, object]:
    frame, x, y = _place(project, message)
    why = project.why(frame, x, y)
    place = {"frame": frame, "x": x, "y": y, "seed": why.place if why.seed >= 0 else None}
    return {"said": why_said(project, why), "why": place}


def _click(project: Project, message: Mapping[str, Any]) -> dict[str, object]:
    frame, x, y = _place(project, message)
    reach = message.get("reach")
    if reach not in REACHES:
        raise fail("reach", repr(reach), f"one of {', '.join(REACHES)}")
    project.click(frame, x, y, _whole(message, "owner", 0, 10**6), reach)
    return {}


def _paint(project: Project, message: Mapping[str, Any]) -> dict[str, object]:
    frame = _whole(message, "frame", 0, project.num_frames - 1)
    radius = _number("radius", message, "radius")
    if not 0.5 <= radius <= _WIDEST:
        raise fail("radius", str(radius), f"0.5 to {_WIDEST}")
    area = painted(message.get("strokes"), radius, project.size)
    project.paint(frame, area, _whole(message, "owner", 0, 10**6), whole=message.get("whole") is True)
    return {}


def _add(project: Project, message: Mapping[str, Any]) -> dict[str, object]:
    number = project.add_object(_text(message))
    return {"chosen": number, "said": "Choose “Add” and click on it, or paint it, in any frame."}


def _rename(project: Project, message: Mapping[str, Any]) -> dict[str, object]:
    project.rename(_whole(message, "owner", 1, 10**6), _text(message))
    return {}


def _remove(project: Project, message: Mapping[str, Any]) -> dict[str, object]:
    project.remove(_whole(message, "owner", 1, 10**6))
    return {}


def _split(project: Project, _: Mapping[str, Any]) -> dict[str, object]:
    count = project.split()
    many = f"{count} objects were told apart." if count > 1 else "There is one object only; no others stand apart."
    return {"said": many}


def _undo(project: Project, _: Mapping[str, Any]) -> dict[str, object]:
    return {} if project.undo() else {"said": "There is nothing to undo."}


_ACTIONS: dict[str, Callable[[Project, Mapping[str, Any]], dict[str, object]]] = {
    "why": _why,
    "click": _click,
    "paint": _paint,
    "add": _add,
    "rename": _rename,
    "remove": _remove,
    "split": _split,
    "undo": _undo,
}


def _place(project: Project, message: Mapping[str, Any]) -> tuple[int, float, float]:
    frame = _whole(message, "frame", 0, project.num_frames - 1)
    x, y = _number("x", message, "x"), _number("y", message, "y")
    height, width = project.size
    if not (0 <= x < width and 0 <= y < height):
        raise fail("place", f"({x:g}, {y:g})", f"inside of {width} x {height} pixels")
    return frame, x, y


def _whole(message: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise fail(name, repr(value)[:40], f"a whole number from {low} to {high}")
    return value


def _number(name: str, holder: Any, key: str | int) -> float:
    try:
        value = holder[key]
    except (KeyError, IndexError, TypeError):
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e6:
        raise fail(name, repr(value)[:40], "a number")
    return float(value)


def _text(message: Mapping[str, Any]) -> str:
    name = message.get("name")
    return name if isinstance(name, str) else ""
