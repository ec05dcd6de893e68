"""The feature cache: what it keeps, and what makes it compute again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gpuvos.errors import InputError
from gpuvos.paper.cache import FeatureCache, fingerprint
from gpuvos.types import Features


class FrontEnd(nn.Module):
    """Features of random numbers; counts its calls."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale, self.weight = scale, nn.Parameter(torch.zeros(2))
        self.register_buffer("mean", torch.zeros(1), persistent=False)
        self.calls: list[int] = []

    def forward(self, frames: Tensor) -> Features:
        self.calls.append(len(frames))
        t, _, h, w = frames.shape
        generator = torch.Generator().manual_seed(0)
        shapes = ((t, 5, h, w), (t, h, w), (t, 2, h, w))
        return Features(*(self.scale * torch.rand(shape, generator=generator) for shape in shapes))


@pytest.fixture
def frames(generator: torch.Generator) -> Tensor:
    return torch.randint(0, 256, (3, 3, 4, 6), generator=generator, dtype=torch.uint8)


def test_computes_once_and_says_the_same(tmp_path: Path, frames: Tensor) -> None:
    front_end = FrontEnd()
    first = FeatureCache(tmp_path / "new", front_end)("clip", frames, front_end)
    again = FeatureCache(tmp_path / "new", front_end)("clip", frames, front_end)
    without = FeatureCache(None, front_end)("clip", frames, front_end)
    assert front_end.calls == [3, 3]
    plain = front_end(frames)
    for one in (first, again, without):
        assert torch.equal(one.embedding, plain.embedding.half().float())
        assert torch.equal(one.objectness, plain.objectness)
        assert torch.equal(one.flow, plain.flow)
    assert [path.suffix for path in (tmp_path / "new").iterdir()] == [".safetensors"]


def test_other_frames_weights_or_options_are_other_features(tmp_path: Path, frames: Tensor) -> None:
    front_end = FrontEnd()
    FeatureCache(tmp_path, front_end)("clip", frames, front_end)
    changed = frames.clone()
    changed[2, 1, 3, 3] ^= 1
    FeatureCache(tmp_path, front_end)("clip", changed, front_end)
    assert front_end.calls == [3, 3]
    weighted, scaled, centred = FrontEnd(), FrontEnd(2.0), FrontEnd()
    weighted.weight.data[1] = 1e-3
    centred.mean[0] = 1e-3  # a buffer that is not saved
    keys = [fingerprint(module) for module in (front_end, weighted, scaled, centred)]
    assert len(set(keys)) == 4
    assert fingerprint(FrontEnd()) == keys[0]
    assert fingerprint(nn.ReLU()) != fingerprint(nn.Tanh())
    assert fingerprint(FrontEnd().eval()) == keys[0]


def test_a_damaged_file_is_written_anew(tmp_path: Path, frames: Tensor) -> None:
    front_end = FrontEnd()
    first = FeatureCache(tmp_path, front_end)("clip", frames, front_end)
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:100])
    again = FeatureCache(tmp_path, front_end)("clip", frames, front_end)
    assert len(front_end.calls) == 2
    assert torch.equal(first.embedding, again.embedding)


def test_an_interrupt_leaves_nothing(tmp_path: Path, frames: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save", interrupted)
    front_end = FrontEnd()
    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path, front_end)("clip", frames, front_end)
    assert list(tmp_path.iterdir()) == []


def test_values_beyond_half_precision_are_refused(frames: Tensor) -> None:
    front_end = FrontEnd(1e6)
    with pytest.raises(InputError, match="float16"):
        FeatureCache(None, front_end)("clip", frames, front_end)
