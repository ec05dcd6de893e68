"""`gpuvos figures`, and `gpuvos evaluate` on the other datasets, as a user runs them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from gpuvos.cli.main import main
from gpuvos.data import render_clip, write_mask

QUICK = ["--front-end", "appearance", "--num-seeds", "30"]


@pytest.mark.slow
def test_figures_of_a_sequence_of_davis(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "figures"
    sequence = str(davis / "JPEGImages" / "480p" / "one")
    assert main(["figures", sequence, "-o", str(output), "--frame", "2", *QUICK]) == 0
    assert {path.name for path in output.iterdir()} == {f"figure{number}.png" for number in (1, 3, 4, 5, 7)}
    assert main(["figures", sequence, "-o", str(output), *QUICK]) == 2  # what exists is kept
    assert main(["figures", sequence, "-o", str(tmp_path / "no"), "--frame", "5", *QUICK]) == 2
    assert "--frame" in capsys.readouterr().err
    truth = ["--truth", str(davis / "Annotations" / "480p" / "two"), "--stop", "3", "--max-side", "60"]
    assert main(["figures", sequence, "-o", str(output), "--overwrite", *truth, *QUICK]) == 0
    assert not (tmp_path / "no").exists()


def test_a_sequence_of_which_no_frame_counts(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(davis, tmp_path / "short")
    for file in tmp_path.rglob("0000[234].*"):
        file.unlink()
    listing = tmp_path / "short/ImageSets/480p/train.txt"
    listing.write_text("".join(listing.read_text().splitlines(keepends=True)[:2]))
    assert main(["evaluate", "--root", str(tmp_path / "short"), *QUICK]) == 2
    assert "root: got 2 frames in 'one', wanted at least three" in capsys.readouterr().err


@pytest.mark.slow
def test_figures_without_truth(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip").symlink_to(davis / "JPEGImages" / "480p" / "one")
    assert main(["figures", str(tmp_path / "clip"), "-o", str(tmp_path / "out"), *QUICK]) == 0
    assert "--truth" in capsys.readouterr().out
    assert not (tmp_path / "out" / "figure7.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["fbms59", "segtrack2"])
def test_other_datasets(dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rendered = render_clip("single", num_frames=5, height=64, width=96, seed=0)
    fbms = dataset == "fbms59"
    images = tmp_path / ("Testset/cat" if fbms else "JPEGImages/cat")
    masks = images / "GroundTruth" if fbms else tmp_path / "GroundTruth" / "cat"
    masks.mkdir(parents=True)
    images.mkdir(parents=True, exist_ok=True)
    for frame in range(5):
        Image.fromarray(rendered.frames[frame].permute(1, 2, 0).numpy()).save(images / f"cat_{frame}.jpg")
        if not fbms or frame in (1, 4):
            grey = Image.fromarray(rendered.mask[frame].byte().numpy() * 255)
            grey.save(masks / f"cat_{frame}.{'pgm' if fbms else 'png'}")
    output = tmp_path / "out"
    arguments = ["evaluate", "--dataset", dataset, "--root", str(tmp_path), "-o", str(output), *QUICK]
    assert main([*arguments, "--experiment", "main", "sequences", "semi", "--refinements"]) == 0
    row = json.loads((output / "sequences" / "cat" / "paper.json").read_text())["row"]
    assert len(row["j"]) == (2 if fbms else 5)
    text = capsys.readouterr().out
    assert ("[MP]" in text, "[LVO]" in text) == (fbms, True)
    assert main(arguments) == 0  # the plain table, with sheets
    assert len(list((output / "sheets").iterdir())) == 1


@pytest.mark.slow
def test_masks_of_another_method(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The true masks as published results, packed: J and F 100, and better than gpuvos on every sequence."""
    shutil.copytree(davis / "Annotations" / "480p", tmp_path / "peer" / "masks")
    archive = shutil.make_archive(str(tmp_path / "best"), "zip", tmp_path / "peer")
    arguments = ["evaluate", "--root", str(davis), "--predictions", archive, *QUICK]
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "| one | best | 3 | 100.0 | 100.0 | 0.0 | 100.0 | 100.0 | 0.0 |" in text
    assert "J of robust less that of best: -" in text
    assert "better on 0, worse on 3; sign test p = 0.250" in text
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [row["scored"] for row in rows] == [3] * 6
    assert all(row["seed_accuracy"] is None for row in rows if row["method"] == "best")  # NaN is no JSON
    shutil.rmtree(tmp_path / "peer" / "masks" / "two")
    assert main(["evaluate", "--root", str(davis), "--predictions", str(tmp_path / "peer"), *QUICK]) == 2
    assert "without two" in capsys.readouterr().err


def test_your_own_videos(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("JPEGImages", "Annotations"):
        shutil.copytree(davis / kind / "480p" / "one", tmp_path / kind / "one")
    folders = [str(tmp_path / kind) for kind in ("JPEGImages", "Annotations")]
    assert main(["evaluate", "--frames", folders[0], "--masks", folders[1], *QUICK]) == 0
    assert "| one | robust | 5 |" in capsys.readouterr().out  # every mask counts
    assert main(["evaluate", "--frames", folders[0], *QUICK]) == 2
    assert "--frames and --masks" in capsys.readouterr().err


@pytest.mark.slow
def test_without_stability_and_with_attributes(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """T is left out where it is asked for, and attributes are printed where the folder has them."""
    shutil.copytree(davis, tmp_path / "davis")
    (tmp_path / "davis/db_info.yml").write_text(
        "sequences:\n- {name: one, attributes: [FM, DEF]}\n- {name: two, attributes: [DEF]}\n"
    )
    arguments = ["evaluate", "--root", str(tmp_path / "davis"), "--no-stability", *QUICK]
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "| attribute | sequences | J of robust | difference |" in text
    assert "| FM, fast motion | 1 |" in text
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [row["t"] for row in rows] == [None] * 3
    assert (tmp_path / "out" / "table.md").read_text() == text


def write_davis2017(root: Path) -> torch.Tensor:
    """One rendered sequence with two objects, and their true ids."""
    rendered = render_clip("two", num_frames=4, height=64, width=96, seed=0)
    for number, frame in enumerate(rendered.frames):
        image = root / "JPEGImages/480p/judo" / f"{number:05d}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(image)
        write_mask(root / "Annotations_unsupervised/480p/judo" / f"{number:05d}.png", rendered.instances[number])
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/train.txt").write_text("judo")
    return rendered.instances


@pytest.mark.slow
def test_several_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both objects of a clip, found by `instances`; and true masks with the numbers exchanged, which are matched."""
    ids = write_davis2017(tmp_path / "davis")
    for number, mask in enumerate(torch.where(ids > 0, 3 - ids, 0)):
        write_mask(tmp_path / "swapped/judo" / f"{number:05d}.png", mask)
    arguments = ["evaluate", "--dataset", "davis2017", "--root", str(tmp_path / "davis"), *QUICK]
    assert main([*arguments, "--predictions", str(tmp_path / "swapped"), "-o", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert text.startswith("| sequence | method | scored | J&F | J | J recall | J decay | F | F recall | F decay |")
    for name in ("judo_1", "judo_2", "**mean**"):
        assert f"| {name} | swapped | {8 if name == '**mean**' else 4} | 100.0 | 100.0 | 100.0 | 0.0 | 100.0 |" in text
    assert "J&F of robust less that of swapped: -" in text
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [row["sequence"] for row in rows] == ["judo_1", "judo_2"] * 2
    assert all(row["j"] > 0.5 for row in rows)  # of a rendered clip both objects are found
    assert main([*arguments, "--experiment", "main", "-o", str(tmp_path / "no")]) == 2
    assert main([*arguments, "--num-instances", "21"]) == 2
    assert "wanted at most 20" in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.slow
def test_a_real_sequence_of_fbms(development_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In its own layout; four of its thirty frames have masks."""
    root = development_data / "fbms59"
    if not root.is_dir():
        pytest.skip("no fbms59 in the development data")
    arguments = ["evaluate", "--dataset", "fbms59", "--split", "train", "--root", str(root), "--sequences", "cars2"]
    with pytest.warns(UserWarning, match="5 of 29 sequences"):
        assert main([*arguments, "--no-stability", *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| sequence | method | scored | J | precision | recall | F-measure |")
    j, precision, recall, f = (float(cell) for cell in lines[2].split("|")[4:8])
    assert lines[2].startswith("| cars2 | robust | 4 |")
    assert f == pytest.approx(2 * precision * recall / (precision + recall), abs=0.1)
    assert 0 < j < 100
