"""What the page says: reasons, margins and progress in words that need no study."""

from __future__ import annotations

from html import escape

from gpuvos.app.job import STAGES, Job, Progressed
from gpuvos.app.project import Project, Why
from gpuvos.interactive.timeline import Timeline
from gpuvos.pipeline.rules.base import Reason

_REASONS = {
    Reason.NONE: "nothing speaks for or against it",
    Reason.EDITED: "somebody corrected it",
    Reason.TRACK: "it lies on the path that best fits an object that moves",
    Reason.COVERED: "it lies inside of the object that was found first",
    Reason.LOW_OBJECTNESS: "it does not look like an object",
    Reason.LOW_SALIENCY: "it moves as the ground does",
    Reason.INITIAL: "it looks least like an object of all",
    Reason.CONFIDENT: "it looks like an object, moves unlike the ground, and points like it in other frames agree",
    Reason.VOTED: "points like it in other frames belong to the object, though this one alone would not tell",
    Reason.OUTVOTED: "points like it in other frames belong to the ground, though this one alone looks like the object",
    Reason.QUIET: "neither it nor points like it in other frames stand out from the ground",
}


def why_said(project: Project, why: Why) -> str:
    """Why a pixel is what it is, in two or three sentences."""
    if why.seed < 0:
        return "This frame has no sample point, so nothing is marked in it."
    names = {one.number: one.name for one in project.objects}
    owner = names.get(why.owner, "the ground")
    sure = "clearly" if why.margin > 0.5 else "rather" if why.margin > 0.15 else "barely"
    track = f", path {why.track}" if why.track >= 0 else ""
    return (
        f"This belongs to {owner}: it looks most like sample point {why.seed} (ringed), {sure} more than like any "
        f"point of something else (margin {why.margin:.0%}). That point is of {owner} because "
        f"{_REASONS[Reason(why.reason)]} (score {why.score:.2f}{track})."
    )


def found_said(found: Timeline) -> str:
    """What was found, in a sentence."""
    share = found.share
    count, total = int((share > 0).sum()), len(share)
    if not count:
        still = bool(found.flags.still.all())
        why = "Nothing moves in this clip" if still else "Nothing stands out from the ground"
        return f"{why}, so nothing is marked. Use “Add” and click on what you want, or paint it."
    mean = float(share[share > 0].mean())
    return (
        f"Marked in {count} of {total} frames, {mean:.1%} of the picture on average. Is something wrong? Click on it."
    )


def progress_html(job: Job) -> str:
    """A bar with what is going on and the time left."""
    now = job.progress()
    if now.stage == "waiting":
        return _bar(None, "Waiting for another tab to finish")
    return _bar(now.share, f"{STAGES.get(now.stage, now.stage)}{_count(now)}{_left(now)}")


def notice(text: str, *, bad: bool = False) -> str:
    """A line about what happened; an alert where it is bad."""
    return f'<p class="note{" bad" if bad else ""}" role="{"alert" if bad else "status"}">{escape(text)}</p>'


def seconds_said(seconds: float) -> str:
    """About how long, without false digits.

    Example:
        >>> [seconds_said(value) for value in (0.4, 12.3, 34, 200)]
        ['1 s', '12 s', '35 s', '3 min']
    """
    if seconds < 20:
        return f"{max(1, round(seconds))} s"
    return f"{5 * round(seconds / 5)} s" if seconds < 100 else f"{round(seconds / 60)} min"


def _count(now: Progressed) -> str:
    return f", {now.done} of {now.total}" if now.total > 1 and now.done else ""


def _left(now: Progressed) -> str:
    return "" if now.left is None else f" · about {seconds_said(now.left)} left"


def _bar(share: float | None, text: str) -> str:
    part = round(100 * (share or 0.0))
    told = f'role="progressbar" aria-valuenow="{part}" aria-label="Done"'
    bar = f'<div class="bar" {told}><i style="width:{part}%"></i></div>'
    return f'<div class="work" role="status">{bar}<span>{escape(text)}</span></div>'
