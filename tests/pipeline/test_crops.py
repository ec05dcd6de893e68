"""Boxes cut out of images: the same bits with and without the whole of torchvision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gpuvos.pipeline import crops
from gpuvos.pipeline.crops import cut_boxes


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 47, 61, generator=torch.Generator().manual_seed(0))


BOXES = torch.tensor([[0.0, 0.0, 61.0, 47.0], [10.5, 3.0, 12.0, 40.25], [60.0, 46.0, 61.0, 47.0]])


@pytest.mark.parametrize("size", [(5, 7), (64, 64), (320, 320)])
def test_equals_torchvision(images: Tensor, size: tuple[int, int]) -> None:
    from torchvision.ops import roi_align

    rows = torch.arange(3.0)[:, None]
    expected = roi_align(images, torch.cat((rows, BOXES), 1), size, aligned=True)
    assert torch.equal(cut_boxes(images, BOXES, size), expected)


def test_a_box_of_whole_pixels_is_cut_as_it_is(images: Tensor) -> None:
    box = torch.tensor([[7.0, 5.0, 27.0, 35.0]])
    torch.testing.assert_close(cut_boxes(images[:1], box, (30, 20)), images[:1, :, 5:35, 7:27])


@pytest.mark.slow
def test_without_its_library_torchvision_is_imported(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = cut_boxes(images, BOXES, (8, 8))
    monkeypatch.setattr(crops, "_load_operator", lambda: False)
    assert torch.equal(cut_boxes(images, BOXES, (8, 8)), expected)


def test_a_library_that_does_not_load_is_none(tmp_path: Path) -> None:
    library = tmp_path / "_C.so"
    library.write_bytes(b"of another build")
    assert not crops._loads(library)


@pytest.mark.slow
def test_gradients_reach_the_images(images: Tensor) -> None:
    cut_boxes(images.requires_grad_(), BOXES, (8, 8)).sum().backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad.sum(), torch.tensor(3.0 * 3 * 64))  # weights of every sample sum to 1


@pytest.mark.slow
def test_shapes_are_known_without_data() -> None:
    with FakeTensorMode():
        cut = cut_boxes(torch.rand(2, 3, 40, 50), torch.rand(2, 4), (8, 9))
    assert cut.shape == (2, 3, 8, 9)
