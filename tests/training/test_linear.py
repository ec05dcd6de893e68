"""The linear correction of the objectness against what defines it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gpuvos.errors import InputError
from gpuvos.features.network.embedding import EmbeddingNetwork, foreground_logit
from gpuvos.training.linear import linear_objectness


@pytest.fixture
def network() -> EmbeddingNetwork:
    torch.manual_seed(0)
    network = EmbeddingNetwork(dimensions=4, width=6).eval().requires_grad_(False)
    network.objectness.weight.normal_()
    return network


IMAGES = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
def test_no_other_line_is_nearer(network: EmbeddingNetwork) -> None:
    """What is left is at right angles, by the weights, to every channel."""
    mode = network.train().training
    found = linear_objectness(network, IMAGES.split(1)).requires_grad_(False)
    assert network.training is mode
    assert found.width == 0
    assert found.hidden is found.correct is None
    assert not found.training
    network.eval()
    neck, class_logits = (value.double() for value in network.neck(IMAGES))
    wanted = network(IMAGES).object_logit.double()
    weight = wanted.sigmoid() * (1 - wanted.sigmoid()) + 0.01
    line = nn.functional.conv2d(neck, found.objectness.weight.double(), found.objectness.bias.double())[:, 0]
    rest = wanted - foreground_logit(class_logits) - line
    slopes = torch.cat(((weight * rest * neck.transpose(0, 1)).flatten(1).sum(1), (weight * rest).sum()[None]))
    sizes = torch.cat(((weight * neck.transpose(0, 1).square()).flatten(1).sum(1), weight.sum()[None]))
    cosines = slopes.abs() / (sizes * (weight * rest.square()).sum()).sqrt().clamp(min=1e-9)
    assert cosines.max() < 0.05  # not 0: the ridge holds channels that hardly vary
    assert cosines.median() < 1e-4
    ours = found(IMAGES)
    torch.testing.assert_close(ours.object_logit.double(), wanted - rest, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours.embedding, network(IMAGES).embedding)


def test_a_correction_that_is_linear_is_found(network: EmbeddingNetwork) -> None:
    """With a hidden layer that passes on channels of the neck the correction is 2 x channel 1 - channel 3 + 5."""
    first, second = network.hidden
    for layer in (first, second):
        layer.norm, layer.act = nn.Identity(), nn.Identity()
        layer.conv.weight.zero_()
    for number in range(6):
        first.conv.weight[number, number] = 1
        second.conv.weight[number, number, 1, 1] = 1
    network.objectness.weight.zero_()
    network.objectness.weight[0, [1, 3], 0, 0] = torch.tensor([2.0, -1.0])
    network.objectness.bias.fill_(5)
    with pytest.MonkeyPatch.context() as patch:  # white noise, of which no channel is the sum of others
        noise = torch.randn(2, 293, 40, 40, generator=torch.Generator().manual_seed(2))
        patch.setattr(EmbeddingNetwork, "neck", lambda *_: (noise, noise[:, :21]))
        found = linear_objectness(network, [IMAGES])
    expected = torch.zeros(293)
    expected[[1, 3]] = torch.tensor([2.0, -1.0])
    torch.testing.assert_close(found.objectness.weight.flatten(), expected, atol=1e-4, rtol=0)
    assert found.objectness.bias.item() == pytest.approx(5, abs=1e-4)


def test_what_cannot_be_made_linear(network: EmbeddingNetwork) -> None:
    with pytest.raises(InputError, match=r"batches.*no images"):
        linear_objectness(network, [])
    network.correct.weight[0, 0] = 1
    with pytest.raises(InputError, match=r"network.*corrects its embedding"):
        linear_objectness(network, [IMAGES])
    with pytest.raises(InputError, match=r"network.*width 0"):
        linear_objectness(EmbeddingNetwork(dimensions=4, width=0), [IMAGES])
