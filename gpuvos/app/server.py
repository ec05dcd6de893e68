"""The server: the page, pictures of projects and files to download, for this machine alone unless told otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from gpuvos.app.exports import EXPORTS
from gpuvos.app.job import Build
from gpuvos.app.page import Limits, build_page
from gpuvos.app.pictures import VIEWS, Pictures
from gpuvos.app.project import Project
from gpuvos.app.tabs import Tabs

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def build_server(tabs: Tabs, build: Build, limits: Limits, host: str) -> FastAPI:
    """The application that a server runs.

    Args:
        tabs: what belongs to which tab.
        build: gives the method of a quality and of edges.
        limits: of uploads and clips.
        host: the address that is listened on; requests that name another host are refused on the loopback interface,
            so that no page of the web can reach this one under a name of its own.
    """
    import gradio

    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if host in LOOPBACK:
        server.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    _add_routes(server, tabs)
    page, looks = build_page(tabs, build, limits)
    page.has_launched = True  # Gradio looks where the files of a message lie only on pages that say so
    options: dict[str, Any] = {"footer_links": [], "ssr_mode": False, "run_history": False, "pwa": False}
    return gradio.mount_gradio_app(
        server, page, path="/", max_file_size=limits.upload_bytes, enable_monitoring=False, **looks, **options
    )


@contextmanager
def private_folder() -> Iterator[Tabs]:
    """One folder for everything that the server writes, uploads on their way included; gone when the block ends."""
    tabs = Tabs()
    before = {name: os.environ.get(name) for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED")}
    os.environ["GRADIO_TEMP_DIR"] = str(tabs.uploads)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        yield tabs
    finally:
        tabs.close()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _add_routes(server: FastAPI, tabs: Tabs) -> None:
    pictures = Pictures()

    def found(token: str) -> Project:
        project = tabs.project(token)
        if project is None:
            raise HTTPException(404, "There is no such clip any more.")
        return project

    def picture(token: str, frame: int, view: str) -> Response:
        project = found(token)
        if not 0 <= frame < project.num_frames or view not in VIEWS:
            raise HTTPException(404, "There is no such picture.")
        data, kind = pictures.draw(project, frame, view)
        return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})

    def file(token: str, version: int, name: str) -> FileResponse:  # noqa: ARG001, a new version is a new address
        project = found(token)
        if name not in EXPORTS:
            raise HTTPException(404, "There is no such file.")
        folder = tabs.folder_of(project)
        if folder is None:
            raise HTTPException(404, "There is no such clip any more.")
        with project.lock:
            path = folder / f"{project.version}-{name}"
            if not path.is_file():
                for old in folder.glob(f"*-{name}"):
                    old.unlink(missing_ok=True)
                EXPORTS[name][1](project, path)
        stem = Path(project.name).stem or "clip"
        return FileResponse(path, filename=f"{stem}-{name}", headers={"Cache-Control": "no-store"})

    server.add_api_route("/clip/{token}/{frame}/{view}", picture, methods=["GET"])
    server.add_api_route("/clip/{token}/files/{version}/{name}", file, methods=["GET"])
