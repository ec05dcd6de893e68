"""Weights in place of labels: by hand, against brute force, against the hard labels, and by finite differences."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

import gpuvos
from gpuvos import Config, InputError
from gpuvos import functional as F
from gpuvos.functional.relaxed import soft_below
from gpuvos.functional.voting import take_vote


def similarity(distance: float) -> float:
    return 2 / (1 + math.exp(distance))


def test_steps_by_hand() -> None:
    found = soft_below(torch.tensor([0.0, 1.0, 2.0, 3.0]), 2.0, softness=0.5)
    expected = [1 / (1 + math.exp(-(1 - value / 2) / 0.5)) for value in range(4)]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert soft_below(torch.tensor([0.0, 1.0]), 0.0, softness=0.1).tolist() == pytest.approx([1, 0], abs=1e-4)
    with pytest.raises(InputError, match="softness"):
        soft_below(torch.zeros(1), 1.0, softness=0.0)


def test_probability_by_hand() -> None:
    # distances 1 and 4 to two seeds, of weights (0.75, 0.25) and (0.5, 1)
    e, seeds = torch.tensor([[[[0.0]]]]), torch.tensor([[[1.0], [2.0]]])
    foreground, background = torch.tensor([[0.75, 0.5]]), torch.tensor([[0.25, 1.0]])
    yes = max(0.75 * similarity(1), 0.5 * similarity(4))
    no = max(0.25 * similarity(1), 1.0 * similarity(4))
    found = F.soft_foreground_probability(e, seeds, foreground, background)
    torch.testing.assert_close(found, torch.tensor([[[yes / (yes + no)]]]))
    nothing = torch.zeros(1, 2)
    assert F.soft_foreground_probability(e, seeds, nothing, background).item() == 0
    assert F.soft_foreground_probability(e, seeds, foreground, nothing).item() == 1


def test_probability_against_brute_force(generator: torch.Generator) -> None:
    e = torch.randn(2, 3, 4, 5, 6, generator=generator)
    seeds = torch.randn(2, 3, 7, 4, generator=generator)
    foreground, background = torch.rand(2, 2, 3, 7, generator=generator)
    found = F.soft_foreground_probability(e, seeds, foreground, background, temperature=1.5)
    distance = (e.flatten(-2).mT[..., None, :] - seeds[..., None, :, :]).square().sum(-1).double()  # [..., P, K]
    r = 2 / (1 + (distance / 1.5).exp())
    yes, no = ((weight[..., None, :] * r).amax(-1) for weight in (foreground, background))
    torch.testing.assert_close(found, (yes / (yes + no)).float().view(2, 3, 5, 6))


def test_weights_of_zero_and_one_are_the_hard_sets(generator: torch.Generator) -> None:
    e, seeds = torch.randn(3, 4, 9, 8, generator=generator), torch.randn(3, 6, 4, generator=generator)
    chosen = torch.rand(3, 6, generator=generator) < 0.5
    for scale in (1.0, 30.0):  # the second overflows exp
        hard = F.foreground_probability(scale * e, scale * seeds, chosen, ~chosen)
        soft = F.soft_foreground_probability(scale * e, scale * seeds, chosen.float(), (~chosen).float())
        torch.testing.assert_close(soft, hard, atol=1e-4, rtol=1e-3)


def test_background_by_hand() -> None:
    objectness, saliency = torch.tensor([[0.1, 0.3, 0.1, 0.9]]), torch.tensor([[0.005, 1.0, 1.0, 1.0]])
    foreground, valid = torch.tensor([[False, False, True, False]]), torch.tensor([[True, True, True, False]])
    found = F.soft_background(objectness, saliency, foreground, valid, softness=0.5)
    dull = 1 / (1 + math.exp(4))  # (1 - 3) / 0.5
    torch.testing.assert_close(found, torch.tensor([[0.75, dull, 0.0, 0.0]]))  # one half or another half
    with pytest.raises(InputError, match="saliency: got shape"):
        F.soft_background(objectness, saliency[:, :3], foreground, valid)


def scene(frames: int = 3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    inside = torch.zeros(frames, 1, 10, 12)
    for t in range(frames):
        inside[t, :, 3:8, 2 + t : 7 + t] = 1
    e = torch.cat((2 * inside, 0 * inside), 1) + 0.5 * torch.randn(frames, 2, 10, 12, generator=g)
    o = 0.1 + 0.6 * inside[:, 0] + 0.3 * torch.rand(frames, 10, 12, generator=g)
    flow = torch.cat((2 * inside, 0 * inside), 1) + 0.1 * torch.randn(frames, 2, 10, 12, generator=g)
    return e.to(dtype), o.to(dtype), flow.to(dtype)


SMALL = {"num_seeds": 10, "num_background": 3, "window": 3, "smoothing_neighbors": 4, "smoothing_share": 1.0}


@pytest.mark.parametrize("rule", ["paper", "robust"])
@pytest.mark.parametrize("every", [1, 2, None])
def test_a_hard_step_gives_the_hard_masks(rule: str, every: int | None) -> None:
    config = Config(rule=rule, adapt_every=every, **SMALL)
    hard = gpuvos.segment(*scene(), config=config)
    assert 0.02 < hard.mask.float().mean() < 0.5
    soft = gpuvos.segment(*scene(), config=dataclasses.replace(config, softness=1e-4))
    torch.testing.assert_close(soft.probability, hard.probability, atol=1e-4, rtol=1e-3)
    assert torch.equal(soft.foreground, hard.foreground)
    wide = gpuvos.segment(*scene(), config=dataclasses.replace(config, softness=0.25))
    assert not torch.allclose(wide.probability, hard.probability, atol=1e-3)
    assert gpuvos.metrics.region_similarity(wide.mask, hard.mask).min() > 0.5


def test_a_soft_vote_of_no_width_is_the_vote(generator: torch.Generator) -> None:
    e, score = torch.randn(4, 9, 3, generator=generator), torch.rand(4, 9, generator=generator)
    valid = torch.rand(4, 9, generator=generator) < 0.8
    hard = take_vote(e, score, valid, neighbors=4)
    soft = take_vote(e, score, valid, neighbors=4, softness=1e-5)
    torch.testing.assert_close(soft.share, hard.share)
    assert torch.equal(soft.smoothed, hard.smoothed)


@pytest.mark.sampled
@pytest.mark.parametrize("rule", ["paper", "robust"])
def test_the_whole_chain_by_finite_differences(rule: str) -> None:
    """Probability and CRF with respect to embedding, objectness, flow and temperature."""
    e, o, flow = scene(2, torch.float64)
    e, o, flow = e[..., :5, :6], o[..., :5, :6], flow[..., :5, :6]
    image = torch.randint(0, 256, (2, 3, 5, 6), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    temperature = torch.tensor(1.5, dtype=torch.float64)

    def chain(e: Tensor, o: Tensor, flow: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        near = {"background_objectness": 0.3, "background_saliency": 0.1} if rule == "paper" else {"min_motion": 0.0}
        config = Config(rule=rule, temperature=temperature, softness=0.3, **near, **SMALL)
        probability = gpuvos.segment(e, o, flow, config=config, validate=False).probability
        return probability, F.dense_crf(probability, image, iterations=1)

    inputs = [value.requires_grad_() for value in (e, o, flow, temperature)]
    assert torch.autograd.gradcheck(chain, inputs, eps=1e-7, atol=1e-4, rtol=1e-3, fast_mode=True)
    for output in chain(*inputs):
        for grad in torch.autograd.grad(output.square().sum(), inputs, retain_graph=True):
            assert grad.isfinite().all()
            assert (grad != 0).any()


def test_gradients_are_finite_where_nothing_moves() -> None:
    for rule in ("paper", "robust"):
        e, o, flow = (value.requires_grad_() for value in scene())
        config = Config(rule=rule, softness=0.25, **SMALL)
        gpuvos.segment(e, 0 * o, 0 * flow, config=config).probability.sum().backward()
        for value in (e, o, flow):
            assert value.grad is None or value.grad.isfinite().all()


def test_where_softness_has_no_meaning() -> None:
    config = Config(softness=0.25, **SMALL)
    result = gpuvos.segment(*scene(), config=config)
    with pytest.raises(InputError, match=r"config\.softness: got 0\.25, wanted 0"):
        gpuvos.relabel(result, scene()[0], config=config)
    with pytest.raises(InputError, match=r"config\.softness: got 0\.25, wanted 0"):
        gpuvos.StreamingSegmenter(config=config)
    with pytest.raises(InputError, match=r"config\.softness"):
        Config(softness=-1.0)
    with pytest.raises(InputError, match=r"config\.temperature: got shape \(2,\)"):
        Config(temperature=torch.ones(2))
