"""Mean and deviation of the colours that the networks of the library were trained with."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_COLORS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # of ImageNet's red, green and blue


def register_colors(network: nn.Module) -> None:
    """Gives a network the buffers ``mean`` and ``std``, ``[3, 1, 1]``; files of weights need not hold them.

    They are persistent, so that a network built without memory gets them with its weights.

    Args:
        network: has no such buffers yet.

    Example:
        >>> network = nn.Module()
        >>> register_colors(network)
        >>> network.mean.flatten(), network.load_state_dict({})
        (tensor([0.4850, 0.4560, 0.4060]), <All keys matched successfully>)
    """
    for name, values in _COLORS.items():
        network.register_buffer(name, torch.tensor(values, dtype=torch.float32)[:, None, None])
    network.register_load_state_dict_pre_hook(_add_colors)  # type: ignore[no-untyped-call]


def _add_colors(_network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, values in _COLORS.items():
        state.setdefault(prefix + name, torch.tensor(values, dtype=torch.float32, device="cpu")[:, None, None])
