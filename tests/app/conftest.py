"""A small project, a server with nothing but loopback, and a browser where there is one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

if find_spec("gradio") is None:  # looked for and not imported: that takes seconds of every process that collects
    pytest.skip('the app needs pip install "gpuvos[app]"', allow_module_level=True)

from gpuvos.app.job import QUICK, Method
from gpuvos.app.project import Project
from gpuvos.app.tabs import Tabs
from gpuvos.config import Config
from gpuvos.data import Clip, RenderedClip, render_clip
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.pipeline.refinement import refinement
from gpuvos.pipeline.segment import segment
from gpuvos.pipeline.video import VideoSegmenter

CHROMIUM = Path("/usr/bin/chromium")


def segmenter(refinement: Any = None) -> VideoSegmenter:
    return VideoSegmenter(AppearanceFeatures(), Config(track_seeds=True), refinement=refinement).eval()


def method(quality: str, edges: str) -> Method:
    """Without any network, whatever is asked for."""
    words = ("--preset", quality) if quality != QUICK else ("--front-end", "appearance")
    refine = refinement(edges) if edges in ("guided", "crf") else None
    return Method(segmenter(refine), (*words, *(("--refine", edges) if edges else ())))


@pytest.fixture(scope="session")
def scene() -> RenderedClip:
    return render_clip("two", num_frames=6, height=96, width=160)


@pytest.fixture(scope="session")
def parts(scene: RenderedClip) -> tuple[Clip, Any, Any]:
    names = tuple(f"{number:05d}" for number in range(6))
    clip = Clip(scene.frames, torch.arange(6, dtype=torch.float64) / 12, 12.0, names)
    features = segmenter().features(scene.frames)
    return clip, features, segment(*features, config=Config(track_seeds=True))


@pytest.fixture
def project(parts: tuple[Clip, Any, Any]) -> Project:
    return Project(*parts, name="two.mp4", command="gpuvos segment two.mp4")


class Served(NamedTuple):
    """A server in a thread of this process."""

    address: str
    tabs: Tabs


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    import uvicorn

    from gpuvos.app.page import Limits
    from gpuvos.app.server import build_server, private_folder

    with private_folder() as tabs:
        limits = Limits(2 << 20, 6, 320, 1_000_000, "quick")
        config = uvicorn.Config(
            build_server(tabs, method, limits, "127.0.0.1"),
            host="127.0.0.1",
            port=0,
            log_level="critical",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}", tabs)
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser: {CHROMIUM} is not there (Debian: apt-get install chromium)")
    driver = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    with driver.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield found
        found.close()
