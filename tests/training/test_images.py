"""Reading a tree of stills, and what its masks mean."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gpuvos.errors import InputError
from gpuvos.training.images import (
    UNKNOWN,
    Still,
    StillRecord,
    StillsDataset,
    is_free,
    licence_counts,
    pack,
    read_index,
    source_weights,
)
from gpuvos.training.synthetic import RenderedStills


def everything(root: Path, **options: object) -> dict[tuple[str, str], Still]:
    stills = {}
    for split in ("train", "held-out"):
        part = StillsDataset(root, split=split, **options)  # type: ignore[arg-type]
        stills |= {(record.source, record.stem): part[n] for n, record in enumerate(part.records)}
    return stills


@pytest.mark.parametrize(
    ("licence", "free"),
    [
        ("CC BY 2.0", True),
        ("CC BY-SA 2.0", True),
        ("CC BY-NC 2.0", False),
        ("CC BY-ND 2.0", False),
        ("CC BY-NC-SA 2.0", False),
        ("COCO ann CC BY 4.0; image Attribution License", True),
        ("COCO ann CC BY 4.0; image Attribution-ShareAlike License", True),
        ("COCO ann CC BY 4.0; image Attribution-NoDerivs License", False),
        ("COCO ann CC BY 4.0; image Attribution-NonCommercial-ShareAlike License", False),
        ("COCO ann CC BY 4.0; image CC BY-NC-ND 2.0", False),
        ("no known copyright restrictions", True),
        ("CC0", True),
        ("repo LICENSE: MIT License (image rights unknown)", True),
        ("Apache-2.0 (repo LICENSE); image rights not stated", True),
        ("free for any purpose (README); see LICENSE", True),
        ("BSDS500: no licence file; non-commercial research", False),
        ("no licence; image rights unknown", False),
        ("DUTS: no licence stated (research use; images from ImageNet DET)", False),
        ("photo by CC (attributions/ in repo)", False),
        ("limited permission, not transmitted", False),
    ],
)
def test_free_licences(licence: str, free: bool) -> None:
    assert is_free(licence) == free


def test_licence_of_a_coco_photograph_is_its_own(stills_root: Path) -> None:
    records = {(record.source, record.stem): record for record in read_index(stills_root)}
    assert records["coco_mini", "000"].licence == "CC BY-SA 2.0"
    assert records["coco_mini", "000"].free
    assert not records["coco_mini", "001"].free
    assert not records["coco_oneperson", "001"].free
    assert records["coco_oneperson", "000"].free
    free = {key for key, record in records.items() if record.free}
    assert set(everything(stills_root, licences="free")) == free
    assert Counter(source for source, _ in free) == {
        "coco_mini": 1,
        "coco_oneperson": 5,
        "ccp": 6,
        "clothing_small": 6,
    }


def test_masks_say_what_their_kind_says(stills_root: Path) -> None:
    stills = everything(stills_root)
    # (row, column) of the first object, the second, and neither -> instance, objectness
    expected = {
        "coco_mini": [(1, 1), (2, 1), (0, 0)],
        "coco_oneperson": [(1, 1), (2, 1), (UNKNOWN, UNKNOWN)],  # only persons are labelled
        "ecssd": [(1, 1), (0, 0), (0, 0)],
        "bsds500": [(2, 1), (3, 0), (1, 0)],  # regions, and which of them is salient
        "ccp": [(1, 1), (1, 1), (0, 0)],  # parts of one person
        "clothing_small": [(UNKNOWN, UNKNOWN)] * 3,
    }
    for source, values in expected.items():
        still = stills[source, "002"]
        assert still.image.shape == (3, 60, 80)
        for (row, column), (instance, objectness) in zip([(20, 30), (45, 60), (5, 5)], values, strict=True):
            assert (int(still.instance[row, column]), int(still.objectness[row, column])) == (
                instance,
                objectness,
            )
    red, green, _ = stills["ecssd", "000"].image[:, 12:28, 22:38].float().mean((1, 2)).tolist()
    assert red > green + 100


def test_splits_are_a_partition_that_stays() -> None:
    records = [StillRecord("duts_tr", f"{n:08d}", 1, 1, "binary", "") for n in range(2000)]
    held_out = sum(record.held_out for record in records)
    assert 150 < held_out < 250
    assert [n for n in range(30) if records[n].held_out] == [
        n for n in range(30) if StillRecord("duts_tr", f"{n:08d}", 9, 9, "none", "other").held_out
    ]


def test_pack_holds_what_the_tree_holds(stills_root: Path, tmp_path: Path) -> None:
    assert pack(stills_root, tmp_path / "packed", size=40) == 36
    packed, direct = everything(tmp_path / "packed"), everything(stills_root, size=40)
    assert packed.keys() == direct.keys()
    for key, still in packed.items():
        assert still.image.shape == (3, 30, 40)
        for ours, theirs in zip(still, direct[key], strict=True):
            assert torch.equal(ours, theirs)
    assert pack(stills_root, tmp_path / "free", licences="free") == 18
    assert set(everything(tmp_path / "free")) == set(everything(stills_root, licences="free"))
    with pytest.raises(InputError, match="not empty"):
        pack(stills_root, tmp_path / "packed")


def test_small_sources_are_not_drowned() -> None:
    records = [StillRecord("a", str(n), 1, 1, "none", "x") for n in range(100)]
    records += [StillRecord("b", str(n), 1, 1, "none", "y") for n in range(4)]
    weight = source_weights(records)
    assert float(weight.sum()) == pytest.approx(1)
    assert float(weight[:100].sum() / weight[100:].sum()) == pytest.approx(5)  # root of 25
    assert licence_counts(records) == {"a": {"x": 100}, "b": {"y": 4}}


def test_bad_trees_are_named(stills_root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.csv"):
        StillsDataset(tmp_path)
    (tmp_path / "index.csv").write_text("source,stem\na,b\n")
    with pytest.raises(InputError, match="licence"):
        StillsDataset(tmp_path)
    with pytest.raises(InputError, match="licences"):
        StillsDataset(stills_root, licences="some")
    (tmp_path / "index.csv").write_text("source,stem,width,height,mask_kind,licence\na,b,8,8,instance,CC0\n")
    with pytest.raises(InputError, match=r"b\.jpg"):
        pack(tmp_path, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()
    for folder, values in (
        ("images", np.zeros((8, 8, 3), np.uint8)),
        ("masks", np.full((8, 8), 255, np.uint8)),
    ):
        (tmp_path / "a" / folder).mkdir(parents=True)
        Image.fromarray(values).save(tmp_path / "a" / folder / f"b.{'jpg' if folder == 'images' else 'png'}")
    with pytest.raises(InputError, match="label 255"):
        pack(tmp_path, tmp_path / "packed")
    pack_folder = tmp_path / "broken"
    pack_folder.mkdir()
    (pack_folder / "pixels.npy").write_bytes(b"")
    (pack_folder / "index.json").write_text("{")
    with pytest.raises(InputError, match="a folder that pack wrote"):
        StillsDataset(pack_folder)


def test_rendered_stills_know_everything() -> None:
    stills = RenderedStills(2, height=48, width=64)
    assert len(stills) == len(stills.records) == 8
    still = stills[0]
    assert still.image.shape == (3, 48, 64)
    assert torch.equal(still.objectness == 1, still.instance > 0)
    assert (still.instance > 0).any()


@pytest.mark.data
def test_the_real_tree(development_data: Path) -> None:
    root = development_data / "stills"
    records = read_index(root)
    assert len(records) == 3348
    assert sum(record.free for record in records) == 684
    assert not any(record.free for record in records if record.source in ("bsds500", "duts_tr", "ecssd"))
    dataset = StillsDataset(root, licences="free", split="held-out")
    assert 0.07 < len(dataset) / 684 < 0.13
    assert dataset[0].image.shape[0] == 3
