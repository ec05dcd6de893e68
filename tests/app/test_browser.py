"""The page in a real browser: what somebody does from an upload to a download, and what goes wrong on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuvos.app.job import Job
from gpuvos.data import read_video, render_clip, write_video

pytestmark = pytest.mark.slow
PATIENCE = 120_000  # milliseconds, of a browser on a busy machine


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "two balls.mp4"
    write_video(path, render_clip("two", num_frames=7, height=96, width=160).frames, frame_rate=12)
    return path


class Page:
    """One tab, and what the tests do with it."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(accept_downloads=True, **options)
        self.context.set_default_timeout(PATIENCE)
        self.tab = self.context.new_page()
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.goto(address)
        self.tab.wait_for_selector("#sample")

    def upload(self, file: Path) -> None:
        self.tab.set_input_files("input[type=file]", str(file))

    def said(self, selector: str, words: str) -> None:
        self.tab.wait_for_function(
            "([place, words]) => document.querySelector(place)?.textContent.includes(words)", arg=[selector, words]
        )

    def shown(self, *, version: int = 0, frame: int | None = None) -> None:
        """Waits for a picture of a version (and a frame) on the canvas."""
        self.tab.wait_for_function(
            """([version, frame]) => {
                const [now, drawn] = (document.querySelector('.gv-result')?.dataset.shown ?? '-1:-1').split(':');
                return +drawn >= version && (frame === null || +now === frame); }""",
            arg=[version, frame],
        )

    def click(self, x: float, y: float) -> None:
        """A click on the result, at shares of its width and height."""
        canvas = self.tab.locator(".gv-result")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        canvas.click(position={"x": x * box["width"], "y": y * box["height"]})

    def color(self, x: float, y: float, *, right: int, down: int) -> list[int]:
        """Colour of the result some pixels from a place, which is given as shares of its width and height."""
        found: list[int] = self.tab.evaluate(
            """([x, y, right, down]) => { const canvas = document.querySelector('.gv-result');
                const place = [x * canvas.width + right, y * canvas.height + down].map(Math.floor);
                return [...canvas.getContext('2d').getImageData(...place, 1, 1).data].slice(0, 3); }""",
            arg=[x, y, right, down],
        )
        return found

    def tool(self, name: str) -> None:
        self.tab.locator(f"input[name=gv-tool][value={name}]").check(force=True)

    def marked(self) -> int:
        """Pixels of the canvas that are white or magenta in the view of the mask."""
        self.view("mask")
        count: int = self.tab.evaluate(
            """() => { const canvas = document.querySelector('.gv-result');
                const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
                let count = 0;
                for (let i = 0; i < data.length; i += 4) count += data[i] + data[i + 1] + data[i + 2] > 60;
                return count; }"""
        )
        self.view("objects")
        return count

    def view(self, name: str) -> None:
        """Chooses what is drawn, and waits for it."""
        self.tab.select_option(".gv-view", name)
        self.tab.wait_for_function(
            """(name) => document.querySelector('.gv-result').dataset.shown ===
                `${document.querySelector('.gv-frame').value}:${document.querySelector('.gv').dataset.version}:${name}`""",
            arg=name,
        )


@pytest.fixture
def page(browser: Any, served: Any) -> Iterator[Page]:
    found = Page(browser, served.address, viewport={"width": 1280, "height": 900})
    yield found
    found.context.close()


def test_from_an_upload_to_a_download(page: Page, film: Path, tmp_path: Path) -> None:
    page.said("#info", "Up to 2 MB and 6 frames")
    page.upload(film)
    page.said("#info", "7 frames of 160 × 96 pixels, 12 a second. 6 of them will be looked at")
    page.tab.click("#go")
    page.shown()
    page.said(".gv-said", "Marked in 6 of 6 frames")
    # scrub, by the slider, the keys and the timeline
    page.tab.locator(".gv-frame").fill("4")
    page.shown(frame=4)
    page.tab.locator(".gv-frame").press(".")
    page.shown(frame=5)
    line = page.tab.locator(".gv-timeline figure")
    line.click(position={"x": line.bounding_box()["width"] * 2.5 / 6, "y": 20})
    page.shown(frame=2)
    assert page.tab.inner_text(".gv-at").startswith("3 / 6")
    before = page.marked()
    # why
    page.click(0.5, 0.05)
    page.said(".gv-said", "This belongs to the ground")
    page.said(".gv-said", "score")
    # correct, and take it back
    truth = render_clip("two", num_frames=7, height=96, width=160).instances[2] == 1
    rows, columns = truth.nonzero().double().unbind(1)
    page.tool("away")
    page.click(float(columns.mean()) / 160, float(rows.mean()) / 96)
    page.shown(version=1)
    assert page.marked() < 0.85 * before
    page.tab.keyboard.press("u")
    page.shown(version=2)
    assert page.marked() == before
    # names, and away with it
    page.tab.click(".gv-split")
    page.said(".gv-said", "2 objects were told apart")
    page.tab.locator(".gv-object input[type=text]").nth(1).fill("second")
    page.tab.locator(".gv-object input[type=text]").nth(1).press("Enter")
    page.shown(version=4)
    for name in ("coco.json", "overlay.mp4"):
        with page.tab.expect_download() as waiting:
            page.tab.click(f".gv-files a[href$='{name}']")
        waiting.value.save_as(tmp_path / name)
    assert [one["name"] for one in json.loads((tmp_path / "coco.json").read_text())["categories"]][1] == "second"
    assert len(read_video(tmp_path / "overlay.mp4").frames) == 6
    command = page.tab.input_value(".gv-command input")
    assert command.startswith("gpuvos segment 'two balls.mp4'")
    assert "--front-end appearance" in command
    assert not [url for url in page.asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]
    assert page.errors == []


def test_brush_and_steps_and_keys(page: Page) -> None:
    page.tab.click("#sample")
    page.shown()
    page.tab.click(".gv-more summary")
    page.tab.wait_for_function(
        "() => { const all = [...document.querySelectorAll('.gv-steps img')];"
        " return all.length === 10 && all.every((one) => one.complete && one.naturalWidth > 0); }"
    )
    page.tool("whole")
    page.click(0.5, 0.1)
    page.tab.click(".gv-done")
    page.shown(version=1)
    # by the keyboard alone: a cross on the picture
    page.tool("add")
    page.tab.locator(".gv-result").focus()
    page.tab.keyboard.press("ArrowRight")
    page.tab.keyboard.press("Enter")
    page.shown(version=2)
    page.tab.keyboard.press("u")
    page.shown(version=3)
    page.tab.keyboard.press(",")
    page.tab.keyboard.press(" ")
    assert page.tab.get_attribute(".gv-play", "aria-label") == "Pause"
    assert page.errors == []


def test_next_unusual_and_settings(page: Page, tmp_path: Path) -> None:
    """Two objects move for two frames, stand still for two, and move again."""
    moving = render_clip("two", num_frames=4, height=96, width=160).frames
    film = tmp_path / "stands still.mp4"
    write_video(film, moving[[0, 1, 1, 1, 2, 3]], frame_rate=12)
    page.tab.click("#settings button")
    chosen = {"How thoroughly it looks": "Balanced", "Edges of what is found": "Along edges of the picture (quick)"}
    for label, choice in chosen.items():
        page.tab.get_by_label(label).click()
        page.tab.get_by_role("option", name=choice, exact=True).click()
    page.upload(film)
    page.said("#info", "6 of them will be looked at")
    page.tab.click("#go")
    page.shown(frame=0)
    words = page.tab.input_value(".gv-command input")
    assert words.endswith("--preset balanced --refine guided")
    assert page.tab.locator("#go").is_hidden()  # what is above has closed
    page.tab.click(".gv-next")
    page.shown(frame=1)
    page.said(".gv-said", "From frame 2: Nothing moves")
    page.tab.click(".gv-next")  # the last one: back to it
    page.shown(frame=1)
    assert page.errors == []


def test_clicks_leave_marks_and_undo_takes_them(page: Page) -> None:
    page.tab.click("#sample")
    page.shown()
    page.tool("away")
    page.click(0.25, 0.25)
    page.shown(version=1)
    assert page.color(0.25, 0.25, right=2, down=3) == [51, 51, 51]  # beside the minus
    page.said(".gv-timeline", "Corrected here")
    page.tab.click(".gv-undo")
    page.shown(version=2)
    assert page.color(0.25, 0.25, right=2, down=3) != [51, 51, 51]
    page.tab.wait_for_function("() => !document.querySelector('.gv-timeline').textContent.includes('Corrected here')")


def test_cancel(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work waits at its first frame until it is told to stop."""
    begun = Job._clip

    def slow(job: Job) -> Any:
        while True:
            job._told("decode", 0, 6)
            time.sleep(0.05)

    monkeypatch.setattr(Job, "_clip", slow)
    page.tab.click("#sample")
    page.said("#status", "Reading the frames")
    page.tab.click("#cancel")
    page.said("#status", "Cancelled.")
    assert page.tab.locator(".gv").is_hidden()
    monkeypatch.setattr(Job, "_clip", begun)
    page.tab.click("#sample")
    page.shown()


def test_a_broken_file(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no film" * 100)
    page.upload(broken)
    page.said("#info .bad", "broken.mp4")
    assert "/" not in page.tab.inner_text("#info")
    assert page.tab.locator("#go").is_disabled()


def test_a_large_file(page: Page, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(3 << 20))
    page.upload(large)
    page.tab.wait_for_selector("text=/exceed|too large|maximum/i")
    assert page.tab.locator("#go").is_disabled()


def test_two_tabs_do_not_mix(browser: Any, served: Any, page: Page) -> None:
    other = Page(browser, served.address, color_scheme="dark", viewport={"width": 360, "height": 740})
    page.tab.click("#sample")
    page.shown()
    assert other.tab.locator(".gv").is_hidden()
    other.tab.click("#sample")
    other.shown()
    before = other.marked()
    page.tool("whole")
    page.click(0.5, 0.1)
    page.tab.click(".gv-done")
    page.shown(version=1)
    other.tab.locator(".gv-frame").fill("1")
    other.tab.locator(".gv-frame").fill("0")
    other.shown(frame=0)
    assert other.tab.get_attribute(".gv", "data-version") == "0"
    assert other.marked() == before
    # a phone in the dark: nothing sticks out, and it is dark
    assert other.tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert other.tab.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    other.context.close()


def test_a_closed_tab_leaves_nothing(browser: Any, served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[str] = []
    from gpuvos.app.page import Handlers

    leave = Handlers.leave
    monkeypatch.setattr(
        served.tabs, "leave", lambda session: (left.append(session), type(served.tabs).leave(served.tabs, session))
    )
    assert leave is Handlers.leave
    found = Page(browser, served.address)
    found.tab.click("#sample")
    found.shown()
    found.context.close()
    for _ in range(600):
        if left:
            break
        time.sleep(0.1)
    assert len(left) == 1
