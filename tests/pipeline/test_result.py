"""Results cut and put together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import gpuvos
from gpuvos import Config, EdgeWeights, InputError
from gpuvos.pipeline.result import one_frame
from gpuvos.types import map_tensors


@pytest.mark.parametrize("rule", ["paper", "robust"])
def test_one_frame_of_a_result(rule: str, generator: torch.Generator) -> None:
    embedding = torch.randn(3, 4, 12, 16, generator=generator)
    config = Config(rule=rule, num_seeds=12, window=3, track_seeds=True)
    objectness, flow = torch.rand(3, 12, 16, generator=generator), torch.randn(3, 2, 12, 16, generator=generator)
    whole = gpuvos.segment(embedding, objectness, flow, config=config)
    part = one_frame(whole, 1)
    for name in whole._fields:
        one, all_of = getattr(part, name), getattr(whole, name)
        if name in ("track_score", "config"):
            assert one is all_of
        else:
            pairs = [(one, all_of)] if isinstance(one, Tensor) else zip(one, all_of, strict=True)
            assert all(torch.equal(a, b[1:2]) for a, b in pairs), name
    with pytest.raises(InputError, match=r"number: got 3, wanted a frame in \[0, 2\]"):
        one_frame(whole, 3)


def test_a_function_is_applied_to_every_tensor_and_to_nothing_else() -> None:
    weights = EdgeWeights(torch.tensor([1.0]), torch.tensor([2.0]))
    tripled = map_tensors(lambda a, b: a + 2 * b, (weights, None, "name"), (weights, None, "name"))
    assert tripled == ((torch.tensor([3.0]), torch.tensor([6.0])), None, "name")
    assert isinstance(tripled[0], EdgeWeights)
