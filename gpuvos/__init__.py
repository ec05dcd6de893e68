"""gpuvos finds and segments the moving object of a video with nobody naming it, in tensors from end to end.

Importing it needs torch alone; everything below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpuvos.config import Config
    from gpuvos.editing import relabel, seeds_at
    from gpuvos.errors import InputError, OutOfMemoryError
    from gpuvos.explanation import Explanation, Reason, explain
    from gpuvos.objects import Instances, instances
    from gpuvos.prompting import Prompts, mask_from_points, prompts
    from gpuvos.segmenter import FrontEnd, VideoSegmenter, segment
    from gpuvos.streaming import StreamingSegmenter
    from gpuvos.types import EdgeWeights, Features, Forest, Seeds, Segmentation

__version__ = "0.1.0"

_HOME = {
    "Config": "gpuvos.config",
    "InputError": "gpuvos.errors",
    "OutOfMemoryError": "gpuvos.errors",
    "FrontEnd": "gpuvos.segmenter",
    "VideoSegmenter": "gpuvos.segmenter",
    "mask_from_points": "gpuvos.prompting",
    "Prompts": "gpuvos.prompting",
    "prompts": "gpuvos.prompting",
    "seeds_at": "gpuvos.editing",
    "relabel": "gpuvos.editing",
    "Reason": "gpuvos.explanation",
    "explain": "gpuvos.explanation",
    "Explanation": "gpuvos.explanation",
    "instances": "gpuvos.objects",
    "Instances": "gpuvos.objects",
    "segment": "gpuvos.segmenter",
    "StreamingSegmenter": "gpuvos.streaming",
    "EdgeWeights": "gpuvos.types",
    "Features": "gpuvos.types",
    "Forest": "gpuvos.types",
    "Seeds": "gpuvos.types",
    "Segmentation": "gpuvos.types",
}
_MODULES = ("data", "features", "functional", "kernels", "metrics", "nn", "sheet", "viz")

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
    "Seeds",
    "Segmentation",
    "StreamingSegmenter",
    "VideoSegmenter",
    "explain",
    "instances",
    "mask_from_points",
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
