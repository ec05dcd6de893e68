"""RAFT with the weights in the package: known motion, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from gpuvos import InputError
from gpuvos.flow.raft import TorchvisionRaft


@pytest.mark.slow
def test_the_bundled_weights_follow_a_shift() -> None:
    g = torch.Generator().manual_seed(0)
    texture = interpolate(torch.rand(1, 3, 20, 22, generator=g), size=(160, 176), mode="bicubic").clamp(0, 1)
    frames = torch.cat((texture[..., :128, :144], texture[..., 2:130, 3:147]))  # what was at p is at p - (3, 2)
    flow = TorchvisionRaft()(frames)[0]
    inside = flow[:, 20:-20, 20:-20].mean((1, 2))
    torch.testing.assert_close(inside, torch.tensor([-3.0, -2.0]), atol=0.2, rtol=0)


def test_the_large_variant_is_not_in_the_package() -> None:
    with pytest.raises(InputError, match=r"^weights: got 'bundled' of the large variant"):
        TorchvisionRaft(variant="large")
