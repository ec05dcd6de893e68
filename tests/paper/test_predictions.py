"""Masks that somebody else made: where they are found, what is refused, and the sign test."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from gpuvos.data import write_mask
from gpuvos.errors import InputError
from gpuvos.paper import predictions
from gpuvos.paper.predictions import Predictions, sign_test, unpacked


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two methods in the layout of the results that DAVIS publishes: objects 1 and 3 in two frames."""
    for method in ("arp", "lvo"):
        for frame in range(2):
            mask = torch.zeros(4, 6, dtype=torch.uint8)
            mask[0, frame], mask[2, 3] = 1, 3
            write_mask(tmp_path / "Results/Segmentations/480p" / method / "bear" / f"{frame:05d}.png", mask)
    return tmp_path


def test_a_method_of_several_must_be_named(results: Path) -> None:
    with pytest.raises(InputError, match=r"masks of bear in '.*480p/arp', '.*480p/lvo', wanted one method"):
        Predictions(results, ["bear"])
    masks = Predictions(results / "Results/Segmentations/480p/arp", ["bear"]).read("bear", ["00000", "00001"], (4, 6))
    assert masks.sum((1, 2)).tolist() == [2, 2]
    with pytest.raises(InputError, match="without boat"):
        Predictions(results / "Results/Segmentations/480p/arp", ["bear", "boat"])
    with pytest.raises(InputError, match="which is no folder"):
        Predictions(results / "nowhere", ["bear"])


def test_objects_by_number(results: Path) -> None:
    """The gap, number 2, is an empty object."""
    masks = Predictions(results / "Results/Segmentations/480p/arp", ["bear"])
    found = masks.read_objects("bear", ["00000", "00001"], (4, 6))
    assert found.shape == (3, 2, 4, 6)
    assert found.sum((1, 2, 3)).tolist() == [2, 0, 2]
    assert found[0].nonzero().tolist() == [[0, 0, 0], [1, 0, 1]]
    write_mask(masks.root / "bear" / "00001.png", torch.full((4, 6), 21, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"object 21 .* up to 20"):
        masks.read_objects("bear", ["00000", "00001"], (4, 6))
    with pytest.raises(InputError, match="4 x 6 pixels, wanted 5 x 6"):
        masks.read_objects("bear", ["00000"], (5, 6))


def test_archives(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Path(shutil.make_archive(str(results / "arp"), "zip", results / "Results/Segmentations/480p/arp"))
    with unpacked(archive) as folder:
        assert Predictions(folder, ["bear"]).root == folder
    assert not folder.exists()
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../outside.txt", "")
    with unpacked(archive) as folder:
        assert not (folder.parent / "outside.txt").exists()
    monkeypatch.setattr(predictions, "_MOST_BYTES", 10)
    with pytest.raises(InputError, match="unpack it"), unpacked(archive):
        pass
    archive.write_bytes(b"no archive")
    with pytest.raises(InputError, match="that can be read"), unpacked(archive):
        pass


@pytest.mark.parametrize(
    ("better", "worse", "chance"),
    [
        (3, 0, 2 / 8),  # 2 (1) / 2^3
        (9, 1, 2 * (1 + 10) / 1024),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (5, 5, 1.0),  # twice the half that includes the middle is more than 1
        (0, 0, 1.0),
        (22, 8, 2 * (1 + 30 + 435 + 4060 + 27405 + 142506 + 593775 + 2035800 + 5852925) / 2**30),
    ],
)
def test_sign_test_by_hand(better: int, worse: int, chance: float) -> None:
    first = [1.0] * better + [0.0] * worse + [0.5] * 3  # three ties, which are left out
    second = [0.0] * better + [1.0] * worse + [0.5] * 3
    found = sign_test(first, second)
    assert found[:2] == (better, worse)
    assert found[2] == pytest.approx(chance)


@pytest.mark.slow  # SciPy's statistics take a second to import
def test_sign_test_is_that_of_scipy() -> None:
    from scipy.stats import binomtest

    for better, worse in ((3, 0), (9, 1), (2, 8), (5, 5), (22, 8)):
        found = sign_test([1.0] * better + [0.0] * worse, [0.0] * better + [1.0] * worse)
        assert found[2] == pytest.approx(binomtest(better, better + worse).pvalue)
