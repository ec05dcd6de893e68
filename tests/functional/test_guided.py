"""The guided filter: by hand, on an edge, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from gpuvos import InputError
from gpuvos import functional as F
from gpuvos.nn import GuidedFilter


def test_a_line_of_three_by_hand() -> None:
    # grey levels 0, 0, 1 and probabilities 0, 1, 1, borders repeated, windows of three pixels, no epsilon to speak of.
    # window of pixel 0 (0 0 0 | 0 0 1): flat, a = 0, b = 1/3. Pixel 1 (0 0 1 | 0 1 1): mean I 1/3, mean p 2/3,
    # cov 1/3 - 2/9 = 1/9, var 1/3 - 1/9 = 2/9, a = 1/2, b = 1/2. Pixel 2 (0 1 1 | 1 1 1): a = 0, b = 1.
    # means of a: 1/6, 1/6, 1/6; of b: (1/3 + 1/3 + 1/2) / 3 = 7/18, 11/18, 15/18
    image = torch.tensor([[[[0.0, 0.0, 1.0]]]]).expand(1, 1, 3, 3)
    probability = torch.tensor([[[0.0, 1.0, 1.0]]]).expand(1, 3, 3)
    found = F.guided_filter(probability, image, radius=1, epsilon=1e-12, subsample=1)
    expected = torch.tensor([7 / 18, 11 / 18, 15 / 18 + 1 / 6]).expand(1, 3, 3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("subsample", [1, 4])
def test_a_blurred_edge_moves_to_the_edge_of_the_image(subsample: int) -> None:
    image = torch.zeros(2, 3, 64, 64)
    image[..., 40:] = torch.tensor([0.8, 0.3, 0.5])[:, None, None]
    ramp = ((torch.arange(64.0) - 30) / 16).clamp(0, 1).expand(2, 64, 64)  # half at 38
    found = F.guided_filter(ramp, image, radius=12, subsample=subsample) > 0.5
    assert (ramp[0, 0] > 0.5).nonzero()[0].item() == 39
    assert (found[:, 8:-8] == (image[:, 0, 8:-8] > 0)).float().mean() > 0.98


def test_flat_images_and_probabilities_stay() -> None:
    flat = torch.full((1, 20, 30), 0.3)
    torch.testing.assert_close(F.guided_filter(flat, torch.rand(1, 3, 20, 30)), flat)


def test_shapes_types_and_batches() -> None:
    g = torch.Generator().manual_seed(0)
    probability = torch.rand(2, 3, 24, 40, generator=g, dtype=torch.float64)
    image = torch.randint(0, 256, (2, 3, 3, 24, 40), generator=g, dtype=torch.uint8)
    found = F.guided_filter(probability, image)
    assert found.shape == probability.shape
    assert found.dtype == torch.float64
    assert ((found >= 0) & (found <= 1)).all()
    one = F.guided_filter(probability[1, 2:], image[1, 2:])
    torch.testing.assert_close(found[1, 2:], one)
    torch.testing.assert_close(GuidedFilter()(probability, image), found)
    assert F.guided_filter(probability.half(), image).dtype == torch.float32
    assert F.guided_filter(torch.zeros(0, 4, 4), torch.zeros(0, 3, 4, 4)).shape == (0, 4, 4)


def test_what_does_not_fit_is_refused() -> None:
    probability, image = torch.rand(1, 8, 8), torch.rand(1, 3, 8, 8)
    for options in ({"radius": 0}, {"epsilon": 0.0}, {"subsample": 0}):
        with pytest.raises(InputError, match=f"^{next(iter(options))}"):
            F.guided_filter(probability, image, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^image"):
        F.guided_filter(probability, image[..., 1:])
    with pytest.raises(InputError, match=r"^probability"):
        F.guided_filter(probability + 1, image)
