"""Eq. 2 and its companions against numbers worked out by hand and against loops."""

from __future__ import annotations

import math

import pytest
import torch

from gpuvos.errors import InputError
from gpuvos.training.loss import (
    PixelPairs,
    distance_loss,
    distillation_loss,
    embedding_loss,
    objectness_loss,
    pair_loss,
    pixel_pairs,
    sample_pixels,
    spread_loss,
)


def similarity(distance: float) -> float:
    return 2 / (1 + math.exp(distance))


def test_pair_loss_is_the_bracket_of_eq_2() -> None:
    distances = [0.01, 0.5, 1.0, math.log(3), 4.0, 20.0]
    same = pair_loss(torch.tensor(distances, dtype=torch.float64), torch.ones(6, dtype=torch.bool))
    other = pair_loss(torch.tensor(distances, dtype=torch.float64), torch.zeros(6, dtype=torch.bool))
    assert same.tolist() == pytest.approx([-math.log(similarity(d)) for d in distances], rel=1e-9)
    assert other.tolist() == pytest.approx([-math.log(1 - similarity(d)) for d in distances], rel=1e-7)
    assert same[3] == pytest.approx(math.log(2)) == float(other[3])  # R = 1/2 at d2 = log 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pair_loss_is_finite_at_both_ends(dtype: torch.dtype) -> None:
    distance = torch.tensor([0.0, 1e-7, 200.0, 1e4], dtype=dtype, requires_grad=True)
    for same in (True, False):
        loss = pair_loss(distance, torch.tensor(same))
        (slope,) = torch.autograd.grad(loss.sum(), distance)
        assert loss.isfinite().all()
        assert slope.isfinite().all()
    assert pair_loss(distance, torch.tensor(True))[[0, 2]].tolist() == pytest.approx([0, 200 - math.log(2)])
    # tanh(d2 / 2) = d2 / 2 at the floor of 1e-4
    assert pair_loss(distance, torch.tensor(False))[[0, 2]].tolist() == pytest.approx([-math.log(5e-5), 0], rel=1e-3)


def test_embedding_loss_by_hand() -> None:
    # Instance 1 holds two pixels at 0 and 1, instance 2 one pixel at 3; the fourth pixel is unknown and far away.
    embedding = torch.tensor([[[[0.0, 1.0], [3.0, 50.0]]]])
    instance = torch.tensor([[[1, 1], [2, -1]]])
    # w = 1 / (n_i n_j), each pair twice: within 1/4, across 1/2 and 1/2.
    within = -math.log(similarity(1))
    across = [-math.log(1 - similarity(d)) for d in (9, 4)]
    expected = (within / 4 + across[0] / 2 + across[1] / 2) / (1 / 4 + 1)
    assert float(embedding_loss(embedding, instance)) == pytest.approx(expected, rel=1e-5)
    # Distances over a temperature of 4 are those of half the embedding.
    halved = embedding_loss(embedding / 2, instance)
    assert float(embedding_loss(embedding, instance, temperature=4.0)) == pytest.approx(float(halved), rel=1e-6)


def test_rest_weight_zero_says_nothing_about_pairs_within_the_rest() -> None:
    embedding = torch.tensor([[[[0.0, 9.0], [2.0, 2.0]]]])
    instance = torch.tensor([[[0, 0], [1, 1]]])
    across = [-math.log(1 - similarity(d)) for d in (4, 49)]
    # Within object: 1/4 x loss 0. Across: four pairs of 1/4. Within the rest: nothing.
    expected = (sum(across) / 2) / (1 / 4 + 1)
    # Each kind is counted twice (i, j and j, i), which cancels: weights 2/4 within, 8/4 across over 10/4.
    assert float(embedding_loss(embedding, instance, rest_weight=0.0)) == pytest.approx(expected, rel=1e-5)
    assert float(embedding_loss(embedding, instance, rest_weight=1.0)) > 10  # the rest is held together


def test_embedding_loss_against_a_loop(generator: torch.Generator) -> None:
    embedding = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64)
    instance = torch.randint(-1, 4, (2, 5, 4), generator=generator)
    total = 0.0
    for points, labels in zip(embedding.flatten(2).mT, instance.flatten(1).tolist(), strict=True):
        above = below = 0.0
        for i, a in enumerate(labels):
            for j, b in enumerate(labels):
                if i == j or a < 0 or b < 0:
                    continue
                weight = 1 / (labels.count(a) * labels.count(b))
                r = similarity(float((points[i] - points[j]).square().sum()))
                above += weight * -math.log(r if a == b else 1 - r)
                below += weight
        total += above / below
    assert float(embedding_loss(embedding, instance)) == pytest.approx(total / 2, rel=1e-9)


def test_unlabelled_images_count_for_nothing() -> None:
    embedding = torch.randn(2, 3, 2, 2, requires_grad=True)
    instance = torch.tensor([[[1, 1], [2, 2]], [[-1, -1], [-1, -1]]])
    both = embedding_loss(embedding, instance)
    torch.testing.assert_close(both, embedding_loss(embedding[:1], instance[:1]))
    loss = embedding_loss(embedding, torch.full((2, 2, 2), -1), keep="spread")
    loss.backward()
    assert float(loss.detach()) == 0
    assert embedding.grad is not None
    assert not embedding.grad.any()


@pytest.mark.sampled
@pytest.mark.parametrize("keep", ["none", "spread", "distances"])
def test_gradcheck(keep: str, generator: torch.Generator) -> None:
    embedding = torch.randn(2, 3, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    reference = 3 * torch.randn(2, 2, 3, 3, generator=generator, dtype=torch.float64)
    instance = torch.randint(0, 3, (2, 3, 3), generator=generator)
    assert torch.autograd.gradcheck(
        lambda x: embedding_loss(x, instance, keep=keep, reference=reference, floor=1.0), (embedding,)
    )


def test_half_precision_is_computed_in_single() -> None:
    embedding = torch.randn(1, 4, 3, 3).bfloat16()
    instance = torch.arange(9).view(1, 3, 3) // 3
    single = embedding_loss(embedding.float(), instance)
    assert embedding_loss(embedding, instance).dtype == torch.float32
    assert float(embedding_loss(embedding, instance)) == pytest.approx(float(single), rel=1e-6)


def test_sampling_is_balanced_and_never_unknown(generator: torch.Generator) -> None:
    instance = torch.full((1, 60, 60), -1)
    instance[0, :50] = 0  # 3000 pixels
    instance[0, :5, :40] = 1  # 200 of them
    drawn = torch.cat([instance.flatten()[sample_pixels(instance, 40, generator=generator)[0]] for _ in range(100)])
    assert (drawn >= 0).all()
    assert 0.42 < (drawn == 1).float().mean() < 0.52  # half, less what drawing without replacement takes


def test_samples_are_distinct_and_run_out() -> None:
    instance = torch.tensor([[[3, 3, -1], [-1, 3, -1]]])
    index = sample_pixels(instance, 6)
    assert sorted(index[0].tolist()) == [-1, -1, -1, 0, 1, 4]


def test_spread_is_a_hinge_at_the_floor() -> None:
    instance = torch.tensor([[[1, 1], [0, 0]]])
    index = torch.arange(4)[None]

    def pairs(gap: float, rest: float = 5.0) -> PixelPairs:
        return pixel_pairs(torch.tensor([[[[0.0, gap], [7.0, 7.0 + rest]]]]), instance, index)

    assert float(spread_loss(pairs(1.0), floor=4.0)) == pytest.approx(0.75)  # 1 of 4
    assert float(spread_loss(pairs(2.0), floor=4.0)) == pytest.approx(0.0)
    assert float(spread_loss(pairs(1.0), 0.5, pairs(2.0))) == pytest.approx(0.5)  # 1 of half of 4
    assert float(spread_loss(pairs(1.0, rest=0.0), 0.5, pairs(2.0))) == pytest.approx(0.5)  # the rest has no say


def test_distances_are_held_within_objects_and_within_the_rest() -> None:
    instance = torch.tensor([[[1, 1], [0, 0]]])
    index = torch.arange(4)[None]
    now = pixel_pairs(torch.tensor([[[[0.0, 1.0], [0.0, 2.0]]]]), instance, index)
    before = pixel_pairs(torch.tensor([[[[0.0, 3.0], [50.0, 52.0]]]]), instance, index)
    expected = (math.log(2) - math.log(10)) ** 2 / 2  # the object changed, the rest did not
    assert float(distance_loss(now, before)) == pytest.approx(expected, rel=1e-5)


def test_distillation_by_hand() -> None:
    ours = torch.tensor([0.5, 0.5]).log().view(1, 2, 1, 1).requires_grad_()
    theirs = torch.tensor([0.8, 0.2]).log().view(1, 2, 1, 1) + 7  # shifting logits changes nothing
    loss = distillation_loss(ours, theirs)
    assert float(loss.detach()) == pytest.approx(0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5), rel=1e-5)
    loss.backward()
    assert ours.grad is not None
    assert ours.grad.flatten().tolist() == pytest.approx([0.5 - 0.8, 0.5 - 0.2], rel=1e-5)


def test_objectness_balances_object_and_rest() -> None:
    logit = torch.tensor([[[2.0, -1.0, 0.0, 9.0]]])
    target = torch.tensor([[[1.0, 0.0, 0.0, -1.0]]])
    hit = math.log1p(math.exp(-2))
    misses = (math.log1p(math.exp(-1)) + math.log(2)) / 2
    assert float(objectness_loss(logit, target)) == pytest.approx((hit + misses) / 2, rel=1e-6)
    unknown = torch.full_like(target, -1)
    assert float(objectness_loss(torch.cat((logit, logit)), torch.cat((target, unknown)))) == pytest.approx(
        (hit + misses) / 2, rel=1e-6
    )
    assert float(objectness_loss(logit, unknown)) == 0
    plain = (hit + 2 * misses) / 3
    assert float(objectness_loss(logit, target, balance=0)) == pytest.approx(plain, rel=1e-6)
    root = (hit + 2**0.5 * misses) / (1 + 2**0.5)
    assert float(objectness_loss(logit, target, balance=0.5)) == pytest.approx(root, rel=1e-6)


def test_bad_input_is_named() -> None:
    embedding, instance = torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.int64)
    with pytest.raises(InputError, match="instance"):
        embedding_loss(embedding, instance[:, :2])
    with pytest.raises(InputError, match="keep"):
        embedding_loss(embedding, instance, keep="all")
    with pytest.raises(InputError, match="reference"):
        embedding_loss(embedding, instance, keep="distances")
    with pytest.raises(InputError, match="num_samples"):
        embedding_loss(embedding, instance, num_samples=0)
    with pytest.raises(InputError, match="teacher_logits"):
        distillation_loss(torch.zeros(1, 21, 2, 2), torch.zeros(1, 20, 2, 2))
    with pytest.raises(InputError, match="target"):
        objectness_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3))
