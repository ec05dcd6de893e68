"""The weights of the package, as an enumeration."""

from __future__ import annotations

import pytest
import torch

from gpuvos import InputError
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.published import PublishedWeights, to_frames
from gpuvos.features.saliency import SaliencyFeatures


def test_the_cards_name_terms_and_sizes() -> None:
    assert [weights.name for weights in PublishedWeights] == ["SALIENCY", "EMBEDDING"]
    assert PublishedWeights.DEFAULT is PublishedWeights.SALIENCY
    for weights in PublishedWeights:
        assert len(weights.meta["sha256"]) == 64
        assert any("Permission" in line or "Licensed" in line or "icense" in line for line in weights.meta["terms"])


@pytest.mark.slow
def test_front_ends_of_the_weights() -> None:
    for weights, kind in ((PublishedWeights.SALIENCY, SaliencyFeatures), (PublishedWeights.EMBEDDING, LearnedFeatures)):
        front = weights.build()
        assert isinstance(front, kind)
        assert weights.meta["num_params"] >= sum(value.numel() for value in front.network.parameters()) - 10_000
    assert PublishedWeights["EMBEDDING"].build(scales=(1.0, 0.5)).scales == (1.0, 0.5)


def test_frames_of_images() -> None:
    grey = torch.tensor([[[0.0, 1.0]]])
    assert to_frames(grey).shape == (1, 3, 1, 2)
    assert torch.equal(to_frames([grey, 0 * grey])[0, 2], grey[0])
    color = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    assert to_frames(color) is color
    assert PublishedWeights.DEFAULT.transforms()(list(color)).shape == color.shape
    for bad in (torch.zeros(2, 2, 4, 5), [torch.zeros(3, 4, 5), torch.zeros(3, 4, 6)], torch.zeros(3, 4, 5).long()):
        with pytest.raises(InputError, match=r"^images:"):
            to_frames(bad)
