"""Forward mode and the transforms of ``torch.func`` through every function that has a gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.forward_ad import dual_level, make_dual, unpack_dual
from torch.func import grad, jacrev, jvp, vmap

import gpuvos
from gpuvos import functional as F

K = 3
FOREGROUND = torch.tensor([[True, False, False], [True, True, False]])


def clip(generator: torch.Generator) -> Tensor:
    return torch.randn(2, 2, 4, 5, generator=generator, dtype=torch.float64)


def probability(e: Tensor) -> Tensor:
    seeds = e[..., 0, :K].mT
    return F.foreground_probability(e, seeds, FOREGROUND, ~FOREGROUND, temperature=1.0 + e[0, 0, 0, 0].square())


def crf(e: Tensor) -> Tensor:
    image = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    return F.dense_crf(e[:, 0].sigmoid(), image, iterations=2, lattice_points=400)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "edge_weights": lambda e: F.edge_weights(e).right,
    "edge_map": lambda e: F.edge_map(e, reduce="mean"),
    "region_mean": lambda e: F.region_mean(e, torch.arange(40).view(2, 4, 5) % 4 - 1, K),
    "foreground_probability": probability,
    "dense_crf": crf,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_tangents_are_those_of_finite_differences(name: str, generator: torch.Generator) -> None:
    function, e = FUNCTIONS[name], clip(generator)
    direction = torch.randn(e.shape, generator=generator, dtype=torch.float64)
    step = 1e-6 * direction
    wanted = (function(e + step) - function(e - step)) / 2e-6
    with dual_level():
        value, tangent = unpack_dual(function(make_dual(e, direction)))
    torch.testing.assert_close(value, function(e))
    torch.testing.assert_close(tangent, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(jvp(function, (e,), (direction,))[1], wanted, rtol=1e-5, atol=1e-6)
    assert wanted.abs().sum() > 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_transforms_are_those_of_backward(name: str, generator: torch.Generator) -> None:
    function = FUNCTIONS[name]
    samples = torch.stack((clip(generator), clip(generator)))

    def loss(e: Tensor) -> Tensor:
        return function(e).square().sum()

    each = vmap(grad(loss))(samples)  # of every sample
    for sample, found in zip(samples, each, strict=True):
        leaf = sample.clone().requires_grad_()
        (wanted,) = torch.autograd.grad(loss(leaf), leaf)
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(jacrev(loss)(sample), wanted)


def test_hand_worked_tangent() -> None:
    # of the weight |3 - 0| = 3 when the second pixel moves at speed 2
    e, speed = torch.tensor([[[[0.0, 3.0]]]]), torch.tensor([[[[0.0, 2.0]]]])
    assert jvp(lambda e: F.edge_weights(e).right, (e,), (speed,))[1].item() == 2


@pytest.mark.parametrize("rule", ["paper", "robust"])
def test_vmap_of_the_method_is_the_method_of_each(rule: str, generator: torch.Generator) -> None:
    config = gpuvos.Config(rule=rule, num_seeds=6, num_background=2, window=3, track_seeds=rule == "robust")
    e = torch.randn(2, 2, 3, 5, 6, generator=generator)
    o, flow = torch.rand(2, 2, 5, 6, generator=generator), torch.randn(2, 2, 2, 5, 6, generator=generator)

    def method(*features: Tensor) -> tuple[Tensor, ...]:
        result = gpuvos.segment(*features, config=config)
        return result.probability, result.seeds.index, result.forest.label, result.tracks, result.initial_foreground

    found = vmap(method)(e, o, flow)
    for number in range(2):
        for one, both in zip(method(e[number], o[number], flow[number]), found, strict=True):
            torch.testing.assert_close(both[number], one)


def scene(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """An object that differs from the rest and moves, in float64."""
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(10.0), indexing="ij")
    seen = (((x - 5).abs() < 3) & ((y - 4).abs() < 2)).double().expand(3, -1, -1)

    def noise(*shape: int) -> Tensor:
        return 0.05 * torch.randn(3, *shape, 8, 10, generator=generator, dtype=torch.float64)

    e = torch.stack((2 * seen, (x / 10).expand(3, -1, -1), (y / 10).expand(3, -1, -1)), 1) + noise(3)
    return e, (0.1 + 0.8 * seen + noise().abs()).clamp(max=1), torch.stack((3 * seen, seen), 1) + noise(2)


@pytest.mark.parametrize("softness", [0.0, 0.25])
@pytest.mark.parametrize("rule", ["paper", "robust"])
def test_tangent_of_the_method(rule: str, softness: float, generator: torch.Generator) -> None:
    features = scene(generator)
    directions = tuple(torch.randn(value.shape, generator=generator, dtype=torch.float64) for value in features)
    config = gpuvos.Config(rule=rule, num_seeds=12, num_background=3, window=3, softness=softness)

    def method(*values: Tensor) -> Tensor:
        return gpuvos.segment(*values, config=config, validate=False).probability

    def moved(step: float) -> Tensor:
        return method(*(value + step * way for value, way in zip(features, directions, strict=True)))

    wanted = (moved(1e-6) - moved(-1e-6)) / 2e-6
    torch.testing.assert_close(jvp(method, features, directions)[1], wanted, rtol=1e-4, atol=1e-4)
    assert wanted.abs().sum() > 1
