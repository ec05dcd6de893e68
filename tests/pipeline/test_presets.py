"""Presets: what they choose, that the first is the default, and that the command says the same."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch
from torch import Tensor

import gpuvos
from gpuvos.cli.common import build_segmenter, chosen_refinement
from gpuvos.cli.options import common
from gpuvos.cli.options.common import Parser
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.nn import DenseCRF, GuidedFilter
from gpuvos.paper.cache import fingerprint
from gpuvos.pipeline.presets import PRESETS, preset_features, preset_segmenter, refinement


def options(*words: str) -> Namespace:
    parser = Parser()
    common.add_crf_argument(parser)
    common.add_method_arguments(parser)
    return parser.parse_args(["--device", "cpu", *words])


def test_the_command_knows_all_of_them() -> None:
    assert tuple(PRESETS) == common.PRESETS
    assert options().preset == "accurate"


def test_the_first_is_the_default() -> None:
    assert fingerprint(preset_features()) == fingerprint(gpuvos.VideoSegmenter().front_end)
    assert preset_segmenter().crf is None


def test_presets_differ_in_what_a_cache_of_features_sees() -> None:
    assert len({fingerprint(preset_features(name)) for name in PRESETS}) == len(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_what_the_command_builds(name: str) -> None:
    ours, front_end = preset_segmenter(name), build_segmenter(options("--preset", name), "robust").front_end
    assert isinstance(front_end, SaliencyFeatures)
    assert fingerprint(front_end) == fingerprint(ours.front_end)
    assert front_end.network.size == PRESETS[name].saliency
    assert front_end.base.scales == (PRESETS[name].scale,)
    assert front_end.flow.parameters_of_flow == PRESETS[name].flow


def test_options_go_before_the_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "fast", gpuvos.pipeline.presets.Preset(precision="bfloat16", refine="guided"))
    chosen = build_segmenter(options("--preset", "fast"), "robust")
    assert isinstance(chosen.crf, GuidedFilter)
    assert next(chosen.parameters()).dtype == torch.bfloat16
    words = ("--preset", "fast", "--refine", "none", "--precision", "float32", "--front-end", "embedding")
    assert chosen_refinement(options(*words)) == "none"
    other = build_segmenter(options(*words), "robust")
    assert other.crf is None
    assert {value.dtype for value in other.parameters()} == {torch.float32}
    assert other.front_end.scales == (1.0, 0.5)


def test_refinements_by_name() -> None:
    assert refinement("none") is None
    assert isinstance(refinement("crf"), DenseCRF)
    for call in (lambda: refinement("sharp"), lambda: preset_segmenter("quick")):
        with pytest.raises(gpuvos.InputError, match="wanted one of"):
            call()


@pytest.mark.slow
def test_all_give_masks(generator: torch.Generator) -> None:
    frames: Tensor = torch.rand(3, 3, 50, 70, generator=generator)
    for name in PRESETS:
        assert preset_segmenter(name)(frames).mask.shape == (3, 50, 70)
