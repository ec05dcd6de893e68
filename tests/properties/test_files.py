"""Every function and class of ``gpuvos.data`` under arguments of every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from gpuvos import data


def with_file(read: Callable[..., Any]) -> Callable[..., Any]:
    """Writes the file of a good name first."""

    def reads(path: Any, **options: Any) -> Any:
        if isinstance(path, Path) and path.stem == "good":
            if path.suffix == ".png":
                data.write_mask(path, torch.ones(5, 7, dtype=torch.bool))
            else:
                data.write_video(path, torch.zeros(4, 3, 6, 8))
        found = read(path, **options)
        return found if isinstance(found, Tensor | tuple) else [clip.frames for clip in found]

    return reads


def tree(root: Any) -> None:
    """One sequence of one frame in the layouts of all datasets."""
    if not isinstance(root, Path) or root.name != "good":
        return
    images = {
        "JPEGImages/480p/bear/00000.jpg": "RGB", "Annotations/480p/bear/00000.png": "L",
        "Annotations_unsupervised/480p/bear/00000.png": "L",
        "Testset/camel/camel_1.jpg": "RGB", "Testset/camel/GroundTruth/camel_1_gt.ppm": "RGB",
        "segtrack/JPEGImages/bmx/1.png": "RGB", "segtrack/GroundTruth/bmx/1.png": "L",
    }  # fmt: skip
    for name, mode in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (8, 6)).save(root / name)
    split = root / "ImageSets/480p/train.txt"
    split.parent.mkdir(parents=True, exist_ok=True)
    split.write_text("/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png")
    (root / "ImageSets/2017").mkdir(exist_ok=True)
    (root / "ImageSets/2017/train.txt").write_text("bear")


def davis(root: Any, split: str = "train", resolution: str = "480p") -> Tensor:
    tree(root)
    return data.Davis2016(root, split=split, resolution=resolution)[0].mask


def davis2017(root: Any, split: str = "train", resolution: str = "480p") -> Tensor:
    tree(root)
    return data.Davis2017(root, split=split, resolution=resolution)[0].mask


def fbms(root: Any, split: str = "test") -> Tensor:
    tree(root)
    return data.Fbms59(root, split=split)["camel"].mask


def segtrack(root: Any) -> Tensor:
    tree(root)
    return data.SegTrack2(root / "segtrack" if isinstance(root, Path) else root)["bmx"].mask


def video_writer(path: Any, frames: Tensor, frame_rate: float = 24.0, crf: float = 18.0) -> None:
    with data.VideoWriter(path, frame_rate=frame_rate, crf=crf) as writer:
        writer.write(frames)


def write_masks(path: Any, masks: Tensor) -> None:  # errors call the folder a path
    data.write_masks(path, masks, overwrite=True)


def save_npz(path: Any, values: Any) -> None:
    data.save_npz(path, values=values)


def render_clip(num_frames: int = 2, height: int = 8, width: int = 9, **options: Any) -> data.RenderedClip:
    return data.render_clip(num_frames=num_frames, height=height, width=width, **options)


SELECTION = {"start": (0, 1), "step": "count", "max_side": (None, 4)}
RATES = {"frame_rate": (24, 5.0), "crf": (0, 18.0, 51)}
CASES: dict[str, tuple[Callable[..., Any], dict[str, str], dict[str, Any], list[str]]] = {
    "Davis2016": (davis, {"root": "path "}, {"split": ("train",), "resolution": ("480p",)}, ["bool 1 6 8"]),
    "Davis2017": (davis2017, {"root": "path "}, {"split": ("train",), "resolution": ("480p",)}, ["bool 1 6 8"]),
    "Fbms59": (fbms, {"root": "path "}, {"split": ("test",)}, ["bool 1 6 8"]),
    "SegTrack2": (segtrack, {"root": "path "}, {}, ["bool 1 6 8"]),
    "VideoWriter": (video_writer, {"path": "path .mkv", "frames": "frames T 3 H W"}, RATES, []),
    "write_video": (data.write_video, {"path": "path .gif", "frames": "frames T 3 H W"}, RATES, []),
    "write_mask": (data.write_mask, {"path": "path .png", "mask": "ids H W"}, {}, []),
    "write_masks": (write_masks, {"path": "path ", "masks": "ids T H W"}, {}, []),
    "save_npz": (save_npz, {"path": "path .npz", "values": "float ..."}, {}, []),
    "davis_palette": (data.davis_palette, {}, {}, ["uint8 256 3"]),
    "read_ids": (with_file(data.read_ids), {"path": "path .png"}, {}, ["uint8 5 7"]),
    "read_mask": (with_file(data.read_mask), {"path": "path .png"}, {}, ["uint8 5 7"]),
    "probe_video": (with_file(data.probe_video), {"path": "path .mp4"}, {}, []),
    "read_video": (with_file(lambda path, **options: [data.read_video(path, **options)]), {"path": "path .mp4"}, SELECTION,
                   ["uint8 (3-start)//step+1 3 3*(max_side==4)+6*(max_side!=4) 4*(max_side==4)+8*(max_side!=4)"]),
    "iterate_video": (
        with_file(data.iterate_video), {"path": "path .mp4"}, {"chunk": (9, 8), "step": "count"}, ["uint8 3//step+1 3 6 8"]
    ),
    "render_clip": (
        render_clip, {}, {
            "scene": data.SCENES, "num_frames": "count", "height": "count", "width": "count", "seed": (0, -1, 7),
            "speed": "weight", "camera_speed": "weight", "noise": "weight",
        },
        ["uint8 num_frames 3 height width", "bool num_frames height width", "index num_frames height width",
         "float num_frames 2 height width", "bool num_frames height width"],
    ),
}  # fmt: skip


def test_every_public_name_has_a_case(public: Callable) -> None:
    assert public(data) == set(CASES)


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_refused_by_name_or_as_promised(holds: Callable, name: str) -> None:
    holds(CASES[name], 15)
