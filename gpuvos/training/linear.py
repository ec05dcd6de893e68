"""The network's correction of the objectness as one linear map, in place of its hidden layer."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gpuvos.errors import fail
from gpuvos.features.network.embedding import EmbeddingNetwork, foreground_logit

_FLOOR = 0.01  # of the weight: a logit far from 0 counts too
_RIDGE = 1e-6  # of the mean variance, for channels that say the same


@torch.no_grad()
def linear_objectness(network: EmbeddingNetwork, batches: Iterable[Tensor]) -> EmbeddingNetwork:
    """A network of width 0 whose object logit is nearly that of ``network``, with a tenth less work on a CPU.

    Weighted least squares over the pixels p of the images::

        sum_p w_p (c_p - a . neck_p - b)^2,    w = P (1 - P) + 0.01

    c is the correction of the object logit, P the logistic of the corrected logit: near P = 1/2 the logit matters most.

    Args:
        network: one whose embedding has no correction, as all are that were trained without the loss of pairs.
        batches: natural images ``[N, 3, h, w]`` float in [0, 1]; some hundred are enough.

    Returns:
        A new network in evaluation mode.

    Raises:
        InputError: no images, or a network that corrects its embedding or has no hidden layer.

    Example:
        >>> images = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
        >>> linear_objectness(EmbeddingNetwork(dimensions=8), [images]).width
        0
    """
    network = copy.deepcopy(network).eval()
    hidden, correct = network.hidden, network.correct
    if hidden is None or correct is None:
        raise fail("network", "one of width 0", "one with a hidden layer", "its correction is linear already")
    if any(value.any() for value in correct.parameters()):
        raise fail("network", "one that corrects its embedding", "one trained without the loss of pairs")
    products, against = torch.zeros(()), torch.zeros(())
    for images in batches:
        neck, class_logits = network.neck(images)
        correction = network.objectness(hidden(neck)).flatten().double()
        chance = (foreground_logit(class_logits).flatten() + correction).sigmoid()
        channels = nn.functional.pad(neck.transpose(0, 1).flatten(1), (0, 0, 0, 1), value=1.0).double()  # [C + 1, p]
        weighted = channels * (chance * (1 - chance) + _FLOOR)
        products, against = weighted @ channels.mT + products.to(weighted), weighted @ correction + against.to(weighted)
    if not products.ndim:
        raise fail("batches", "no images", "at least one batch [N, 3, h, w]")
    products.diagonal().add_(_RIDGE * products.diagonal().mean())
    solution = torch.linalg.solve(products, against)
    network.width, network.hidden, network.correct = 0, None, None
    network.objectness = nn.Conv2d(len(solution) - 1, 1, 1).to(network.project.weight)
    network.objectness.weight.copy_(solution[:-1].view_as(network.objectness.weight))
    assert network.objectness.bias is not None
    network.objectness.bias.fill_(solution[-1])
    return network
