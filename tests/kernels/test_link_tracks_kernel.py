"""The Triton kernel of Eq. 9 against the reference."""

from __future__ import annotations

import pytest
import torch

from gpuvos.kernels.link_tracks import reference

pytest.importorskip("triton")

from gpuvos.kernels.link_tracks import kernel


@pytest.mark.sampled
@pytest.mark.parametrize("shape", [(2, 6, 9, 5), (1, 4, 70, 64), (1, 3, 5, 130), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("to_mean", [True, False])
@pytest.mark.parametrize("ties", [True, False])
def test_equals_reference(
    shape: tuple[int, ...], to_mean: bool, ties: bool, generator: torch.Generator, kernel_device: str
) -> None:
    n, t, k, d = shape
    embedding = torch.randn(n, t, k, d, generator=generator) if not ties else None
    if embedding is None:  # small integers: equal distances, all of them exact with the last seed
        embedding = torch.randint(-1, 2, (n, t, k, d), generator=generator).float()
    valid = torch.rand(n, t, k, generator=generator) < 0.7
    valid[0, -1:] = valid[0, -1:] & (t < 4)  # a frame without seeds
    if ties and to_mean:
        embedding[:, 2:] = embedding[:, :1]  # means of thirds are not exact, and ties of them are not meant
    found = kernel.link_tracks(embedding.to(kernel_device), valid.to(kernel_device), to_mean)
    assert found.dtype == torch.int64
    assert torch.equal(found.cpu(), reference.link_tracks(embedding, valid, to_mean))


def test_half_types_are_computed_in_float32(generator: torch.Generator, kernel_device: str) -> None:
    embedding = torch.randn(1, 4, 12, 8, generator=generator).bfloat16()
    valid = torch.ones(1, 4, 12, dtype=torch.bool)
    found = kernel.link_tracks(embedding.to(kernel_device), valid.to(kernel_device), True)
    assert torch.equal(found.cpu(), reference.link_tracks(embedding.float(), valid, True))


def test_nothing() -> None:
    for shape in ((0, 3, 2), (1, 0, 2), (1, 3, 0)):
        found = kernel.link_tracks(torch.zeros(*shape, 4), torch.zeros(shape, dtype=torch.bool), True)
        assert found.shape == shape
