"""The tabs of browsers that have the page open: what belongs to one is out of the reach of every other."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from pathlib import Path

from gpuvos.app.job import Job
from gpuvos.app.project import Project

_MOST_TABS = 16  # the one that was idle longest makes room


class Tab:
    """What one tab has: an upload, a job, a project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # private; files in it have names of ours
        self.upload: Path | None = None
        self.upload_name = ""
        self.job: Job | None = None
        self.project: Project | None = None
        self.lock = threading.RLock()
        self.used = time.monotonic()

    def take(self, file: Path, name: str) -> None:
        """Takes an uploaded file as its own, in place of an earlier one; the suffix chooses how it is read."""
        self.drop_upload()
        suffix = "".join(letter for letter in Path(name).suffix if letter.isalnum() or letter == ".")[:8]
        self.upload, self.upload_name = self.folder / f"video{suffix.lower()}", name
        shutil.move(file, self.upload)

    def drop_upload(self) -> None:
        """Deletes the uploaded file."""
        if self.upload is not None:
            self.upload.unlink(missing_ok=True)
        self.upload, self.upload_name = None, ""

    def close(self) -> None:
        """Stops what runs and deletes what lies on the disk."""
        if self.job is not None:
            self.job.cancel()
        self.project = self.job = None
        shutil.rmtree(self.folder, ignore_errors=True)


class Tabs:
    """All tabs by the hash of their session, which the server of the page gives and only the tab knows.

    Args:
        folder: private folder that they share; it is deleted by ``close``.

    Example:
        >>> tabs = Tabs()
        >>> tabs.of("one") is tabs.of("one"), tabs.of("one") is tabs.of("two")
        (True, False)
        >>> tabs.close()
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gpuvos-app-")) if folder is None else folder
        self._tabs: dict[str, Tab] = {}
        self._lock = threading.Lock()

    def of(self, session: str | None) -> Tab:
        """The tab of a session, a new one where it has none yet."""
        key = session or ""
        with self._lock:
            if key not in self._tabs:
                while len(self._tabs) >= _MOST_TABS:
                    idle = min(self._tabs, key=lambda name: self._tabs[name].used)
                    self._tabs.pop(idle).close()
                self._tabs[key] = Tab(Path(tempfile.mkdtemp(dir=self.folder)))
            tab = self._tabs[key]
            tab.used = time.monotonic()
            return tab

    @property
    def uploads(self) -> Path:
        """Where uploads lie until their tabs take them."""
        return self.folder / "uploads"

    def project(self, token: str) -> Project | None:
        """The project whose pictures are asked for by this token."""
        with self._lock:
            projects = [tab.project for tab in self._tabs.values()]
        return next((one for one in projects if one is not None and one.token == token), None)

    def folder_of(self, project: Project) -> Path | None:
        """The private folder of the tab that has a project."""
        with self._lock:
            return next((tab.folder for tab in self._tabs.values() if tab.project is project), None)

    def leave(self, session: str | None) -> None:
        """Forgets a tab that was closed."""
        with self._lock:
            tab = self._tabs.pop(session or "", None)
        if tab is not None:
            tab.close()

    def close(self) -> None:
        """Forgets everything and deletes the folder."""
        with self._lock:
            tabs, self._tabs = list(self._tabs.values()), {}
        for tab in tabs:
            tab.close()
        shutil.rmtree(self.folder, ignore_errors=True)
