"""A small tree of DAVIS-2016 with rendered sequences."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gpuvos.data import render_clip, write_mask


@pytest.fixture(scope="session")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sequences of five frames in the official layout."""
    root = tmp_path_factory.mktemp("davis")
    lines = []
    for seed, name in enumerate(("one", "two", "three")):
        rendered = render_clip("single", num_frames=5, height=64, width=96, seed=seed)
        for number in range(5):
            image, mask = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
            image.mkdir(parents=True, exist_ok=True)
            pixels = rendered.frames[number].permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(image / f"{number:05d}.jpg")
            write_mask(mask / f"{number:05d}.png", rendered.mask[number])
            stem = f"480p/{name}/{number:05d}"
            lines.append(f"/JPEGImages/{stem}.jpg /Annotations/{stem}.png")
    (root / "ImageSets" / "480p").mkdir(parents=True)
    (root / "ImageSets" / "480p" / "train.txt").write_text("\n".join(lines) + "\n")
    return root
