"""Endpoint error: hand-worked values, an independent mean, errors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gpuvos.errors import InputError
from gpuvos.metrics import endpoint_error


def test_hand_worked() -> None:
    truth = torch.zeros(2, 1, 2)
    flow = torch.tensor([[[3.0, 0.0]], [[4.0, 1.0]]])  # lengths 5 and 1
    assert endpoint_error(flow, truth) == 3.0
    assert endpoint_error(flow, truth, torch.tensor([[True, False]])) == 5.0
    assert endpoint_error(flow, flow) == 0.0
    assert endpoint_error(flow, truth, torch.tensor([[False, False]])).isnan()


def test_unknown_flow_may_hold_anything() -> None:
    truth = torch.tensor([[[0.0, math.nan, math.inf]], [[0.0, 1e9, 0.0]]])
    flow = torch.ones(2, 1, 3, requires_grad=True)
    error = endpoint_error(flow, truth, torch.tensor([[True, False, False]]))
    assert error.item() == pytest.approx(math.sqrt(2))
    error.backward()
    assert flow.grad is not None
    # d sqrt(x^2 + y^2) = 1 / sqrt(2) each at (1, 1), nothing at unknown pixels.
    torch.testing.assert_close(flow.grad, torch.tensor([[[2**-0.5, 0, 0]], [[2**-0.5, 0, 0]]]))


def test_against_numpy_frame_by_frame(generator: torch.Generator) -> None:
    flow = torch.randn(2, 3, 2, 5, 6, generator=generator)
    truth = torch.randn(2, 3, 2, 5, 6, generator=generator)
    valid = torch.rand(2, 3, 5, 6, generator=generator) > 0.4
    result = endpoint_error(flow, truth, valid)
    every = endpoint_error(flow, truth)
    for video in range(2):
        for frame in range(3):
            distance = np.hypot(*(flow - truth)[video, frame].numpy())
            known = valid[video, frame].numpy()
            assert every[video, frame].item() == pytest.approx(distance.mean(), rel=1e-5)
            assert result[video, frame].item() == pytest.approx(distance[known].mean(), rel=1e-5)


def test_half_precision_does_not_overflow() -> None:
    flow = torch.full((2, 300, 300), 30.0, dtype=torch.float16)  # the sum, 90,000 * 42, is above 65,504
    error = endpoint_error(flow, torch.zeros_like(flow))
    assert error.dtype == torch.float32
    assert error.item() == pytest.approx(30 * math.sqrt(2))


def test_bad_input() -> None:
    flow = torch.zeros(4, 2, 5, 6)
    with pytest.raises(InputError, match="flow: got shape"):
        endpoint_error(flow[:, :1], flow)
    with pytest.raises(InputError, match="truth: got shape"):
        endpoint_error(flow, flow[..., :5])
    with pytest.raises(InputError, match=r"truth: got leading dimensions \(\), wanted those of flow, \(4,\)"):
        endpoint_error(flow, flow[0])
    with pytest.raises(InputError, match=r"valid: got torch\.float32, wanted a bool"):
        endpoint_error(flow, flow, flow[:, 0])
    with pytest.raises(InputError, match=r"valid: got leading dimensions \(3,\)"):
        endpoint_error(flow, flow, torch.ones(3, 5, 6, dtype=torch.bool))


@pytest.mark.data
def test_zero_flow_on_middlebury(development_data: Path) -> None:
    """The error of no motion at all is the mean length of the true flow over its known pixels."""
    paths = sorted((development_data / "flow" / "middlebury").rglob("*flow10_f16.npz"))
    if not paths:
        pytest.skip("no flow/middlebury in the development data")
    for path in paths:
        with np.load(path) as data:
            true_flow = data["flow"].astype(np.float32)
            known = np.unpackbits(data["valid"], axis=1, count=true_flow.shape[1]).astype(bool)
        truth = torch.from_numpy(true_flow).permute(2, 0, 1)
        error = endpoint_error(torch.zeros_like(truth), truth, torch.from_numpy(known))
        assert error.item() == pytest.approx(np.hypot(*true_flow[known].T).mean(), rel=1e-4)
