"""A tiny network of the real interface, and a tree of stills in the real layout."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn


class TinyOutput(NamedTuple):
    embedding: Tensor
    class_logits: Tensor
    object_logit: Tensor


class TinyNetwork(nn.Module):
    """Stride 4, a few thousand parameters, children named like those of the real network."""

    def __init__(self, dimensions: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.decoder = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout2d(0.1))
        self.heads = nn.Conv2d(16, dimensions + 21 + 1, 1)
        self.dimensions = dimensions

    def forward(self, images: Tensor) -> TinyOutput:
        embedding, logits, thing = self.heads(self.decoder(self.encoder(images))).split((self.dimensions, 21, 1), 1)
        return TinyOutput(embedding, logits, thing[:, 0])


@pytest.fixture(scope="session")
def make_tiny() -> Callable[[], TinyNetwork]:
    """Makes the same network every time."""

    def make() -> TinyNetwork:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return TinyNetwork()

    return make


@pytest.fixture
def tiny(make_tiny: Callable[[], TinyNetwork]) -> TinyNetwork:
    return make_tiny()


ROWS = (  # source, mask kind, licence, number
    ("coco_mini", "instance", "COCO ann CC BY 4.0; image CC BY-NC 2.0", 6),
    ("coco_oneperson", "instance", "COCO ann CC BY 4.0; image CC BY 2.0", 6),
    ("ecssd", "binary", "ECSSD: no licence stated (research use)", 6),
    ("bsds500", "segments", "non-commercial research", 6),
    ("ccp", "segments", "Apache-2.0 (repo LICENSE); image rights not stated", 6),
    ("clothing_small", "none", "free for any purpose (README); see LICENSE", 6),
)


@pytest.fixture(scope="session")
def stills_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 stills of 80 x 60. Mask: a square of 1 at rows 10-29, columns 20-39; a square of 2 beside it."""
    root = tmp_path_factory.mktemp("stills")
    random = np.random.default_rng(0)
    rows: list[tuple[object, ...]] = []
    for source, kind, licence, number in ROWS:
        for folder in ("images", "masks", "salient"):
            (root / source / folder).mkdir(parents=True)
        for count in range(number):
            stem = f"{count:03d}"
            image = random.integers(0, 100, (60, 80, 3), dtype=np.uint8)
            image[10:30, 20:40] += np.array([150, 0, 0], dtype=np.uint8)
            Image.fromarray(image).save(root / source / "images" / f"{stem}.jpg", quality=95)
            mask = np.zeros((60, 80), dtype=np.uint8)
            mask[10:30, 20:40] = 1
            if kind != "binary":
                mask[40:55, 50:70] = 2
            if source == "bsds500":
                mask += 1  # every pixel is in a region
                Image.fromarray((mask == 2).astype(np.uint8)).save(root / source / "salient" / f"{stem}.png")
            if kind != "none":
                Image.fromarray(mask).save(root / source / "masks" / f"{stem}.png")
            rows.append((source, stem, 80, 60, kind, licence))
    _write(root / "index.csv", ("source", "stem", "width", "height", "mask_kind", "licence"), rows)
    photographs = [
        ("coco_mini", "000", "CC BY-SA 2.0", "-"),
        ("coco_oneperson", "001", "CC BY-NC-ND 2.0", "-"),
    ]
    _write(root / "COCO_ATTRIBUTIONS.csv", ("source", "stem", "image_licence", "flickr_url"), photographs)
    return root


def _write(file: Path, header: tuple[str, ...], rows: list[tuple[object, ...]] | list[tuple[str, ...]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
