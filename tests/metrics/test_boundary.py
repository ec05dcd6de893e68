"""Boundary accuracy F: hand-worked values, a brute force over explicit disks, the official toolkit."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from gpuvos.errors import InputError
from gpuvos.metrics import boundary_accuracy, region_similarity

Array = npt.NDArray[np.bool_]


def boundary_by_pixel(mask: Array) -> Array:
    """The boundary map, one pixel at a time."""
    height, width = mask.shape
    boundary = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            last_row, last_column = y == height - 1, x == width - 1
            neighbours = []
            if not last_column:
                neighbours.append((y, x + 1))
            if not last_row:
                neighbours.append((y + 1, x))
            if not last_row and not last_column:
                neighbours.append((y + 1, x + 1))
            boundary[y, x] = any(mask[y, x] != mask[q] for q in neighbours)
    return boundary


def brute_force(mask: Array, truth: Array, radius: int) -> float:
    """F with SciPy's dilation by a disk that is written out."""
    from scipy import ndimage

    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = x**2 + y**2 <= radius**2
    found, wanted = boundary_by_pixel(mask), boundary_by_pixel(truth)
    near_found = ndimage.binary_dilation(found, structure=disk)
    near_wanted = ndimage.binary_dilation(wanted, structure=disk)
    precision = (found & near_wanted).sum() / found.sum() if found.any() else 1.0
    recall = (wanted & near_found).sum() / wanted.sum() if wanted.any() else 1.0
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def test_hand_worked_boundary_and_distance() -> None:
    truth = torch.zeros(6, 8, dtype=torch.bool)
    truth[2, 2] = True
    # A lone pixel marks itself and its west, north and north-west neighbours: {1,2} x {1,2}.
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[2, 4] = True  # boundary {1,2} x {3,4}: column 3 is 1 away from column 2, column 4 is 2 away
    assert boundary_accuracy(mask, truth, tolerance=0) == 0.0
    assert boundary_accuracy(mask, truth, tolerance=1) == 0.5  # 2 of 4 each way
    assert boundary_accuracy(mask, truth, tolerance=2) == 1.0


def test_the_disk_is_euclidean() -> None:
    truth, mask = torch.zeros(2, 9, 9, dtype=torch.bool)
    truth[3, 3] = True  # boundary {2,3} x {2,3}
    mask[6, 6] = True  # boundary {5,6} x {5,6}: the nearest pair, (3,3) and (5,5), is sqrt(8) = 2.83 away
    assert boundary_accuracy(mask, truth, tolerance=2) == 0.0
    # Within 3 of it: (5,5) only, for (5,6) and (3,3) are sqrt(13) = 3.6 apart. P = R = 1/4.
    assert boundary_accuracy(mask, truth, tolerance=3) == 0.25


def test_precision_differs_from_recall() -> None:
    truth = torch.zeros(1, 12, dtype=torch.bool)
    truth[0, 4] = True  # in one row only the east neighbour counts: boundary {3, 4}
    mask = torch.zeros(1, 12, dtype=torch.bool)
    mask[0, 4:9] = True  # boundary {3, 8}
    # P = 1/2; R within 0 pixels = 1/2, within 1 pixel = 2/2.
    assert boundary_accuracy(mask, truth, tolerance=0) == 0.5
    assert boundary_accuracy(mask, truth, tolerance=1).item() == pytest.approx(2 * 0.5 * 1 / 1.5)


def test_last_row_and_column() -> None:
    corner = torch.zeros(4, 4, dtype=torch.bool)
    corner[3, 3] = True
    # (2,2) sees it to the south-east, (2,3) to the south and (3,2) to the east; (3,3) itself never counts.
    edge = torch.zeros(4, 4, dtype=torch.bool)
    edge[2, 2] = True  # boundary {1,2} x {1,2}, of which only (2,2) is shared
    # P = 1/4 of edge's four, R = 1/3 of corner's three: F = 2/7.
    assert boundary_accuracy(edge, corner, tolerance=0).item() == pytest.approx(2 / 7)


def test_masks_without_boundary() -> None:
    empty, full = torch.zeros(5, 5, dtype=torch.bool), torch.ones(5, 5, dtype=torch.bool)
    some = torch.zeros(5, 5, dtype=torch.bool)
    some[1:3, 1:3] = True
    masks = torch.stack([empty, full, empty, full, some, empty, some])
    truths = torch.stack([empty, full, full, empty, empty, some, full])
    assert boundary_accuracy(masks, truths).tolist() == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    lone = torch.ones(1, 1, dtype=torch.bool)
    assert boundary_accuracy(lone, ~lone) == 1.0  # one pixel has no neighbour, so no boundary


def test_tolerance_is_rounded_up() -> None:
    truth = torch.zeros(30, 40, dtype=torch.bool)
    truth[10:20, 10:20] = True
    mask = truth.roll(2, dims=1)
    # The diagonal is 50: 0.02 gives exactly 1 pixel, 0.0201 gives 1.005 and so 2.
    assert boundary_accuracy(mask, truth, tolerance=0.02) == boundary_accuracy(mask, truth, tolerance=1)
    assert boundary_accuracy(mask, truth, tolerance=0.0201) == boundary_accuracy(mask, truth, tolerance=2)
    assert boundary_accuracy(mask, truth, tolerance=1) < boundary_accuracy(mask, truth, tolerance=2)


def masks_of_many_kinds(height: int, width: int, seed: int) -> Tensor:
    """Noise, blobs, lone pixels (one in every corner), objects at the border, empty, full: [12, H, W]."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    masks = np.zeros((12, height, width), dtype=bool)
    masks[0] = rng.random((height, width)) > 0.5
    masks[1] = rng.random((height, width)) > 0.95
    masks[2] = ndimage.gaussian_filter(rng.standard_normal((height, width)), 2) > 0
    masks[3, rng.integers(height), rng.integers(width)] = True
    for number, corner in enumerate([(0, 0), (0, -1), (-1, 0), (-1, -1)]):
        masks[(4 + number, *corner)] = True
    masks[8, : height // 2 + 1, : width // 2 + 1] = True
    masks[9, height // 2 :, width // 2 :] = True
    masks[11] = True
    return torch.from_numpy(masks)


@pytest.mark.sampled
@pytest.mark.parametrize("size", [(16, 23), (1, 19), (19, 1), (1, 1), (2, 2), (9, 40)])
@pytest.mark.parametrize("radius", [0, 1, 2, 3, 5, 8, 30])
def test_against_brute_force(size: tuple[int, int], radius: int) -> None:
    masks = masks_of_many_kinds(*size, seed=radius)
    truths = masks_of_many_kinds(*size, seed=100 + radius).roll(radius % 5, dims=0)
    tolerance = radius if radius else 0.0
    expected = [brute_force(a.numpy(), b.numpy(), radius) for a, b in zip(masks, truths, strict=True)]
    torch.testing.assert_close(boundary_accuracy(masks, truths, tolerance=tolerance), torch.tensor(expected))


def test_batch_equals_single(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = torch.rand(2, 5, 17, 21, generator=generator) > 0.7
    truth = torch.rand(2, 5, 17, 21, generator=generator) > 0.7
    batch = boundary_accuracy(mask, truth, tolerance=1)
    single = [[boundary_accuracy(mask[b, t], truth[b, t], tolerance=1) for t in range(5)] for b in range(2)]
    assert batch.shape == (2, 5)
    assert batch.unique().numel() > 1
    assert batch.tolist() == [[value.item() for value in row] for row in single]
    # Chunks of 3 frames, the last one of 1, change nothing.
    monkeypatch.setattr("gpuvos.metrics.pair._CPU_PIXELS", 3 * 17 * 21)
    assert torch.equal(boundary_accuracy(mask, truth, tolerance=1), batch)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_every_id_is_the_object(dtype: torch.dtype, generator: torch.Generator) -> None:
    ids = torch.randint(0, 4, (3, 16, 16), generator=generator)
    truth = torch.rand(3, 16, 16, generator=generator) > 0.8
    result = boundary_accuracy(ids.to(dtype), truth, tolerance=0)
    assert torch.equal(result, boundary_accuracy(ids != 0, truth, tolerance=0))
    assert not torch.equal(result, boundary_accuracy(ids == 1, truth, tolerance=0))


def test_input_is_left_alone_whatever_its_strides(generator: torch.Generator) -> None:
    mask = torch.rand(20, 3, 12, generator=generator).permute(1, 0, 2) > 0.8
    truth = (torch.rand(12, 20, generator=generator) > 0.8).T.expand(3, 20, 12)
    assert not mask.is_contiguous()
    before = mask.clone(), truth.clone()
    result = boundary_accuracy(mask, truth, tolerance=1)
    assert torch.equal(mask, before[0])
    assert torch.equal(truth, before[1])
    assert torch.equal(result, boundary_accuracy(*before, tolerance=1))
    assert boundary_accuracy(mask[:0], truth[:0]).shape == (0,)


def test_no_value_is_read() -> None:
    """Nothing depends on values: the meta device, which has none, gives the shape."""
    mask = torch.zeros(2, 3, 40, 50, dtype=torch.bool, device="meta")
    assert boundary_accuracy(mask, mask).shape == (2, 3)
    assert region_similarity(mask, mask, void=mask).shape == (2, 3)


@pytest.mark.parametrize("tolerance", [-0.1, -1, 1.5, math.inf, math.nan])
def test_bad_tolerance(tolerance: float) -> None:
    mask = torch.zeros(4, 4, dtype=torch.bool)
    with pytest.raises(InputError, match="tolerance: got"):
        boundary_accuracy(mask, mask, tolerance=tolerance)


def test_bad_masks() -> None:
    mask = torch.zeros(4, 4, dtype=torch.bool)
    with pytest.raises(InputError, match=r"mask: got torch.float32.*probability > 0\.5"):
        boundary_accuracy(mask.float(), mask)
    with pytest.raises(InputError, match=r"truth: got shape \(3, 4\)"):
        boundary_accuracy(mask, mask[:3])


def load(root: Path, sequence: str, frame: str) -> Tensor:
    """An annotation as bool [H, W], read without the library."""
    with Image.open(root / "davis2016" / "Annotations" / "480p" / sequence / f"{frame}.png") as image:
        return torch.from_numpy(np.array(image.convert("L")) > 0)


@pytest.mark.slow
@pytest.mark.data
def test_equals_the_official_toolkit(development_data: Path) -> None:
    """J and F of the official DAVIS toolkit for 424 pairs of masks."""
    table = development_data / "metrics" / "reference.csv"
    if not table.is_file():
        pytest.skip("no metrics/reference.csv in the development data")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 400
    for row in rows:
        mask = load(development_data, row["sequence"], row["prediction"])
        truth = load(development_data, row["sequence"], row["truth"])
        assert region_similarity(mask, truth).item() == pytest.approx(float(row["J"]), abs=1e-6), row
        assert boundary_accuracy(mask, truth).item() == pytest.approx(float(row["F"]), abs=1e-6), row
