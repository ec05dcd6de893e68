"""What ``gpuvos.segment`` refuses, and by which name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gpuvos import Features, InputError, segment


def clip() -> Features:
    return Features(torch.rand(4, 3, 12, 16), torch.rand(4, 12, 16), torch.rand(4, 2, 12, 16))


def spoilt(value: Tensor, number: float) -> Tensor:
    value = value.clone()
    value.view(-1)[value.numel() // 2] = number
    return value


def test_bad_features_are_refused_by_name() -> None:
    e, o, flow = clip()
    good: dict[str, Any] = {"embedding": e, "objectness": o, "flow": flow}
    cases = [
        (name, bad)
        for name, value in good.items()
        for bad in (
            None,
            value.numpy(),
            value.long(),
            value[0, 0],
            value[..., :3, :][:2],
            spoilt(value, torch.nan),
            spoilt(value, torch.inf),
            spoilt(value, -torch.inf),
            spoilt(value, 1e30),
            spoilt(value, -1e18),
        )
    ]
    cases += [("objectness", spoilt(o, 1.5)), ("objectness", spoilt(o, -0.1)), ("objectness", o[:1])]
    cases += [(name, value.to("meta")) for name, value in good.items() if name != "embedding"]
    cases += [("flow", flow[:, :1]), ("flow", torch.cat((flow, flow), 1)), ("flow", flow[None])]
    for name, bad in cases:
        if name == "embedding" and isinstance(bad, Tensor) and bad.shape == (2, 3, 3, 16):
            continue  # a good embedding of another size: the next argument is at odds with it
        with pytest.raises(InputError, match=rf"^{name}:"):
            segment(**{**good, name: bad})
    for empty in (e[:0], e[:, :0], e[:, :, :0], e[..., :0]):
        t, _, h, w = empty.shape
        with pytest.raises(InputError, match=r"^embedding:.*at least one"):
            segment(empty, torch.zeros(t, h, w), torch.zeros(t, 2, h, w))
    with pytest.raises(InputError, match=r"^embedding:.*at least one"):
        segment(e[None][:0], o[None][:0], flow[None][:0])


def test_other_bad_arguments_are_refused_by_name() -> None:
    features, truth = clip(), torch.ones(4, 12, 16, dtype=torch.bool)
    batch = [v[None] for v in features]
    with pytest.raises(InputError, match=r"^lengths:.*None"):
        segment(*features, lengths=torch.tensor([4]))
    for lengths in (
        [4],
        torch.tensor([4.0]),
        torch.tensor([4, 4]),
        torch.tensor([5]),
        torch.tensor([-1]),
        torch.tensor([4], device="meta"),
    ):
        with pytest.raises(InputError, match=r"^lengths:"):
            segment(*batch, lengths=lengths)
    for mask in (truth[0].tolist(), truth[0].float(), truth, truth[0, 0], truth[0, :0], truth[0].to("meta")):
        with pytest.raises(InputError, match=r"^first_mask:"):
            segment(*features, first_mask=mask)
    with pytest.raises(InputError, match=r"^first_mask:"):
        segment(*batch, first_mask=truth[:2])
    for size in ((0, 5), (5, -1), (5,), (1, 2, 3)):
        with pytest.raises(InputError, match=r"^size:"):
            segment(*features, size=size)
    for config in ("paper", {"rule": "paper"}):
        with pytest.raises(InputError, match=r"^config:"):
            segment(*features, config=config)
