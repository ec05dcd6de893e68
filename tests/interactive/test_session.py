"""A result knows what it was made with, so that no call can explain or edit it by other numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import gpuvos
from gpuvos import Config, Features, InputError, Segmentation

# none of these is the default, and each is read by one of the calls below
CONFIG = Config(rule="paper", num_seeds=12, window=3, num_background=3, adapt_every=2, temperature=0.5)


@pytest.fixture
def features(generator: torch.Generator) -> Features:
    embedding = torch.randn(3, 4, 12, 16, generator=generator)
    return Features(
        embedding, torch.rand(3, 12, 16, generator=generator), torch.randn(3, 2, 12, 16, generator=generator)
    )


@pytest.fixture
def result(features: Features) -> Segmentation:
    return gpuvos.segment(*features, config=CONFIG)


def calls(features: Features) -> dict[str, Callable[..., tuple[torch.Tensor, ...]]]:
    points, labels = torch.tensor([[8.0, 6.0]]), torch.tensor([1])

    def relabelled(result: Segmentation, **options: Config) -> tuple[torch.Tensor, ...]:
        edited = gpuvos.relabel(result, features.embedding, foreground=[(0, 0), (0, 1), (2, 1)], **options)
        return edited.probability, edited.foreground

    return {
        "explain": lambda result, **options: tuple(gpuvos.explain(result, features, **options)),
        "relabel": relabelled,
        "mask_from_points": lambda result, **options: (gpuvos.mask_from_points(result, points, labels, **options),),
    }


@pytest.mark.parametrize("name", ["explain", "relabel", "mask_from_points"])
def test_calls_use_the_config_that_a_result_carries(name: str, features: Features, result: Segmentation) -> None:
    call = calls(features)[name]
    assert result.config == CONFIG
    bare = result._replace(config=None)
    by_hand = call(bare, config=CONFIG)
    for found in (call(result), call(result, config=CONFIG)):
        assert all(torch.equal(one, two) for one, two in zip(found, by_hand, strict=True))
    wrong = call(bare, config=Config(num_seeds=12, window=3))  # what the calls took for granted once
    assert not all(torch.equal(one, two) for one, two in zip(wrong, by_hand, strict=True))
    with pytest.raises(InputError, match="config: got another one than the result was made with"):
        call(result, config=Config())
    with pytest.raises(InputError, match="config: got None"):
        call(bare)
