"""Refinements of the library as facts that a file holds, beside their weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from gpuvos.features.stored import build_saliency, describe_saliency
from gpuvos.nn import DenseCRF, GuidedFilter
from gpuvos.pipeline.refinement import Refinements, RoiRefinement, ZoomRefinement

_OPTIONS: dict[type, tuple[str, ...]] = {
    DenseCRF: (
        "iterations",
        "appearance_weight",
        "appearance_sigma",
        "color_sigma",
        "smoothness_weight",
        "smoothness_sigma",
        "subsample",
        "lattice_points",
    ),
    GuidedFilter: ("radius", "epsilon", "subsample"),
    Refinements: (),
    RoiRefinement: ("weight", "margin", "size", "chunk"),
    ZoomRefinement: ("weight", "margin", "reach", "size", "chunk"),
}


def describe_refinement(refinement: nn.Module | None) -> dict[str, Any]:
    """What ``build_refinement`` needs besides the weights, as JSON holds it.

    Args:
        refinement: for example that of a VideoSegmenter.

    Returns:
        Its ``name``, and its ``options``, which are None for a refinement of somebody else.

    Example:
        >>> describe_refinement(GuidedFilter(radius=4))
        {'name': 'GuidedFilter', 'options': {'radius': 4, 'epsilon': 0.0001, 'subsample': 4}}
    """
    name = None if refinement is None else type(refinement).__name__
    return {"name": name, "options": _options(refinement)}


def _options(refinement: Any) -> dict[str, Any] | None:
    kind = type(refinement)
    if kind not in _OPTIONS:
        return None
    facts: dict[str, Any] = {name: getattr(refinement, name) for name in _OPTIONS[kind]}
    inside: list[nn.Module] = []
    if kind is Refinements:
        inside = list(refinement.steps)
        facts["steps"] = [describe_refinement(step) for step in inside]
    elif kind in (RoiRefinement, ZoomRefinement):
        inside = [] if refinement.refinement is None else [refinement.refinement]
        facts["refinement"] = describe_refinement(refinement.refinement)
    if kind is ZoomRefinement:
        facts["network"] = describe_saliency(refinement.network)
        if facts["network"] is None:
            return None
    return None if any(_options(module) is None for module in inside) else facts


def build_refinement(facts: dict[str, Any]) -> nn.Module | None:
    """A refinement without its weights, of what ``describe_refinement`` found.

    Args:
        facts: as found, with options.

    Returns:
        The module; None where there was none.

    Raises:
        KeyError: there is no such class, or a fact is missing.

    Example:
        >>> build_refinement(describe_refinement(GuidedFilter(radius=4))).radius
        4
    """
    if facts["name"] is None:
        return None
    kind = {one.__name__: one for one in _OPTIONS}[facts["name"]]
    stored = facts["options"]
    options = {name: stored[name] for name in _OPTIONS[kind]}
    if kind is Refinements:
        return Refinements(*(_built(step) for step in stored["steps"]))
    if kind is RoiRefinement:
        return RoiRefinement(_built(stored["refinement"]), **options)
    if kind is ZoomRefinement:
        inside = build_refinement(stored["refinement"])
        return ZoomRefinement(build_saliency(stored["network"]), refinement=inside, **options)
    module: nn.Module = kind(**options)
    return module


def _built(facts: dict[str, Any]) -> nn.Module:
    module = build_refinement(facts)
    if module is None:
        raise KeyError("name")
    return module
