"""``gpuvos app``: the page on this machine."""

from __future__ import annotations

import socket
import sys
import threading
import webbrowser
from argparse import Namespace
from collections.abc import Callable
from functools import cache

from gpuvos.cli.common import build_segmenter
from gpuvos.cli.options.common import Parser, add_method_arguments
from gpuvos.errors import fail
from gpuvos.pipeline.video import VideoSegmenter


def run(arguments: Namespace) -> int:
    """Serves the page until it is interrupted; returns the exit status."""
    try:
        import uvicorn

        from gpuvos.app.page import Limits
        from gpuvos.app.server import LOOPBACK, build_server, private_folder
    except ModuleNotFoundError as error:
        raise fail("gpuvos app", f"no package {error.name}", "Gradio", 'pip install "gpuvos[app]"') from error
    quality = "quick" if arguments.front_end == "appearance" else "careful"
    limits = Limits(
        arguments.max_upload << 20,
        arguments.max_frames,
        arguments.max_side,
        arguments.max_pixels,
        quality,
        method_words(arguments),
    )
    build = segmenters(arguments)
    build(quality)  # what is wrong with the options shows here
    if arguments.host not in LOOPBACK:
        print(f"gpuvos: whoever reaches port {arguments.port} of {arguments.host} can use this page", file=sys.stderr)
    with private_folder() as tabs:
        server = build_server(tabs, build, limits, arguments.host)
        with _listening(arguments.host, arguments.port) as listener:
            address = f"http://{_bracketed(arguments.host)}:{listener.getsockname()[1]}"
            _announce(address, browser=not arguments.no_browser)
            config = uvicorn.Config(server, log_level="critical", timeout_graceful_shutdown=1)
            uvicorn.Server(config).run([listener])
    return 0


def method_words(arguments: Namespace) -> tuple[str, ...]:
    """The options of the method that were chosen, as words of a command that is as careful."""
    parser = Parser()
    add_method_arguments(parser)
    words: list[str] = []
    for name in vars(parser.parse_args([])):
        value = getattr(arguments, name)
        if name not in ("device", "adapt_every") and value not in (parser.get_default(name), "appearance"):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return tuple(words)


def segmenters(arguments: Namespace) -> Callable[[str], VideoSegmenter]:
    """Gives the segmenter of a quality: "quick" without a network, "careful" with that of the options."""

    @cache
    def build(quality: str) -> VideoSegmenter:
        chosen = dict(vars(arguments))
        if quality == "quick":
            chosen |= {"front_end": "appearance", "weights": None, "precision": None}
        elif arguments.front_end == "appearance":
            chosen["front_end"] = "bundled"
        return build_segmenter(Namespace(**chosen), "robust")

    lock = threading.Lock()

    def one(quality: str) -> VideoSegmenter:
        with lock:
            return build(quality)

    return one


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens, so that the page may be opened at once; a port of 0 becomes one that is free."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        got = f"{host}:{port} ({error.strerror or error})"
        raise fail("--port", got, "a port that is free here", "take another one, or 0 for any") from error


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _announce(address: str, *, browser: bool) -> None:
    print(f"gpuvos: open {address} (Ctrl+C ends it)", flush=True)
    if browser:
        webbrowser.open(address)
