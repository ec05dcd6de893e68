"""``gpuvos app``: the page on this machine."""

from __future__ import annotations

import socket
import sys
import threading
import webbrowser
from argparse import Namespace
from functools import lru_cache

from gpuvos.app.job import QUICK, Build, Method
from gpuvos.cli.common import build_segmenter
from gpuvos.cli.options.common import Parser, add_method_arguments, add_refinement_argument
from gpuvos.errors import fail

_KEPT = 4  # methods, each with its networks


def run(arguments: Namespace) -> int:
    """Serves the page until it is interrupted; returns the exit status."""
    try:
        import uvicorn

        from gpuvos.app.page import Limits
        from gpuvos.app.server import LOOPBACK, build_server, private_folder
    except ModuleNotFoundError as error:
        raise fail("gpuvos app", f"no package {error.name}", "Gradio", 'pip install "gpuvos[app]"') from error
    quality = QUICK if arguments.front_end == "appearance" else arguments.preset
    limits = Limits(
        arguments.max_upload << 20,
        arguments.max_frames,
        arguments.max_side,
        arguments.max_pixels,
        quality,
        arguments.refine or "",
    )
    build = methods(arguments)
    build(limits.quality, limits.edges)  # what is wrong with the options shows here
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


def chosen(arguments: Namespace, quality: str, edges: str) -> Namespace:
    """The options of the server with a quality and edges of the page in place of what they say of these."""
    options = dict(vars(arguments)) | {"refine": edges or None}
    if quality == QUICK:
        options |= {"front_end": "appearance", "weights": None, "precision": None}
    else:
        options |= {"preset": quality}
        if arguments.front_end == "appearance":
            options["front_end"] = "bundled"
    return Namespace(**options)


def method_words(arguments: Namespace) -> tuple[str, ...]:
    """The options of the method that differ from what they are anyway, as words of a command that does the same."""
    parser = Parser()
    add_method_arguments(parser)
    add_refinement_argument(parser)
    words: list[str] = []
    for name in vars(parser.parse_args([])):
        value = getattr(arguments, name)
        if name not in ("device", "adapt_every") and value != parser.get_default(name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return tuple(words)


def methods(arguments: Namespace) -> Build:
    """Gives the method of a quality and of edges; those used last are kept."""

    @lru_cache(_KEPT)
    def build(quality: str, edges: str) -> Method:
        options = chosen(arguments, quality, edges)
        return Method(build_segmenter(options, "robust"), method_words(options))

    lock = threading.Lock()

    def one(quality: str, edges: str) -> Method:
        with lock:
            return build(quality, edges)

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
