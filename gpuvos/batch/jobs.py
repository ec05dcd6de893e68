"""What is to be segmented, and where it goes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gpuvos.batch.manifest import RECORD
from gpuvos.data.atomic import as_path
from gpuvos.data.images import IMAGE_SUFFIXES
from gpuvos.errors import fail

VIDEO_SUFFIXES = (
    ".avi",
    ".flv",
    ".gif",
    ".m2ts",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".mxf",
    ".ogv",
    ".ts",
    ".webm",
    ".wmv",
)


class Job(NamedTuple):
    """One video and the folder that its results go to."""

    video: Path
    output: Path


def plan_jobs(inputs: Sequence[str], output: Path | None) -> list[Job]:
    """One job a video, in the order of the inputs; paths are absolute.

    One input that is a video gives one job whose folder is ``output`` itself (default: ``NAME-gpuvos`` in the working
    directory). Otherwise every video goes to ``output/NAME-gpuvos`` (default: of the working directory).

    Args:
        inputs: each a video file or a folder of images; or a folder of such, at any depth, whose tree ``output``
            takes over; or ``@FILE``, a text file of inputs, one a line (empty ones and those with # are left out).
        output: folder to write to.

    Raises:
        InputError: if an input holds no video, or two videos would be written to one folder.

    Example:
        >>> [str(job.output.relative_to("/out")) for job in plan_jobs(["/a/one.mp4", "/b/two.mkv"], Path("/out"))]
        ['one-gpuvos', 'two-gpuvos']
        >>> plan_jobs(["/a/one.mp4"], Path("/out"))
        [Job(video=PosixPath('/a/one.mp4'), output=PosixPath('/out'))]
    """
    if len(inputs) == 1 and not inputs[0].startswith("@") and not _is_tree(as_path("video", inputs[0])):
        video = Path(inputs[0]).absolute()
        return [Job(video, (output or _folder(video, Path())).absolute())]
    root = (output or Path()).absolute()
    jobs: dict[Path, Job] = {}
    for text in _expand(inputs):
        for job in _jobs(as_path("video", text).absolute(), root):
            other = jobs.setdefault(job.output, job)
            if other.video != job.video:
                got = f"'{other.video}' and '{job.video}', both of which would become '{job.output}'"
                raise fail("video", got, "one video of a name", "give the folder they are in, or rename one")
    if not jobs:
        raise fail("video", f"{', '.join(inputs)} without any path", "lists of at least one video")
    return list(jobs.values())


def _expand(inputs: Iterable[str]) -> Iterator[str]:
    for text in inputs:
        if not text.startswith("@"):
            yield text
            continue
        try:
            lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            remedy = "for a file whose name begins with @ write ./@..."
            raise fail("video", f"'{text}' ({error})", "@FILE, a text file of paths", remedy) from error
        yield from (line for line in lines if line.strip() and not line.startswith("#"))


def _jobs(source: Path, root: Path) -> Iterator[Job]:
    if not _is_tree(source):
        yield Job(source, _folder(source, root))
        return
    found = False
    for folder, folders, names in os.walk(source):
        here = Path(folder)
        beneath = root / here.relative_to(source)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and here / name != root)
        if RECORD in names:  # results of an earlier run
            folders.clear()
        elif any(_visible(name, IMAGE_SUFFIXES) for name in names):
            folders.clear()
            found = True
            yield Job(here, _folder(here, beneath.parent))
        else:
            for name in sorted(name for name in names if _visible(name, VIDEO_SUFFIXES)):
                found = True
                yield Job(here / name, _folder(here / name, beneath))
    if not found:
        wanted = "a video, a folder of images, or a folder of such"
        raise fail("video", f"folder '{source}' without any", wanted)


def _is_tree(path: Path) -> bool:
    """Whether this is a folder, and none of images."""
    if not path.is_dir():
        return False
    with os.scandir(path) as entries:
        return not any(_visible(entry.name, IMAGE_SUFFIXES) for entry in entries)


def _visible(name: str, suffixes: tuple[str, ...]) -> bool:
    return not name.startswith(".") and name.lower().endswith(suffixes)


def _folder(video: Path, parent: Path) -> Path:
    name = video.resolve().name if video.is_dir() else video.stem
    return parent / f"{name}-gpuvos"
