"""Temperature without labels: by hand, against loops, and what it is good for."""

from __future__ import annotations

import math

import pytest
import torch

import gpuvos
from gpuvos import functional as F
from gpuvos.errors import InputError


def test_by_hand() -> None:
    # regions 0 1 0 | 5 6 5: means 1/3 and 16/3, within (1 + 4 + 1) / 27 = 2/9, between 25
    e = torch.tensor([0.0, 1.0, 0.0, 5.0, 6.0, 5.0])[None, None, None]
    expected = math.sqrt(2 / 9 * 25) / math.log(3)
    found = F.estimate_temperature(e, num_seeds=2, window=3)
    torch.testing.assert_close(found, torch.tensor(expected))
    half = F.similarity(torch.zeros(1, 1), torch.full((1, 1), (2 / 9 * 25) ** 0.25), temperature=found)
    torch.testing.assert_close(half, torch.tensor([[0.5]]))  # R = 1/2 at the geometric mean


def test_against_loops(generator: torch.Generator) -> None:
    e = torch.randn(2, 3, 8, 9, generator=generator, dtype=torch.float64)
    seeds = F.select_seeds(
        e, e[:, 0] * 0, F.candidate_mask(F.edge_map(e, squared_distance=True), window=3), num_seeds=20
    )
    label = F.minimax_forest(F.edge_weights(e), seeds.index, seeds.valid).label
    assert not seeds.valid.all()  # some of the 20 are missing
    within, between = [], []
    for t in range(2):
        means = {}
        for k in seeds.valid[t].nonzero().flatten().tolist():
            members = e[t][:, label[t] == k]
            means[k] = members.mean(1)
            within += (members - means[k][:, None]).square().sum(0).tolist()
        between += [float((means[a] - means[b]).square().sum()) for a in means for b in means if a != b]
    expected = math.sqrt(sum(within) / len(within) * sum(between) / len(between)) / math.log(3)
    assert float(F.estimate_temperature(e, num_seeds=20, window=3)) == pytest.approx(expected)


def test_follows_the_scale_and_makes_the_probability_independent_of_it(generator: torch.Generator) -> None:
    e = torch.randn(3, 4, 12, 16, generator=generator)
    e[:, 0, 3:8, 4:10] += 6
    flow = torch.zeros(3, 2, 12, 16)
    flow[:, 0, 3:8, 4:10] = 3
    results = []
    for scale in (1.0, 20.0):
        temperature = float(F.estimate_temperature(scale * e))
        config = gpuvos.Config(rule="paper", window=3, num_seeds=20, temperature=temperature)
        results.append(
            gpuvos.segment(
                scale * e,
                torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(1)),
                flow,
                config=config,
            )
        )
    torch.testing.assert_close(results[0].probability, results[1].probability, atol=1e-4, rtol=1e-3)
    assert results[0].mask.any()


def test_no_distances_and_bad_input() -> None:
    assert F.estimate_temperature(torch.ones(2, 3, 4, 5)) == 1
    assert F.estimate_temperature(torch.ones(1, 3, 1, 1)) == 1
    for wrong in (torch.ones(2, 3), torch.ones(2, 3, 4, 5, dtype=torch.int64)):
        with pytest.raises(InputError, match="embedding"):
            F.estimate_temperature(wrong)
