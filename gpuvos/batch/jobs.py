"""What is to be segmented, and where it goes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gpuvos.batch.manifest import RECORD
from gpuvos.data.atomic import as_path
from gpuvos.data.images import IMAGE_SUFFIXES
from gpuvos.errors import fail

VIDEO_SUFFIXES = (
    ".264", ".265", ".3g2", ".3gp", ".apng", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264", ".h265",
    ".hevc", ".m2p", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg",
    ".mpv", ".mts", ".mxf", ".nut", ".ogg", ".ogm", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
)  # fmt: skip
_BESIDE = 10  # images for each video from which on a folder is one of images with a video beside them


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

    Warns:
        UserWarning: if files of a folder are left out. A folder of videos may hold images, such as their posters: it
            is one of frames only from more than ten images for each video on.

    Example:
        >>> [str(job.output.relative_to("/out")) for job in plan_jobs(["/a/one.mp4", "/b/two.mkv"], Path("/out"))]
        ['one-gpuvos', 'two-gpuvos']
        >>> plan_jobs(["/a/one.mp4"], Path("/out"))
        [Job(video=PosixPath('/a/one.mp4'), output=PosixPath('/out'))]
    """
    if len(inputs) == 1 and not inputs[0].startswith("@") and not _is_tree(as_path("video", inputs[0])):
        video = Path(inputs[0]).absolute()
        if video.is_dir():
            _say_videos_beside(video, [entry.name for entry in video.iterdir()])
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
        raise fail("video", f"{', '.join(inputs)}, which names no video", "lists of at least one video")
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
    found, seen = False, {source.resolve()}
    left_out: list[str] = []
    for folder, folders, names in os.walk(source, followlinks=True):
        here = Path(folder)
        beneath = root / here.relative_to(source)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and here / name != root)
        for name in [name for name in folders if (here / name).is_symlink()]:  # a link to what was seen may lead round
            real = (here / name).resolve()
            if real in seen:
                folders.remove(name)
            seen.add(real)
        if RECORD in names:  # results of an earlier run
            folders.clear()
        elif _is_frames(names):
            folders.clear()
            found = True
            _say_videos_beside(here, names)
            yield Job(here, _folder(here, beneath.parent))
        else:
            for name in sorted(name for name in names if _visible(name, VIDEO_SUFFIXES)):
                found = True
                yield Job(here / name, _folder(here / name, beneath))
            others = [name for name in names if not name.startswith(".") and not _visible(name, VIDEO_SUFFIXES)]
            left_out += sorted(str((here / name).relative_to(source)) for name in others)
    if not found:
        got = f"'{source}', a folder in which no file has the name of a video or an image"
        raise fail("video", got, "a video, a folder of images, or a folder of such")
    _say_left_out(source, left_out, "no names of videos")


def _say_videos_beside(folder: Path, names: Iterable[str]) -> None:
    _say_left_out(folder, sorted(name for name in names if _visible(name, VIDEO_SUFFIXES)), "its frames are images")


def _say_left_out(folder: Path, names: list[str], why: str) -> None:
    if names:
        listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        files = "1 file is" if len(names) == 1 else f"{len(names)} files are"
        warnings.warn(f"'{folder}': {files} left out ({why}): {listed}", UserWarning, stacklevel=2)


def _is_tree(path: Path) -> bool:
    """Whether this is a folder, and none of images."""
    if not path.is_dir():
        return False
    with os.scandir(path) as entries:
        return not _is_frames([entry.name for entry in entries])


def _is_frames(names: Sequence[str]) -> bool:
    """Whether a folder of these files is a video whose frames are images: posters of videos are no frames."""
    images = sum(_visible(name, IMAGE_SUFFIXES) for name in names)
    videos = sum(_visible(name, VIDEO_SUFFIXES) for name in names)
    return images > _BESIDE * videos


def _visible(name: str, suffixes: tuple[str, ...]) -> bool:
    return not name.startswith(".") and name.lower().endswith(suffixes)


def _folder(video: Path, parent: Path) -> Path:
    name = video.resolve().name if video.is_dir() else video.stem
    return parent / f"{name}-gpuvos"
