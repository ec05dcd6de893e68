"""Pictures of one frame of a project, as the page asks for them by name."""

from __future__ import annotations

import io
from collections import OrderedDict
from threading import Lock

import torch
from torch import Tensor

from gpuvos.app.project import Project
from gpuvos.pipeline.result import one_frame
from gpuvos.types import Features
from gpuvos.viz.contact_sheet import step_pictures
from gpuvos.viz.maps import heatmap

_KEPT = 64  # frames whose steps are kept, of all projects together
_WIDTH = 320  # of a picture of a step

STEPS = {
    "embedding": "Looks alike, same colour",
    "objectness": "How much like an object",
    "edge-map": "Where looks change",
    "candidates": "Calm places",
    "seeds": "Sample points",
    "regions": "What each point stands for",
    "flow": "Motion (colour is direction)",
    "region-flow": "Motion of each region",
    "saliency": "Moves unlike the ground",
    "seed-sets": "Points of object and ground",
}
"""Steps by their names in addresses, in the words of the page."""

VIEWS = ("input", "objects", "probability", "confidence", *STEPS)


class Pictures:
    """Draws pictures of projects and keeps the steps of the frames seen last."""

    def __init__(self) -> None:
        self._steps: OrderedDict[tuple[str, int, int], dict[str, Tensor]] = OrderedDict()
        self._lock = Lock()

    def draw(self, project: Project, frame: int, view: str) -> tuple[bytes, str]:
        """A picture and its media type; KeyError for a view that there is not."""
        if view == "input":
            return _jpeg(project.clip.frames[frame])
        with project.lock:
            if view == "objects":
                return _png(project.labels(frame))
            if view in ("probability", "confidence"):
                value = project.probability(frame).amax(0)
                value = value if view == "probability" else (2 * value - 1).abs()
                return _jpeg(heatmap(value[None], low=0.0, high=1.0)[0])
            return _jpeg(self._of_frame(project, frame)[view])

    def _of_frame(self, project: Project, frame: int) -> dict[str, Tensor]:
        key = (project.token, project.version, frame)
        with self._lock:
            if key in self._steps:
                self._steps.move_to_end(key)
                return self._steps[key]
        found = draw_steps(project, frame)
        with self._lock:
            self._steps[key] = found
            while len(self._steps) > _KEPT:
                self._steps.popitem(last=False)
        return found


@torch.no_grad()
def draw_steps(project: Project, frame: int) -> dict[str, Tensor]:
    """Pictures of every step of one frame ``[3, height, width]``, all of one size, by their names in addresses."""
    place = slice(frame, frame + 1)
    result = one_frame(project.current(), frame)
    features = Features._make(value[place] for value in project.features)
    frames = project.clip.frames[place].to(result.mask.device)
    height, width = frames.shape[-2:]
    large = torch.nn.functional.interpolate(result.mask[:, None].float(), size=(height, width))[:, 0] > 0
    drawn = step_pictures(
        frames,
        features,
        result._replace(mask=large),
        [0],
        panel_width=min(_WIDTH, max(16, width)),
        config=result.config,
        flow_scale=project.flow_scale,
    )
    return {title.replace(" ", "-"): picture[0] for title, picture in drawn.items()}


def _jpeg(picture: Tensor) -> tuple[bytes, str]:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture.movedim(0, -1).contiguous().cpu().numpy()).save(file, "JPEG", quality=88)
    return file.getvalue(), "image/jpeg"


def _png(numbers: Tensor) -> tuple[bytes, str]:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(numbers.contiguous().cpu().numpy()).save(file, "PNG", compress_level=1)
    return file.getvalue(), "image/png"
