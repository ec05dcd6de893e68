"""Front ends of the library as facts that a file holds, beside their weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.network.embedding import EmbeddingNetwork
from gpuvos.features.network.u2net import U2NetP
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.flow.clip import DenseFlow, FlowParameters

_OPTIONS: dict[type, tuple[str, ...]] = {
    AppearanceFeatures: ("stride", "chunk", "color", "texture", "position", "motion"),
    LearnedFeatures: ("position", "motion", "scales", "max_stride", "combine", "floor", "temperature", "chunk"),
    SaliencyFeatures: ("weight", "share", "combine", "floor", "chunk"),
}


def describe_front_end(front_end: Any) -> dict[str, Any] | None:
    """What ``build_front_end`` needs besides the weights, as JSON holds it; None for a front end of somebody else.

    Args:
        front_end: for example that of a VideoSegmenter.

    Example:
        >>> describe_front_end(AppearanceFeatures(chunk=2))["chunk"]
        2
    """
    if type(front_end) not in _OPTIONS:
        return None
    facts: dict[str, Any] = {name: getattr(front_end, name) for name in _OPTIONS[type(front_end)]}
    if isinstance(front_end, SaliencyFeatures):
        facts["network"], base = describe_saliency(front_end.network), describe_front_end(front_end.base)
        if facts["network"] is None or base is None:
            return None
        return {**facts, "base": {"front_end": type(front_end.base).__name__, "options": base}}
    if type(front_end.flow) is not DenseFlow:
        return None
    facts["flow"] = {"chunk": front_end.flow.chunk, **dataclasses.asdict(front_end.flow.parameters_of_flow)}
    if isinstance(front_end, LearnedFeatures):
        network = front_end.network
        facts["network"] = {
            "dimensions": network.dimensions,
            "width": network.width,
            **_type_of(network.project.weight),
        }
    return facts


def build_front_end(name: str, facts: dict[str, Any]) -> Any:
    """A front end without its weights, of what ``describe_front_end`` found.

    Args:
        name: of its class.
        facts: as found.

    Raises:
        KeyError: there is no such class, or a fact is missing.

    Example:
        >>> build_front_end("AppearanceFeatures", describe_front_end(AppearanceFeatures(chunk=2))).chunk
        2
    """
    kind = {one.__name__: one for one in _OPTIONS}[name]
    options = {key: facts[key] for key in _OPTIONS[kind]}
    if kind is SaliencyFeatures:
        base = build_front_end(facts["base"]["front_end"], facts["base"]["options"])
        return SaliencyFeatures(build_saliency(facts["network"]), base=base, **options)
    flow = dict(facts["flow"])
    options["flow"] = DenseFlow(chunk=flow.pop("chunk"), parameters=FlowParameters(**flow))
    if kind is LearnedFeatures:
        network = dict(facts["network"])
        options["dtype"], options["scales"] = getattr(torch, network.pop("dtype")), tuple(options["scales"])
        options["weights"] = EmbeddingNetwork(**network)
    return kind(**options)


def describe_saliency(network: Any) -> dict[str, Any] | None:
    """What ``build_saliency`` needs besides the weights; None for a network of somebody else.

    Args:
        network: of ``SaliencyFeatures`` or ``ZoomRefinement``.

    Example:
        >>> describe_saliency(U2NetP(size=64))
        {'size': 64, 'detail': False, 'dtype': 'float32'}
    """
    if type(network) is not U2NetP:
        return None
    return {"size": network.size, "detail": network.detail, **_type_of(network.merge.weight)}


def build_saliency(facts: dict[str, Any]) -> U2NetP:
    """A network of salient objects without its weights, of what ``describe_saliency`` found.

    Args:
        facts: as found.

    Raises:
        KeyError: a fact is missing.

    Example:
        >>> build_saliency({"size": 64, "detail": False, "dtype": "float32"}).size
        64
    """
    options = dict(facts)
    dtype = getattr(torch, options.pop("dtype"))
    return U2NetP(**options).to(dtype)


def _type_of(weight: torch.Tensor) -> dict[str, str]:
    return {"dtype": str(weight.dtype).removeprefix("torch.")}
