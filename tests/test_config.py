"""Parameters: what they may be and what is refused."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
import torch

from gpuvos import Config, InputError


def test_defaults_of_the_paper() -> None:
    # numbers of the paper or inferred from it; those of the robust rule are tuned and not fixed here
    config = Config(rule="paper")
    assert (config.num_seeds, config.window, config.num_background) == (100, 9, 40)
    assert (config.edge_reduce, config.distance, config.rank_by) == ("max", "minimax", "both")
    assert (config.coverage, config.background_objectness, config.background_saliency) == (0.5, 0.1, 0.005)
    assert not config.squared_saliency
    assert (config.adapt_every, config.mask_coverage, config.temperature) == (1, 0.5, 1.0)
    assert config.adjacent_sets == 0


def test_seeds_and_window_follow_the_rule_where_they_are_not_given() -> None:
    robust, paper = Config(), Config(rule="paper")
    assert robust.num_seeds > paper.num_seeds
    assert robust.window < paper.window
    assert (Config(num_seeds=7).num_seeds, Config(window=11).window) == (7, 11)
    assert Config(num_seeds=7).window == robust.window
    assert Config(num_seeds=100, window=9, rule="paper") == paper


def test_is_a_frozen_value() -> None:
    config = Config(rule="paper")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.rule = "robust"
    assert config == Config(rule="paper")
    assert hash(config) == hash(Config(rule="paper"))
    assert config != Config(rule="paper", window=5)
    assert pickle.loads(pickle.dumps(config)) == config
    assert dataclasses.replace(config, window=5).window == 5


GOOD = {
    "rule": ["paper", "robust"],
    "num_seeds": [1, 500],
    "window": [1, 5, 31],
    "edge_reduce": ["max", "mean"],
    "distance": ["minimax", "shortest"],
    "num_background": [1, 200],
    "rank_by": ["both", "motion", "objectness"],
    "link_by": ["mean", "last"],
    "coverage": [0, 1],
    "squared_saliency": [True, False],
    "background_objectness": [0, 1.0],
    "background_saliency": [0, 1.0],
    "adapt_every": [1, 9, None],
    "adjacent_sets": [0, 1, 7],
    "track_seeds": [True, False],
    "temperature": [0.01, 100],
    "mask_coverage": [0, 1],
    "min_motion": [0, 3.5],
    "softness": [0, 0.25],
    "smoothing_neighbors": [1, 300],
    "smoothing_share": [0.001, 1],
    "smoothing_frames": [1, 100],
    "confident_share": [0, 1],
    "vote_threshold": [0, 1],
    "mask_vote": [0, 1],
}
SHARE = [-0.1, 1.1, float("nan")]
COUNT = [0, -1, 2.5, float("nan"), "9"]
BAD = {
    "rule": ["Paper", None, 1],
    "num_seeds": COUNT,
    "window": [*COUNT, 4],
    "edge_reduce": ["sum"],
    "distance": ["euclidean"],
    "num_background": COUNT,
    "rank_by": ["saliency"],
    "link_by": ["first"],
    "coverage": SHARE,
    "squared_saliency": [1, "yes", None],
    "background_objectness": SHARE,
    "background_saliency": SHARE,
    "adapt_every": COUNT,
    "adjacent_sets": [-1, 2.5, float("nan"), "9"],
    "track_seeds": [1, "yes", None],
    "temperature": [0, -1, float("nan"), None],
    "mask_coverage": SHARE,
    "min_motion": [-1, float("nan")],
    "softness": [-1, float("nan")],
    "smoothing_neighbors": COUNT,
    "smoothing_share": [0, -0.1, float("nan")],
    "smoothing_frames": COUNT,
    "confident_share": SHARE,
    "vote_threshold": SHARE,
    "mask_vote": SHARE,
}


def test_the_frames_whose_sets_serve_one() -> None:
    frame, last = torch.arange(5), torch.tensor([[4], [1], [-1]])

    def sources(config: Config) -> list[list[int]]:
        found: list[list[int]] = config.source_frames(frame, 4).tolist()
        return found

    assert sources(Config(adjacent_sets=0)) == [[0, 1, 2, 3, 4]]
    assert sources(Config()) == [[0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 4]]
    assert sources(Config(adapt_every=2)) == [[0, 0, 0, 2, 2], [0, 0, 2, 2, 4], [0, 2, 2, 4, 4]]
    assert sources(Config(adapt_every=None, adjacent_sets=3)) == [[0] * 5]
    assert len(sources(Config(adjacent_sets=2))) == 5
    before, own, after = Config().source_frames(frame, last)  # videos of 5, 2 and no frames in a batch
    assert before.tolist() == [[0, 0, 1, 2, 3], [0, 0, 1, 1, 1], [0] * 5]
    assert own.tolist() == [[0, 1, 2, 3, 4], [0, 1, 1, 1, 1], [0] * 5]
    assert after.tolist() == [[1, 2, 3, 4, 4], [1, 1, 1, 1, 1], [0] * 5]
    assert Config(adapt_every=None).source_frames(frame, last).tolist() == [[[0] * 5] * 3]


def test_every_field_is_listed() -> None:
    names = {field.name for field in dataclasses.fields(Config)}
    assert set(GOOD) == names  # a new parameter needs its good and bad values here
    assert set(BAD) == set(GOOD)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_good_values(name: str, value: object) -> None:
    assert getattr(Config(**{name: value}), name) == value


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_values_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"^config\.{name}:"):
        Config(**{name: value})
