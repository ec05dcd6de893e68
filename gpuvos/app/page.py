"""The page: where a video goes in, what is said of it, and the viewer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from gpuvos.app.actions import act, shown
from gpuvos.app.job import QUICK, Build, Job, Wish, look_at, outlook
from gpuvos.app.tabs import Tab, Tabs
from gpuvos.app.words import notice, progress_html, seconds_said
from gpuvos.data.synthetic import SCENES
from gpuvos.errors import InputError, fail
from gpuvos.viz.timeline import STYLE

QUALITIES = {
    "Best": "accurate",
    "Balanced": "balanced",
    "Fast": "fast",
    "Fastest": "realtime",
    "Colour and motion alone": QUICK,
}
EDGES = {
    "As suits the choice above": "",
    "A closer look at the object": "zoom",
    "Along edges of the picture (quick)": "guided",
    "Along edges of the picture (thorough, slow)": "crf",
    "A closer look, then along edges (sharpest)": "zoom-crf",
    "As they are": "none",
}
_SAMPLES = {
    "An object moves": "single",
    "It goes behind a pillar": "occlusion",
    "Two alike, one moves": "twins",
    "It comes late": "late",
    "Nothing moves": "static",
    "Two objects move": "two",
}
_TICK = 0.25  # seconds between two looks at a job
_WHAT = "Finds what moves in a video. Look at it, correct it with clicks, take it along."
_NEW, _OTHER = "Which video", "Another video, or other settings"


class Limits(NamedTuple):
    """How much one tab may ask for."""

    upload_bytes: int
    frames: int
    max_side: int
    max_pixels: int
    quality: str = "accurate"  # what is chosen before anybody chooses
    edges: str = ""


def build_page(tabs: Tabs, build: Build, limits: Limits) -> tuple[gr.Blocks, dict[str, object]]:
    """The page, and how it looks: what ``mount_gradio_app`` takes besides."""
    assert set(_SAMPLES.values()) == set(SCENES)
    handlers = Handlers(tabs, build, limits)
    with gr.Blocks(title="gpuvos", delete_cache=(600, 600), analytics_enabled=False) as page:
        gr.HTML(f'<div class="title"><h1>gpuvos</h1><p>{_WHAT}</p></div>')
        with gr.Accordion(_NEW, open=True, elem_id="start") as start:
            with gr.Row(equal_height=False):
                with gr.Column(scale=3, min_width=280):
                    upload = gr.File(label="Video", type="filepath", file_types=["video", ".gif", ".webp"], height=130)
                    with gr.Row(equal_height=True):
                        scene = gr.Dropdown(list(_SAMPLES.items()), value="two", label="Or a sample", min_width=200)
                        sample = gr.Button("Try the sample", elem_id="sample", min_width=140)
                with gr.Column(scale=2, min_width=280):
                    settings = _settings(limits)
            info = gr.HTML(notice(handlers.limits_said()), elem_id="info")
            go = gr.Button("Find what moves", variant="primary", elem_id="go", interactive=False)
        status = gr.HTML("", elem_id="status")
        cancel = gr.Button("Cancel", elem_id="cancel", size="sm", visible=False)
        viewer = gr.HTML(
            {"token": None},
            html_template=_read("viewer.html"),
            js_on_load=_read("viewer.js"),
            apply_default_css=False,
            elem_id="viewer",
        )
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        upload.upload(handlers.take, [upload, *settings], [info, go], **private)
        upload.clear(handlers.drop, None, [info, go], **private)
        for setting in settings:
            setting.change(handlers.look, settings, [info, go], queue=False, **private)
        outputs = [status, viewer, go, sample, cancel, start]
        go.click(handlers.run_upload, settings, outputs, concurrency_limit=None, **private)
        sample.click(handlers.run_sample, [scene, *settings], outputs, concurrency_limit=None, **private)
        cancel.click(handlers.cancel, None, status, queue=False, **private)
        viewer.act(handlers.act, None, viewer, queue=False, **private)
        page.unload(handlers.leave)
    font = ["system-ui", "sans-serif"]
    theme = gr.themes.Default(font=font, font_mono=["ui-monospace", "monospace"], primary_hue="blue")
    return page, {"theme": theme, "css": _read("viewer.css") + STYLE}


def _settings(limits: Limits) -> list[gr.components.Component]:
    sides = sorted({side for side in (320, 480, 640, 854, 1280, 1920) if side < limits.max_side} | {limits.max_side})
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        quality = gr.Dropdown(list(QUALITIES.items()), value=limits.quality, label="How thoroughly it looks")
        edges = gr.Dropdown(list(EDGES.items()), value=limits.edges, label="Edges of what is found")
        with gr.Row():
            start = gr.Number(0, label="First frame", precision=0, minimum=0, min_width=90)
            step = gr.Number(1, label="Every n-th", precision=0, minimum=1, min_width=90)
            count = gr.Number(
                limits.frames, label="Frames at most", precision=0, minimum=1, maximum=limits.frames, min_width=90
            )
        side = gr.Dropdown(sides, value=min(854, limits.max_side), label="Scale down to (longer side, pixels)")
    return [quality, edges, start, step, count, side]


def _read(name: str) -> str:
    return (files("gpuvos.app") / name).read_text(encoding="utf-8")


class Handlers:
    """What happens when somebody uses the page. A request names its tab by itself; nothing else does."""

    def __init__(self, tabs: Tabs, build: Build, limits: Limits) -> None:
        self._tabs, self._build, self._limits = tabs, build, limits

    def limits_said(self) -> str:
        """The limits, before anything is uploaded."""
        megabytes = self._limits.upload_bytes >> 20
        return (
            f"Up to {megabytes} MB and {self._limits.frames} frames at a time, scaled down to {self._limits.max_side} "
            "pixels. The video stays on this machine."
        )

    def take(self, request: gr.Request, path: str | None, *settings: Any) -> tuple[Any, ...]:
        """An upload has arrived. Gradio has checked where it lies; so does this, as a page can send any path."""
        tab = self._tab(request)
        if path is not None:
            file = Path(path).resolve()
            if not file.is_relative_to(self._tabs.uploads.resolve()):
                raise gr.Error("That is no upload.")
            tab.take(file, file.name)
        return self._looked(tab, settings)

    def drop(self, request: gr.Request) -> tuple[Any, ...]:
        """The upload is not wanted any more."""
        tab = self._tab(request)
        tab.drop_upload()
        return self._looked(tab, ())

    def look(self, request: gr.Request, *settings: Any) -> tuple[Any, ...]:
        """Settings have changed."""
        return self._looked(self._tab(request), settings)

    def run_upload(self, request: gr.Request, *settings: Any) -> Iterator[tuple[Any, ...]]:
        """Segments the upload of the tab."""
        tab = self._tab(request)
        yield from self._run(tab, lambda: self._upload_wish(tab, settings))

    def run_sample(self, request: gr.Request, scene: str, *settings: Any) -> Iterator[tuple[Any, ...]]:
        """Renders a clip and segments it."""
        yield from self._run(self._tab(request), lambda: self._wish(scene, f"sample-{scene}", settings))

    def cancel(self, request: gr.Request) -> str:
        """Stops what runs in the tab."""
        job = self._tab(request).job
        if job is not None:
            job.cancel()
        return notice("Stopping …")

    def act(self, event: gr.EventData, request: gr.Request) -> dict[str, object]:
        """Something was done in the viewer."""
        project = self._tab(request).project
        if project is None:
            return {"token": None, "said": "This clip is gone. Segment it again."}
        return act(project, event._data)

    def leave(self, request: gr.Request) -> None:
        """The tab was closed."""
        self._tabs.leave(request.session_hash)

    def _tab(self, request: gr.Request) -> Tab:
        return self._tabs.of(request.session_hash)

    def _looked(self, tab: Tab, settings: tuple[Any, ...]) -> tuple[Any, ...]:
        """What is said of the upload, and whether it can be segmented."""
        if tab.upload is None:
            return notice(self.limits_said()), gr.update(interactive=False)
        try:
            info = look_at(tab.upload, tab.upload_name, self._limits.max_pixels)
            wish = self._upload_wish(tab, settings)
            count, (height, width), seconds = outlook(info, wish)
        except InputError as error:
            return notice(_spoken(error), bad=True), gr.update(interactive=False)
        whole = f"{info.num_frames} frames" if info.num_frames else "an unknown number of frames"
        said = (
            f"{tab.upload_name}: {whole} of {info.width} × {info.height} pixels, {info.frame_rate:.3g} a second. "
            f"{'At most ' if not info.num_frames else ''}{count} of them will be looked at, {width} × {height} pixels "
            f"large; about {seconds_said(seconds)} on one core."
        )
        return notice(said), gr.update(interactive=True)

    def _upload_wish(self, tab: Tab, settings: tuple[Any, ...]) -> Wish:
        if tab.upload is None:
            raise fail("video", "nothing", "a video, or the sample")
        return self._wish(tab.upload, tab.upload_name, settings)

    def _wish(self, source: Path | str, name: str, settings: tuple[Any, ...]) -> Wish:
        quality, edges, start, step, count, side = settings
        if isinstance(source, str) and source not in SCENES:
            raise fail("sample", repr(source), "one of the list")
        for label, value, known in (("how thoroughly", quality, QUALITIES), ("edges", edges, EDGES)):
            if value not in known.values():
                raise fail(label, repr(value), "one of the list")
        numbers = {"first frame": (start, 0, 10**7), "every n-th": (step, 1, 10**4)}
        numbers |= {"frames at most": (count, 1, self._limits.frames), "side": (side, 16, self._limits.max_side)}
        for label, (value, low, high) in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise fail(label, repr(value), f"a whole number from {low} to {high}")
        return Wish(source, name, quality, edges, start, step, count, side)

    def _run(self, tab: Tab, wanted: Callable[[], Wish]) -> Iterator[tuple[Any, ...]]:
        """Starts a job and tells of it until it is over."""
        keep, on, off = gr.skip(), gr.update(interactive=True), gr.update(interactive=False)
        ready = gr.update(interactive=tab.upload is not None)
        seen, unseen = gr.update(visible=True), gr.update(visible=False)
        try:
            wish = wanted()
        except InputError as error:
            yield notice(_spoken(error), bad=True), keep, ready, on, unseen, keep
            return
        with tab.lock:
            if tab.job is not None and tab.job.running:
                tab.job.cancel()
            job = tab.job = Job(wish, self._build, self._limits.max_pixels)
        yield progress_html(job), keep, off, off, seen, keep
        while not job.wait(_TICK):
            yield progress_html(job), keep, off, off, seen, keep
        if tab.job is not job:
            return  # another one has taken its place
        if job.project is None:
            said = notice(job.error or "It stopped.", bad=job.error != "Cancelled.")
            yield said, keep, ready, on, unseen, keep
            return
        tab.project = job.project
        yield "", shown(job.project), ready, on, unseen, gr.update(open=False, label=_OTHER)


def _spoken(error: InputError) -> str:
    name, colon, rest = str(error).partition(": ")
    return f"{name.capitalize()}: {rest}" if colon else str(error)
