"""``gpuvos train`` as a user runs it."""

from __future__ import annotations

import csv
import functools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gpuvos.cli.main import main
from gpuvos.features.network.weights import load_weights
from gpuvos.training.synthetic import RenderedStills

QUICK = ["--size", "64", "--batch-size", "2", "--log-every", "1", "--threads", "1", "--device", "cpu"]


@pytest.fixture(autouse=True)
def few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    small = functools.partial(RenderedStills, 2, height=48, width=64)
    monkeypatch.setattr("gpuvos.cli.train.RenderedStills", lambda *_numbers, seed: small(seed=seed))
    monkeypatch.setattr("gpuvos.cli.train._FITTED", 4)
    monkeypatch.setattr("gpuvos.cli.train._LINEAR", 4)


@pytest.mark.slow
def test_without_data_it_trains_on_rendered_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run"
    assert main(["train", "-o", str(output), "--steps", "2", *QUICK]) == 0
    assert sorted(path.name for path in output.iterdir()) == [
        "checkpoint.pt",
        "log.csv",
        "weights.json",
        "weights.safetensors",
    ]
    card = json.loads((output / "weights.json").read_text())
    assert (card["steps"], card["images"], card["began_with"]) == (2, 4, None)
    assert card["all_licences_free"]
    assert card["held_out_after"]["step"] == 2
    assert "held out, step 2" in capsys.readouterr().out
    tensors = load_file(output / "weights.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.float16, torch.int64}
    network = load_weights(output / "weights.safetensors")
    assert network(torch.rand(1, 3, 64, 64)).object_logit.isfinite().all()
    # Resuming goes on where it stopped; its weights can be where another run begins.
    assert main(["train", "-o", str(output), "--steps", "3", "--resume", *QUICK]) == 0
    rows = list(csv.DictReader((output / "log.csv").open()))
    assert [row["step"] for row in rows if row["loss"]] == ["1", "2", "3"]
    init = ["--init", str(output / "weights.safetensors"), "--encoder-scale", "0", "--freeze-statistics"]
    assert main(["train", "-o", str(tmp_path / "next"), "--steps", "1", *init, *QUICK]) == 0
    card = json.loads((tmp_path / "next" / "weights.json").read_text())
    assert card["began_with"]["file"] == "weights.safetensors"


@pytest.mark.slow
def test_a_linear_objectness_in_place_of_the_hidden_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--linear-objectness", "--pair-weight", "0", *QUICK]
    assert main(["train", "-o", str(tmp_path / "run"), "--steps", "1", *words]) == 0
    weights = tmp_path / "run" / "weights.safetensors"
    assert load_weights(weights).width == 0
    assert json.loads(weights.with_suffix(".json").read_text())["linear_objectness"] == {"images": 4, "size": 64}
    words += ["--init", str(weights), "--steps", "1"]
    assert main(["train", "-o", str(tmp_path / "next"), *words]) == 2
    assert "--linear-objectness: got weights without a hidden layer" in capsys.readouterr().err


@pytest.mark.slow
def test_stills_are_packed_and_the_card_says_their_licences(
    stills_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: nn.Module
) -> None:
    monkeypatch.setattr("gpuvos.cli.train.EmbeddingNetwork", lambda: tiny)
    words = ["train", "-o", str(tmp_path / "run"), "--steps", "2", "--stills", str(stills_root), *QUICK]
    for _ in range(2):  # the second time the pack is there already
        assert main([*words, "--pack", str(tmp_path / "packed"), "--keep", "none"]) == 0
    card = json.loads((tmp_path / "run" / "weights.json").read_text())
    assert card["all_licences_free"]
    assert set(card["licences"]) <= {"coco_mini", "coco_oneperson", "ccp", "clothing_small"}
    assert card["stills"] == sum(sum(row.values()) for row in card["licences"].values())
    assert (tmp_path / "packed" / "pixels.npy").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stills", "nowhere"], "--stills: got 'nowhere'"),
        (["--init", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--init", "nowhere.pth"], "nowhere.pth"),
        (["--pack", "somewhere"], "--stills"),
        (["--linear-objectness"], "--linear-objectness: got it with --pair-weight 1, wanted --pair-weight 0"),
        (["--minutes", "-1"], "minutes"),
        (["--threads", "0"], "--threads"),
        (["--size", "16"], "--size"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "-o", str(tmp_path / "run"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
