"""The networks of the front end as stages: how they are run, and the operations that they take."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gpuvos.bench.workload import Inputs

_DEVICE_CHUNK = 16  # frames at a time, as front ends take them; one on a CPU


def embedding_network(inputs: Inputs) -> object:
    """Embedding, classes and objectness of every frame."""
    return _over_frames(_front_end(inputs).base.network, inputs)


def salient_network(inputs: Inputs) -> object:
    """Salient objects of every frame."""
    return _over_frames(_front_end(inputs).network, inputs)


def published_network(inputs: Inputs) -> object:
    """The same with the whole decoder."""
    return _over_frames(inputs.published_saliency, inputs)


def embedding_flops(inputs: Inputs) -> float:
    """Of one frame."""
    return count_flops(_front_end(inputs).base.network, inputs.images[:1] / 255)


def salient_flops(inputs: Inputs) -> float:
    """Of one frame."""
    return count_flops(_front_end(inputs).network, inputs.images[:1] / 255)


def published_flops(inputs: Inputs) -> float:
    """Of one frame."""
    return count_flops(inputs.published_saliency, inputs.images[:1] / 255)


@torch.no_grad()
def count_flops(network: nn.Module, images: Tensor) -> int:
    """Multiplications and additions in the convolutions and matrix products of a call, from shapes alone.

    Example:
        >>> count_flops(nn.Conv2d(3, 5, 1), torch.zeros(1, 3, 10, 10))  # 2 x 3 x 5 x 100
        3000
    """
    shapes = copy.deepcopy(network).to("meta")  # the network itself, not what it is laid out as for a device
    with FlopCounterMode(display=False) as counter:
        shapes(torch.empty_like(images, device="meta"))
    return int(counter.get_total_flops())


def _front_end(inputs: Inputs) -> Any:
    return inputs.segmenter.front_end


def _over_frames(network: nn.Module, inputs: Inputs) -> object:
    chunk = 1 if inputs.device.type == "cpu" else _DEVICE_CHUNK
    return tuple(network(part / 255) for part in torch.split(inputs.images, chunk))
