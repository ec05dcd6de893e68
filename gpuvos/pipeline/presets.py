"""How much work a segmenter does: from the best masks to a camera's frames as they come."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from gpuvos.config import Config
from gpuvos.errors import check_choice
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.network.weights import load_saliency
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.flow.clip import DenseFlow
from gpuvos.flow.variational import FOR_NETWORKS, FlowParameters
from gpuvos.pipeline.refinement import RefinementName, refinement
from gpuvos.pipeline.video import VideoSegmenter

PresetName = Literal["accurate", "balanced", "fast", "realtime"]
Precision = Literal["float32", "bfloat16"]
Refined = RefinementName | Literal["none"]


@dataclass(frozen=True)
class Preset:
    """What a preset chooses.

    Example:
        >>> PRESETS["accurate"].saliency
        320
    """

    saliency: int = 320
    """Side of the square at which U2NetP sees a frame; its time grows with the area."""
    scale: float = 1.0
    """Size at which the embedding network sees a frame, relative to it."""
    max_stride: int = 4
    """Most pixels of a frame per pixel of the grid, as of ``LearnedFeatures``."""
    precision: Precision = "float32"
    """Of the networks of the front end."""
    flow: FlowParameters = FOR_NETWORKS
    """Of the dense flow."""
    refine: Refined = "zoom-crf"
    """``none``, or a name of ``refinement``."""
    zoom: int = 224
    """Side of the square at which U2NetP and the CRF see the part around the object, where ``refine`` has a zoom."""
    adjacent_sets: int = None  # type: ignore[assignment]  # as in Config
    """As of ``Config``; None: what the rule has."""


PRESETS: dict[str, Preset] = {
    "accurate": Preset(),
    "balanced": Preset(saliency=288, zoom=192),
    "fast": Preset(saliency=192, zoom=192, adjacent_sets=0),
    "realtime": Preset(
        saliency=128,
        scale=0.5,
        max_stride=8,
        flow=FlowParameters(scale=0.25, warps=3, finest_warps=3),
        refine="none",
        adjacent_sets=0,
    ),
}


def preset_features(
    name: PresetName = "accurate",
    *,
    weights: str | os.PathLike[str] | None = None,
    flow: nn.Module | None = None,
    precision: Precision | None = None,
) -> SaliencyFeatures:
    """The bundled front end as a preset has it.

    Args:
        name: ``accurate``, ``balanced``, ``fast`` or ``realtime``.
        weights: as of ``LearnedFeatures``.
        flow: another flow than the preset's.
        precision: ``float32`` or ``bfloat16``, another than the preset's.

    Raises:
        InputError: there is no preset of that name, or as ``LearnedFeatures`` does.

    Example:
        >>> preset_features("fast").network.size
        192
    """
    base = preset_embedding(name, weights=weights, flow=flow, precision=precision)
    return SaliencyFeatures(load_saliency(size=PRESETS[name].saliency).to(base.network.project.weight.dtype), base=base)


def preset_embedding(
    name: PresetName = "accurate",
    *,
    weights: str | os.PathLike[str] | None = None,
    flow: nn.Module | None = None,
    precision: Precision | None = None,
) -> LearnedFeatures:
    """The embedding network of ``preset_features`` alone, without the network of salient objects.

    Args:
        name: as of ``preset_features``, as are the others.
        weights: as of ``LearnedFeatures``.
        flow: another flow than the preset's.
        precision: ``float32`` or ``bfloat16``, another than the preset's.

    Raises:
        InputError: as ``preset_features`` does.

    Example:
        >>> preset_embedding("realtime").max_stride
        8
    """
    check_choice("name", name, get_args(PresetName))
    preset = PRESETS[name]
    dtype = getattr(torch, precision or preset.precision)
    flow = DenseFlow(parameters=preset.flow) if flow is None else flow
    return LearnedFeatures(weights, flow=flow, dtype=dtype, scales=(preset.scale,), max_stride=preset.max_stride)


def preset_refinement(name: PresetName = "accurate", kind: Refined | None = None) -> nn.Module | None:
    """The refinement of a preset.

    Args:
        name: of the preset.
        kind: another kind than the preset's: ``none``, or a name of ``refinement``.

    Raises:
        InputError: there is no preset or no refinement of that name.

    Example:
        >>> preset_refinement("fast", "zoom").size
        192
    """
    check_choice("name", name, get_args(PresetName))
    preset = PRESETS[name]
    kind = preset.refine if kind is None else kind
    return None if kind == "none" else refinement(kind, size=preset.zoom)


def preset_segmenter(name: PresetName = "accurate", config: Config | None = None) -> VideoSegmenter:
    """A segmenter as a preset has it, in evaluation mode.

    Args:
        name: ``accurate``, which the commands take; ``balanced``; ``fast``; or ``realtime``.
        config: parameters of the method; None: the defaults, with the ``adjacent_sets`` of the preset.

    Raises:
        InputError: there is no preset of that name.

    Example:
        >>> frames = torch.zeros(2, 3, 32, 48, dtype=torch.uint8)
        >>> preset_segmenter("realtime")(frames).mask.shape
        torch.Size([2, 32, 48])
    """
    front_end, refine = preset_features(name), preset_refinement(name)
    config = Config(adjacent_sets=PRESETS[name].adjacent_sets) if config is None else config
    return VideoSegmenter(front_end, config, refinement=refine).eval()
