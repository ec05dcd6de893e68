"""Presets: what they choose, that the first is the default, and that the command says the same."""

from __future__ import annotations

from argparse import Namespace
from functools import cache

import pytest
import torch
from torch import Tensor

import gpuvos
from gpuvos import Config
from gpuvos.cli.common import build_config, build_segmenter, chosen_refinement
from gpuvos.cli.options import common
from gpuvos.cli.options.common import Parser
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.flow.variational import FlowParameters
from gpuvos.nn import DenseCRF, GuidedFilter
from gpuvos.paper.cache import fingerprint
from gpuvos.pipeline.presets import PRESETS, Preset, preset_refinement, preset_segmenter
from gpuvos.pipeline.refinement import Refinements, refinement


def options(*words: str) -> Namespace:
    parser = Parser()
    common.add_refinement_argument(parser)
    common.add_method_arguments(parser)
    return parser.parse_args(["--device", "cpu", *words])


@cache
def ours(name: str = "accurate") -> gpuvos.VideoSegmenter:
    """The segmenter of a preset, built once."""
    return preset_segmenter(name)


def test_the_command_knows_all_of_them() -> None:
    assert tuple(PRESETS) == common.PRESETS
    assert options().preset == "accurate"


def test_the_first_is_the_default() -> None:
    assert fingerprint(ours().front_end) == fingerprint(gpuvos.VideoSegmenter().front_end)
    refine = ours().refinement
    assert isinstance(refine, Refinements)
    assert fingerprint(refine) == fingerprint(refinement("zoom-crf"))


@pytest.mark.slow
def test_presets_differ_in_what_a_cache_of_features_sees() -> None:
    assert len({fingerprint(ours(name).front_end) for name in PRESETS}) == len(PRESETS)


@pytest.mark.sampled
@pytest.mark.parametrize("name", sorted(PRESETS, reverse=True))
def test_what_the_command_builds(name: str) -> None:
    segmenter = build_segmenter(options("--preset", name), "robust")
    front_end = segmenter.front_end
    assert isinstance(front_end, SaliencyFeatures)
    assert fingerprint(front_end) == fingerprint(ours(name).front_end)
    assert front_end.network.size == PRESETS[name].saliency
    assert front_end.base.scales == (PRESETS[name].scale,)
    assert front_end.base.max_stride == PRESETS[name].max_stride
    assert front_end.flow.parameters_of_flow == PRESETS[name].flow
    assert str(segmenter.refinement) == str(ours(name).refinement)


def test_seed_sets_of_adjacent_frames_by_preset_rule_and_option() -> None:
    def chosen(*words: str, rule: str = "robust") -> int:
        return build_config(options(*words), rule).adjacent_sets

    assert [chosen("--preset", name) for name in ("accurate", "balanced", "fast", "realtime")] == [1, 1, 0, 0]
    assert chosen(rule="paper") == chosen("--adjacent-sets", "0") == 0
    assert chosen("--preset", "fast", "--adjacent-sets", "2") == 2
    assert [preset_segmenter(name).config.adjacent_sets for name in ("accurate", "realtime")] == [1, 0]
    assert preset_segmenter("realtime", Config()).config.adjacent_sets == 1  # a config is left as it is


def test_options_go_before_the_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "fast", Preset(precision="bfloat16", refine="guided"))
    chosen = build_segmenter(options("--preset", "fast"), "robust")
    assert isinstance(chosen.refinement, GuidedFilter)
    assert next(chosen.parameters()).dtype == torch.bfloat16
    words = ("--preset", "fast", "--refine", "crf", "--precision", "float32")
    other = build_segmenter(options(*words), "robust")
    assert isinstance(other.refinement, DenseCRF)
    assert {value.dtype for value in other.parameters()} == {torch.float32}


def test_other_front_ends_are_refined_when_asked_to() -> None:
    words = ("--front-end", "embedding")
    plain = build_segmenter(options(*words), "robust")
    assert plain.refinement is None
    assert plain.front_end.scales == (1.0,)
    assert chosen_refinement(options(*words, "--refine", "guided")) == "guided"


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_without_networks_the_finest_level_of_the_flow_counts(name: str) -> None:
    flow = build_segmenter(options("--preset", name, "--front-end", "appearance"), "robust").front_end.flow
    assert flow.parameters_of_flow.finest_warps == flow.parameters_of_flow.warps == PRESETS[name].flow.warps
    assert flow.parameters_of_flow.scale == PRESETS[name].flow.scale
    assert AppearanceFeatures().flow.parameters_of_flow == FlowParameters()


def test_refinements_by_name() -> None:
    assert preset_refinement("realtime") is None
    assert preset_refinement("accurate", "none") is None
    assert isinstance(preset_refinement("realtime", "guided"), GuidedFilter)
    for call in (lambda: preset_refinement("fast", "sharp"), lambda: preset_segmenter("quick")):
        with pytest.raises(gpuvos.InputError, match="wanted one of"):
            call()


@pytest.mark.slow
def test_all_give_masks(generator: torch.Generator) -> None:
    frames: Tensor = torch.rand(2, 3, 50, 70, generator=generator)
    for name in PRESETS:
        assert ours(name)(frames).mask.shape == (2, 50, 70)
