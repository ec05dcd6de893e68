"""One page about a segmented video that needs nothing beside it: no network and no other file."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from gpuvos.viz.timeline import STYLE, FlagRow, Strip, frame_ranges, timeline_html

_MOST_VIDEO = 256 << 20  # bytes of a video that is put into the page; browsers refuse much longer addresses

_PAGE_STYLE = (
    """
:root { color-scheme: light dark; --ink: #1c1f26; --paper: #fff; --line: #8884; --strip: #3b74d6; --flag: #d9822b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ee; --paper: #14161b; --strip: #7aa7ff; --flag: #f0a858; } }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
video, img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
video { width: 100%; max-height: 70vh; background: #000; }
.scroll { overflow-x: auto; } .scroll img { max-width: none; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1rem .15rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; vertical-align: top; }
.timeline { margin-top: 1rem; } .cursor { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px;
  background: var(--ink); pointer-events: none; }
"""
    + STYLE
)

_SCRIPT = """
const video = document.querySelector('video'), line = document.querySelector('.timeline');
const times = JSON.parse(document.getElementById('times').textContent);
const cursor = document.createElement('div'); cursor.className = 'cursor';
if (video && line) {
  line.append(cursor);
  const frame = () => Math.max(0, times.findLastIndex((time) => time <= video.currentTime + 1e-3));
  const move = () => { cursor.style.left = `${100 * (frame() + 0.5) / times.length}%`; };
  for (const name of ['timeupdate', 'seeked', 'loadeddata']) video.addEventListener(name, move);
  line.addEventListener('click', (event) => {
    const box = line.getBoundingClientRect(), share = (event.clientX - box.left) / box.width;
    const number = Math.min(times.length - 1, Math.max(0, Math.floor(share * times.length)));
    const next = times[number + 1] ?? times[number] + 0.02;
    video.pause(); video.currentTime = (times[number] + next) / 2;
  });
  move();
}
"""


def report_html(
    title: str,
    *,
    summary: str,
    video: Path,
    sheet: Path | None,
    times: Sequence[float],
    strips: Sequence[Strip],
    flags: Sequence[FlagRow],
    facts: Mapping[str, object],
) -> str:
    """Writes a page about a segmented video: the video, its timeline, what is unusual, every step, the settings.

    Args:
        title: name of the video.
        summary: what was found, in a sentence or two.
        video: an mp4 file, which becomes part of the page (above 256 MiB a link to it).
        sheet: a PNG of the steps, which becomes part of the page; None: there is none.
        times: seconds of every frame since the first.
        strips: quantities along the video, see ``timeline_html``.
        flags: what is unusual in some frames.
        facts: names and values of the settings.

    Returns:
        HTML that loads nothing: pictures and video are data URIs, and a policy in it forbids all else.

    Example:
        >>> page = report_html(
        ...     "a < b", summary="", video=Path(__file__), sheet=None, times=[0.0], strips=[Strip("size", [0.5])],
        ...     flags=[], facts={},
        ... )
        >>> "<h1>a &lt; b</h1>" in page
        True
    """
    policy = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_PAGE_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1><p>{escape(summary)}</p>",
        _video(video),
        "<h2>From frame to frame</h2><p>A click goes to the frame.</p>",
        timeline_html(strips, flags),
        _unusual(flags),
    ]
    if sheet is not None:
        shown = '<img alt="A row for each of three frames, a column for each step of the method"'
        parts.append(f'<h2>Every step</h2><div class="scroll">{shown} src="{_data_uri(sheet, "image/png")}"></div>')
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in facts.items())
    parts.append(f"<h2>How it was made</h2><table>{rows}</table>")
    numbers = json.dumps([round(time, 4) for time in times])
    parts.append(f'<script type="application/json" id="times">{numbers}</script><script>{_SCRIPT}</script>')
    return "".join([*parts, "</body></html>\n"])


def _video(file: Path) -> str:
    if file.stat().st_size > _MOST_VIDEO:
        return f'<p>The video is too large for this page: <a href="{escape(file.name)}">{escape(file.name)}</a></p>'
    return f'<video controls loop muted playsinline src="{_data_uri(file, "video/mp4")}"></video>'


def _data_uri(file: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"


def _unusual(flags: Sequence[FlagRow]) -> str:
    """The frames of every flag in words, for those who see no drawing."""
    rows = []
    for flag in flags:
        runs = [str(first) if first == last else f"{first} to {last}" for first, last in frame_ranges(flag.values)]
        if runs:
            rows.append(f"<tr><th>{escape(flag.name)}</th><td>frames {', '.join(runs)}</td></tr>")
    return f"<table>{''.join(rows)}</table>" if rows else "<p>Nothing unusual in any frame.</p>"
