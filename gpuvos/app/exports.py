"""What a project leaves: a video, masks, arrays, COCO's run lengths and prompts for a promptable segmenter."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpuvos.app.project import Project
from gpuvos.cli.report import timeline_rows
from gpuvos.data.atomic import atomic_file
from gpuvos.data.masks import save_npz, write_mask
from gpuvos.data.video_writer import VideoWriter
from gpuvos.interactive.prompts import prompts
from gpuvos.viz.contact_sheet import contact_sheet
from gpuvos.viz.maps import overlay, save_png
from gpuvos.viz.report import report_html

COLORS = (
    (255, 40, 160),
    (40, 170, 255),
    (255, 190, 40),
    (70, 220, 110),
    (170, 110, 255),
    (255, 110, 70),
    (60, 230, 220),
    (220, 220, 80),
)
_PANEL = 320  # width of a picture of the sheet
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # of an entry of a zip, so that equal masks make equal files


def color_of(number: int) -> tuple[int, int, int]:
    """The colour of an object, from 1."""
    return COLORS[(number - 1) % len(COLORS)]


def write_overlay(project: Project, path: Path) -> None:
    """The frames with their objects over them, at the times of the input."""
    with VideoWriter(path, frame_rate=project.clip.frame_rate) as video:
        for frame in range(project.num_frames):
            picture, labels = project.clip.frames[frame : frame + 1], project.labels(frame).cpu()
            for one in project.objects:
                picture = overlay(picture, labels[None] == one.number, color=color_of(one.number))
            video.write(picture, timestamps=project.clip.timestamps[frame : frame + 1])


def write_masks_zip(project: Project, path: Path) -> None:
    """Palette PNGs as DAVIS has them, ``Annotations/NAME/00000.png``; values are numbers of objects."""
    folder = path.with_name(f"{path.stem}-masks")
    name = (
        "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in Path(project.name).stem) or "clip"
    )
    try:
        with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for frame, stem in enumerate(project.clip.names):
                file = folder / "mask.png"
                write_mask(file, project.labels(frame))
                entry = zipfile.ZipInfo(f"Annotations/{name}/{stem}.png", _EARLIEST)
                archive.writestr(entry, file.read_bytes())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_arrays(project: Project, path: Path) -> None:
    """Numbers of objects at full size, probabilities on the grid, seeds and their owners."""
    result = project.result
    save_npz(
        path,
        labels=torch.stack([project.labels(frame).cpu() for frame in range(project.num_frames)]),
        objects=[one.name for one in project.objects],
        object_numbers=torch.tensor([one.number for one in project.objects]),
        probability=project.current().probability.half(),
        region=result.forest.label.to(torch.int16),
        seed_index=result.seeds.index,
        seed_owner=project.owner,
        saliency=result.saliency,
        timestamps=project.clip.timestamps,
    )


def write_coco(project: Project, path: Path) -> None:
    """COCO's instances with uncompressed run lengths: an image a frame, an annotation for each object in it."""
    height, width = project.size
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for frame, stem in enumerate(project.clip.names):
        images.append({"id": frame + 1, "file_name": f"{stem}.png", "height": height, "width": width})
        labels = project.labels(frame)
        for one in project.objects:
            mask = labels == one.number
            if bool(mask.any()):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": frame + 1,
                        "category_id": one.number,
                        "iscrowd": 1,  # what loaders take run lengths for
                        "area": int(mask.sum()),
                        "bbox": _box(mask),
                        "segmentation": {"size": [height, width], "counts": run_lengths(mask)},
                    }
                )
    categories = [{"id": one.number, "name": one.name} for one in project.objects]
    _write_json(path, {"images": images, "annotations": annotations, "categories": categories})


def write_prompts(project: Project, path: Path) -> None:
    """Points and boxes of every object in every frame, as Segment Anything takes them, in pixels of the frame."""
    labels = torch.stack([project.labels(frame) for frame in range(project.num_frames)])
    owner, current = project.owner, project.current()
    found = {}
    for one in project.objects:
        own = current._replace(
            mask=labels == one.number,
            foreground=owner == one.number,
            background=(owner >= 0) & (owner != one.number),
        )
        found[one.name] = prompts(own)
    frames: list[dict[str, Any]] = []
    for frame, stem in enumerate(project.clip.names):
        objects = []
        for name, said in found.items():
            if bool(said.present[frame]):
                known = said.labels[frame] >= 0
                objects.append(
                    {
                        "name": name,
                        "point_coords": _rounded(said.points[frame][known]),
                        "point_labels": said.labels[frame][known].tolist(),
                        "box": _rounded(said.boxes[frame]),
                    }
                )
        frames.append({"frame": stem, "objects": objects})
    height, width = project.size
    _write_json(path, {"height": height, "width": width, "frames": frames})


def write_report(project: Project, path: Path) -> None:
    """The page that ``gpuvos segment`` leaves, of the project as it is."""
    video, sheet = path.with_name("report-overlay.mp4"), path.with_name("report-sheet.png")
    try:
        write_overlay(project, video)
        strips, flags = timeline_rows(project.timeline())
        now = project.current()
        frames = project.clip.frames.to(now.mask.device)
        width = min(_PANEL, max(16, frames.shape[-1]))
        save_png(sheet, contact_sheet(frames, project.features, now, panel_width=width, config=now.config))
        page = report_html(
            project.name,
            summary=", ".join(one.name for one in project.objects),
            video=video,
            sheet=sheet,
            times=(project.clip.timestamps - project.clip.timestamps[0]).tolist(),
            strips=strips,
            flags=flags,
            facts={"command, without corrections": project.command},
        )
        with atomic_file(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
    finally:
        video.unlink(missing_ok=True)
        sheet.unlink(missing_ok=True)


EXPORTS: dict[str, tuple[str, Callable[[Project, Path], None]]] = {
    "overlay.mp4": ("Video with the objects marked", write_overlay),
    "masks.zip": ("Masks, PNGs as DAVIS has them", write_masks_zip),
    "result.npz": ("Arrays for NumPy", write_arrays),
    "coco.json": ("COCO run lengths", write_coco),
    "prompts.json": ("Points and boxes for SAM", write_prompts),
    "report.html": ("A page to share", write_report),
}
"""Files by their names, in the words of the page."""


def run_lengths(mask: Tensor) -> list[int]:
    """COCO's uncompressed counts: runs down the columns, of zeros first.

    Example:
        >>> run_lengths(torch.tensor([[True, False], [True, True]]))
        [0, 2, 1, 1]
    """
    flat = mask.T.flatten().int().cpu()
    changes = (flat.diff() != 0).nonzero().flatten().add(1).tolist()
    bounds = [0, *([0] if bool(flat[0]) else []), *changes, len(flat)]
    return [last - first for first, last in pairwise(bounds)]


def _box(mask: Tensor) -> list[int]:
    """Left, top, width and height."""
    rows, columns = (mask.any(axis).nonzero() for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _rounded(values: Tensor) -> Any:
    return (values.double() * 100).round().div(100).tolist()


def _write_json(path: Path, value: object) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value), encoding="utf-8")
