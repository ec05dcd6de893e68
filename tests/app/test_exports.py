"""Files to take along, read again by what would read them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gpuvos.app.exports import EXPORTS, run_lengths
from gpuvos.app.pictures import VIEWS, Pictures
from gpuvos.app.project import Project
from gpuvos.data import read_mask, read_video


@pytest.fixture
def split(project: Project) -> Project:
    project.split()
    project.rename(2, "the other")
    return project


def labels(project: Project) -> torch.Tensor:
    return torch.stack([project.labels(frame) for frame in range(project.num_frames)])


def unrolled(counts: list[int], size: list[int]) -> torch.Tensor:
    """A mask of COCO's uncompressed counts: columns, zeros first."""
    flat = np.concatenate([np.full(count, number % 2) for number, count in enumerate(counts)])
    return torch.from_numpy(flat.reshape(size[1], size[0]).T.astype(bool))


def test_masks_are_read_again(split: Project, tmp_path: Path) -> None:
    EXPORTS["masks.zip"][1](split, tmp_path / "masks.zip")
    with zipfile.ZipFile(tmp_path / "masks.zip") as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
    assert names == [f"Annotations/two/{number:05d}.png" for number in range(6)]
    assert torch.equal(torch.stack([read_mask(tmp_path / name) for name in names]), labels(split))
    again = tmp_path / "again.zip"
    EXPORTS["masks.zip"][1](split, again)
    assert again.read_bytes() == (tmp_path / "masks.zip").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"masks.zip", "again.zip", "Annotations"}


def test_arrays(split: Project, tmp_path: Path) -> None:
    EXPORTS["result.npz"][1](split, tmp_path / "result.npz")
    with np.load(tmp_path / "result.npz", allow_pickle=False) as archive:
        assert torch.equal(torch.from_numpy(archive["labels"]), labels(split))
        assert archive["objects"].tolist() == ["Object 1", "the other"]
        assert archive["seed_owner"].shape == tuple(split.owner.shape)


def test_coco(split: Project, tmp_path: Path) -> None:
    EXPORTS["coco.json"][1](split, tmp_path / "coco.json")
    found = json.loads((tmp_path / "coco.json").read_text())
    assert [one["name"] for one in found["categories"]] == ["Object 1", "the other"]
    truth = labels(split)
    assert len(found["annotations"]) == 12
    for one in found["annotations"]:
        mask = truth[one["image_id"] - 1] == one["category_id"]
        segmentation = one["segmentation"]
        assert torch.equal(unrolled(segmentation["counts"], segmentation["size"]), mask)
        assert one["area"] == int(mask.sum())
        left, top, width, height = one["bbox"]
        inside = torch.zeros_like(mask)
        inside[top : top + height, left : left + width] = True
        assert not bool((mask & ~inside).any())
        assert bool(mask[:, left].any())
        assert bool(mask[top].any())


def test_run_lengths_by_hand() -> None:
    assert run_lengths(torch.tensor([[False, True], [False, True]])) == [2, 2]
    assert run_lengths(torch.tensor([[True]])) == [0, 1]
    assert run_lengths(torch.tensor([[False]])) == [1]


def test_prompts(split: Project, tmp_path: Path) -> None:
    """Points said to be on an object are in its mask, and the box is its box."""
    EXPORTS["prompts.json"][1](split, tmp_path / "prompts.json")
    found = json.loads((tmp_path / "prompts.json").read_text())
    truth = labels(split)
    assert len(found["frames"]) == 6
    for frame, said in enumerate(found["frames"]):
        assert [one["name"] for one in said["objects"]] == ["Object 1", "the other"]
        for number, one in enumerate(said["objects"], 1):
            mask = truth[frame] == number
            for (x, y), label in zip(one["point_coords"], one["point_labels"], strict=True):
                assert bool(mask[round(y), round(x)]) == bool(label)
            rows, columns = mask.nonzero().unbind(1)
            assert one["box"] == [int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())]


def test_video_and_report(split: Project, tmp_path: Path) -> None:
    EXPORTS["overlay.mp4"][1](split, tmp_path / "overlay.mp4")
    clip = read_video(tmp_path / "overlay.mp4")
    assert clip.frames.shape == split.clip.frames.shape
    assert clip.frame_rate == pytest.approx(12)
    EXPORTS["report.html"][1](split, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "Object 1, the other" in text
    assert "data:video/mp4" in text
    assert "data:image/png" in text
    assert {path.name for path in tmp_path.iterdir()} == {"overlay.mp4", "report.html"}


def test_every_picture_is_drawn(project: Project) -> None:
    pictures = Pictures()
    for view in VIEWS:
        data, kind = pictures.draw(project, 1, view)
        assert kind in ("image/png", "image/jpeg")
        assert len(data) > 100
    with pytest.raises(KeyError):
        pictures.draw(project, 1, "../etc")
