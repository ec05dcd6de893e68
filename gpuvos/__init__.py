"""gpuvos finds and segments the moving object of a video with nobody naming it, in tensors from end to end.

Importing it needs torch alone; everything below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpuvos.config import Config
    from gpuvos.errors import InputError, OutOfMemoryError
    from gpuvos.features.base import FrontEnd
    from gpuvos.interactive.explain import Explanation, explain
    from gpuvos.interactive.instances import Instances, instances
    from gpuvos.interactive.prompts import Prompts, mask_from_points, prompts
    from gpuvos.interactive.relabel import relabel, seeds_at
    from gpuvos.pipeline.presets import preset_segmenter
    from gpuvos.pipeline.refinement import RoiRefinement, ZoomRefinement
    from gpuvos.pipeline.rules import Reason
    from gpuvos.pipeline.segment import segment
    from gpuvos.pipeline.stream import StreamingSegmenter
    from gpuvos.pipeline.video import VideoSegmenter
    from gpuvos.types import EdgeWeights, Features, Forest, Seeds, Segmentation

__version__ = "0.2.0"

_HOME = {
    "Config": "gpuvos.config",
    "InputError": "gpuvos.errors",
    "OutOfMemoryError": "gpuvos.errors",
    "FrontEnd": "gpuvos.features.base",
    "VideoSegmenter": "gpuvos.pipeline.video",
    "mask_from_points": "gpuvos.interactive.prompts",
    "Prompts": "gpuvos.interactive.prompts",
    "prompts": "gpuvos.interactive.prompts",
    "seeds_at": "gpuvos.interactive.relabel",
    "relabel": "gpuvos.interactive.relabel",
    "Reason": "gpuvos.pipeline.rules",
    "preset_segmenter": "gpuvos.pipeline.presets",
    "RoiRefinement": "gpuvos.pipeline.refinement",
    "ZoomRefinement": "gpuvos.pipeline.refinement",
    "explain": "gpuvos.interactive.explain",
    "Explanation": "gpuvos.interactive.explain",
    "instances": "gpuvos.interactive.instances",
    "Instances": "gpuvos.interactive.instances",
    "segment": "gpuvos.pipeline.segment",
    "StreamingSegmenter": "gpuvos.pipeline.stream",
    "EdgeWeights": "gpuvos.types",
    "Features": "gpuvos.types",
    "Forest": "gpuvos.types",
    "Seeds": "gpuvos.types",
    "Segmentation": "gpuvos.types",
}
_MODULES = (
    "data",
    "features",
    "flow",
    "functional",
    "interactive",
    "kernels",
    "metrics",
    "nn",
    "pipeline",
    "training",
    "viz",
)

__all__ = [
    "Config",
    "EdgeWeights",
    "Explanation",
    "Features",
    "Forest",
    "FrontEnd",
    "InputError",
    "Instances",
    "OutOfMemoryError",
    "Prompts",
    "Reason",
    "RoiRefinement",
    "Seeds",
    "Segmentation",
    "StreamingSegmenter",
    "VideoSegmenter",
    "ZoomRefinement",
    "explain",
    "instances",
    "mask_from_points",
    "preset_segmenter",
    "prompts",
    "relabel",
    "seeds_at",
    "segment",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"gpuvos.{name}")
    raise AttributeError(f"module 'gpuvos' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_MODULES])
