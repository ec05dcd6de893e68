"""Gradients of the soft parts together, with what is chosen held as it is: Eq. 6-8, 10, 13-15 and the CRF."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gpuvos import functional as F

K = 5


@pytest.mark.slow
def test_chain_by_finite_differences(generator: torch.Generator) -> None:
    """Embedding, objectness, flow and temperature, through seeds and regions to scores and the CRF's result."""
    e = torch.randn(2, 2, 4, 5, generator=generator, dtype=torch.float64)
    o = torch.rand(2, 4, 5, generator=generator, dtype=torch.float64)
    flow = torch.randn(2, 2, 4, 5, generator=generator, dtype=torch.float64)
    temperature = torch.tensor(1.7, dtype=torch.float64)
    image = torch.randint(0, 256, (2, 3, 4, 5), generator=generator, dtype=torch.uint8)

    def chain(e: Tensor, o: Tensor, flow: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        candidates = F.candidate_mask(F.edge_map(e, squared_distance=True), window=1)
        seeds = F.select_seeds(e, o, candidates, num_seeds=K)
        forest = F.minimax_forest(F.edge_weights(e), seeds.index, seeds.valid)
        region_flow = F.region_mean(flow, forest.label, K)
        saliency = F.motion_saliency(region_flow, seeds.objectness, seeds.valid, num_background=2)
        score = F.track_scores(F.link_tracks(seeds), seeds.objectness, saliency)
        chosen = saliency > 0.3
        p = F.foreground_probability(e, seeds.embedding, chosen, ~chosen, temperature=temperature)
        return p, score, F.dense_crf(p, image, iterations=2)

    inputs = [value.requires_grad_() for value in (e, o, flow, temperature)]
    assert torch.autograd.gradcheck(chain, inputs)
    probability, score, refined = chain(*inputs)
    for output, reached in ((probability, (0, 3)), (score, (1, 2)), (refined, (0, 3))):
        grads = torch.autograd.grad(output.sum(), inputs, retain_graph=True, allow_unused=True)
        for number, grad in enumerate(grads):
            assert (grad is not None and bool((grad != 0).any())) == (number in reached)


def test_temperature_is_learned_by_gradient_descent(generator: torch.Generator) -> None:
    """Probabilities that temperature 3 gives are reached from temperature 1."""
    e = torch.randn(1, 3, 6, 7, generator=generator)
    seeds = torch.randn(1, 4, 3, generator=generator)
    chosen = torch.tensor([[True, True, False, False]])
    target = F.foreground_probability(e, seeds, chosen, ~chosen, temperature=3.0)
    log = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.Adam([log], 0.1)
    for _ in range(80):
        p = F.foreground_probability(e, seeds, chosen, ~chosen, temperature=log.exp())
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy(p, target).backward()
        optimizer.step()
    torch.testing.assert_close(log.detach().exp(), torch.tensor(3.0), rtol=0.05, atol=0)
