"""A first mask and the vote of the robust rule together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gpuvos import Config, Features, segment
from gpuvos import functional as F
from gpuvos.metrics import region_similarity
from gpuvos.pipeline.rules import RULES
from gpuvos.types import Labels, Seeds, SeedSets

SMALL = {"num_seeds": 12, "num_background": 4, "window": 3}


def noisy_square() -> tuple[Features, Tensor]:
    """A square that moves right, four frames of 12 x 16, and its mask."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(4, 12, 16, dtype=torch.bool)
    for t in range(4):
        truth[t, 3:8, 2 + t : 8 + t] = True
    inside = truth[:, None].float()
    embedding = torch.cat((4 * inside, inside * 0), 1) + 0.5 * torch.randn(4, 2, 12, 16, generator=generator)
    return Features(embedding, 0.1 + 0.8 * inside[:, 0], torch.cat((2 * inside, inside * 0), 1)), truth


def test_a_first_mask_and_the_vote_by_hand() -> None:
    """Embeddings of one channel; frame 0 has its foreground seed at 0 and its background seed at 4."""
    sets = (torch.tensor([[0.0], [4.0]]), torch.tensor([True, False]), torch.tensor([False, True]))
    own = torch.tensor([1.0, 2.0, 2.0, 3.0, 1.0, 1.0])[:, None]
    valid = torch.tensor([True, True, True, True, True, False])
    seeds = Seeds(torch.arange(6)[None, None], valid[None, None], own[None, None], torch.ones(1, 1, 6))
    # at 1: P = sigmoid(softplus(9) - softplus(1)) = 0.99954; at 2: 1/2; at 3: 0.00046. Half the vote: s / 0.7.
    score = torch.tensor([[[0.0, 0.36, 0.34, 0.69, 0.7, 0.7]]])
    labels = Labels(valid[None, None], ~valid[None, None], score, valid[None, None])
    batched = SeedSets(*(value[None, None] for value in sets))
    for vote, expected in (
        (0.5, [False, True, False, False, True, False]),  # 0.49977, 0.507, 0.493, 0.49309, 0.99977
        (0.25, [True, True, False, False, True, False]),  # 0.74966, 0.504, 0.496, 0.24678, 0.99966
        (1.0, [False, True, False, True, True, False]),  # the vote alone
    ):
        found = RULES["robust"].under_mask(seeds, labels, batched, Config(mask_vote=vote))
        assert found is not None
        assert found.flatten().tolist() == expected
    unasked = RULES["robust"].under_mask(seeds, labels, batched, Config(mask_vote=0.5, vote_threshold=0.0))
    assert unasked is not None
    # any share above 0 is enough
    assert unasked.flatten().tolist() == [False, True, True, True, True, False]


def test_the_vote_beside_a_first_mask() -> None:
    features, truth = noisy_square()
    config = Config(mask_vote=0.5, **SMALL)
    result = segment(*features, config=config, first_mask=truth[0])
    own = segment(*features, config=config)
    seeds, foreground, background = (
        value.expand(4, *value.shape)
        for value in F.mask_seed_sets(features.embedding[0], result.forest.label[0], truth[0], 12, coverage=0.5)
    )
    assert torch.equal(result.foreground ^ result.background, own.seeds.valid)
    sets = (
        torch.cat((seeds, own.seeds.embedding), 1),
        torch.cat((foreground, result.foreground), 1),
        torch.cat((background, result.background), 1),
    )
    rows = ([0, 1, 2, 3], [0, 0, 1, 2], [1, 2, 3, 3])  # its own sets, and those of the frames before and after
    found = [F.foreground_probability(features.embedding, *(value[row] for value in sets)) for row in rows]
    expected = torch.stack(found).logit(1e-6).mean(0).sigmoid()
    torch.testing.assert_close(result.probability, expected)
    assert region_similarity(result.mask, truth).min() > 0.7
    with pytest.warns(UserWarning, match="mask_vote"):
        paper = Config(rule="paper", mask_vote=0.5, **SMALL)
    plain = segment(*features, config=Config(rule="paper", **SMALL), first_mask=truth[0])
    assert torch.equal(segment(*features, config=paper, first_mask=truth[0]).probability, plain.probability)
