"""``report.html`` of ``gpuvos segment``: what is gathered while pieces are written, and the page."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from operator import or_
from pathlib import Path

from gpuvos.cli.pieces import Piece
from gpuvos.data.atomic import atomic_file
from gpuvos.interactive.timeline import Timeline, timeline
from gpuvos.viz.report import report_html
from gpuvos.viz.timeline import FlagRow, Strip


def timeline_rows(found: Timeline, *, seen: bool = False) -> tuple[list[Strip], list[FlagRow]]:
    """A timeline in words; ``seen``: the object was found before these frames.

    Example:
        >>> import torch
        >>> from gpuvos import VideoSegmenter
        >>> strips, flags = timeline_rows(timeline(VideoSegmenter()(torch.zeros(2, 3, 32, 48, dtype=torch.uint8))))
        >>> [flag.name for flag in flags if any(flag.values)]
        ['Nothing moves', 'Not found yet']
    """
    strips = [
        Strip("Share of the picture", found.share.tolist(), "%"),
        Strip("Motion against the ground", found.motion.tolist(), "px a frame"),
        Strip("Confidence", found.confidence.tolist(), "%", top=1.0),
    ]
    flags = found.flags
    empty = flags.empty.tolist()
    before = list(accumulate((not value for value in empty), or_, initial=seen))[1:]
    rows = [
        FlagRow("Nothing moves", flags.still.tolist()),
        FlagRow("Not found yet", [gone and not was for gone, was in zip(empty, before, strict=True)]),
        FlagRow("Hidden or gone", [gone and was for gone, was in zip(empty, before, strict=True)]),
        FlagRow("Another candidate nearly as good", flags.tie.tolist()),
    ]
    return strips, rows


class Report:
    """Gathers what the page says of the pieces of a video."""

    def __init__(self) -> None:
        self._strips: list[tuple[Strip, list[float]]] = []  # the first piece's, and the values of all
        self._flags: list[tuple[FlagRow, list[bool]]] = []
        self._times: list[float] = []
        self._seen = False  # the object, in an earlier piece

    def add(self, piece: Piece) -> None:
        """Takes in the next frames."""
        found = timeline(piece.result)
        strips, flags = timeline_rows(found, seen=self._seen)
        if not self._times:
            self._strips, self._flags = [(row, []) for row in strips], [(row, []) for row in flags]
        for (_, values), strip in zip(self._strips, strips, strict=True):
            values += strip.values
        for (_, marks), flag in zip(self._flags, flags, strict=True):
            marks += flag.values
        self._seen |= not bool(found.flags.empty.all())
        self._times += piece.clip.timestamps.tolist()

    def write(self, work: Path, name: str, sentence: str, settings: Mapping[str, object]) -> None:
        """Writes the page beside the overlay and the sheet of the same work folder."""
        page = report_html(
            name,
            summary=sentence or self._summary(),
            video=work / "overlay.mp4",
            sheet=sheet if (sheet := work / "sheet.png").is_file() else None,
            times=[time - self._times[0] for time in self._times],
            strips=[row._replace(values=values) for row, values in self._strips],
            flags=[row._replace(values=marks) for row, marks in self._flags],
            facts={key.replace("_", " "): value for key, value in settings.items() if value is not None},
        )
        with atomic_file(work / "report.html") as temporary:
            temporary.write_text(page, encoding="utf-8")

    def _summary(self) -> str:
        share = self._strips[0][1]
        count = sum(value > 0 for value in share)
        return (
            f"The moving object was found in {count} of {len(share)} frames. "
            f"It covers {100 * sum(share) / max(count, 1):.1f} % of the picture where it was found."
        )
