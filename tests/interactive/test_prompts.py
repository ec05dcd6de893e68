"""Prompts for a promptable segmenter, and clicks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import gpuvos
from gpuvos import Config, InputError, Segmentation, mask_from_points, prompts, segment
from gpuvos.features.context import resize
from gpuvos.interactive.prompts import _boxes

SMALL = {"num_seeds": 20, "num_background": 6, "window": 3}


def squares(frames: int = 3, h: int = 12, w: int = 16) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Two squares, of which the left one moves; and the number of the object at every pixel."""
    number = torch.zeros(frames, h, w, dtype=torch.int64)
    number[:, 2:7, 1:6], number[:, 5:11, 9:15] = 1, 2
    embedding = 4 * torch.nn.functional.one_hot(number, 3).movedim(3, 1).float()
    embedding += 0.1 * torch.randn(embedding.shape, generator=torch.Generator().manual_seed(0))
    flow = torch.zeros(frames, 2, h, w)
    flow[:, 0] = 2.0 * (number == 1)
    return (embedding, 0.1 + 0.8 * (number > 0), flow), number


@pytest.fixture
def result() -> Segmentation:
    return segment(*squares()[0], config=Config(rule="paper", **SMALL), size=(24, 48))


def test_points_lie_where_their_labels_say(result: Segmentation) -> None:
    found = prompts(result, num_foreground=1, num_background=4)
    assert found.points.shape == (3, 5, 2)
    assert found.labels.tolist() == [[1, 0, 0, 0, 0]] * 3
    assert found.present.all()
    for t in range(3):
        x, y = found.points[t].round().long().unbind(1)
        assert torch.equal(result.mask[t, y, x].long(), found.labels[t])
        # the centre of the grid's pixel in the image: twice, three times as large
        grid = torch.stack(((found.points[t, :, 0] + 0.5) / 3 - 0.5, (found.points[t, :, 1] + 0.5) / 2 - 0.5), 1)
        torch.testing.assert_close(grid, grid.round(), atol=1e-5, rtol=0)
        raster = (grid[:, 1] * 16 + grid[:, 0]).round().long()
        seeds = [int((result.seeds.index[t] == index).nonzero()) for index in raster]
        areas = [int((result.forest.label[t] == seed).sum()) for seed in seeds]
        assert areas[1:] == sorted(areas[1:], reverse=True)
        rest = set(result.background[t].nonzero().flatten().tolist()) - set(seeds)
        assert all(int((result.forest.label[t] == seed).sum()) <= areas[-1] for seed in rest)


def test_boxes_by_hand() -> None:
    mask = torch.zeros(3, 5, 7, dtype=torch.bool)
    mask[0, 1, 2] = mask[0, 3, 5] = mask[1, 4, 6] = True
    assert _boxes(mask).tolist() == [[2, 1, 5, 3], [6, 4, 6, 4], [0, 0, 0, 0]]


def test_fewer_seeds_than_points(result: Segmentation) -> None:
    empty = result._replace(mask=result.mask & False, foreground=result.foreground & False)
    found = prompts(empty)
    assert found.labels.tolist() == [[-1, -1, -1, 0, 0, 0]] * 3
    assert (found.points[:, :3] == 0).all()
    assert (found.boxes == 0).all()
    assert not found.present.any()
    assert prompts(result, num_background=0).labels.unique().tolist() in ([1], [-1, 1])


@pytest.mark.slow
def test_sam_takes_the_prompts() -> None:
    """kornia's decoder with random weights: masks of the prompted object, other prompts give other masks."""
    sam = pytest.importorskip("kornia.models.sam", exc_type=ImportError)
    torch.manual_seed(0)
    model = sam.Sam.from_config(
        sam.SamConfig(encoder_embed_dim=16, encoder_depth=1, encoder_num_heads=2, encoder_global_attn_indexes=(0,))
    ).eval()
    model.image_encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 256, 16, stride=16)).eval()  # quick
    result = segment(*squares(2)[0], config=Config(rule="paper", **SMALL), size=(24, 48))
    found = prompts(result)
    scale = 1024 / 48  # of the longer side
    image = torch.rand(2, 3, 1024, 1024)
    image[..., :512, :] = resize(torch.rand(2, 3, 24, 48), (512, 1024))
    batch = [
        {
            "points": (scale * found.points[t, None], found.labels[t, None]),
            "boxes": scale * found.boxes[t, None],
        }
        for t in range(2)
    ]
    outputs = model(image, batch, multimask_output=False)
    assert [tuple(output.logits.shape) for output in outputs] == [(1, 1, 256, 256)] * 2
    assert all(output.logits.isfinite().all() for output in outputs)
    turned = [{**one, "points": (one["points"][0], 1 - one["points"][1])} for one in batch]
    other = model(image, turned, multimask_output=False)
    assert not torch.allclose(outputs[0].logits, other[0].logits)


@pytest.mark.parametrize("number", [1, 2])
def test_a_click_names_the_object(number: int) -> None:
    features, truth = squares()
    config = Config(rule="paper", **SMALL)
    result = segment(*features, config=config, size=(24, 48))
    y, x = (truth[0] == number).nonzero()[7].tolist()
    point = torch.tensor([[3.0 * x + 1, 2.0 * y + 0.5]])
    mask = mask_from_points(result, point, torch.tensor([1]), config=config)
    large = truth[0].repeat_interleave(2, 0).repeat_interleave(3, 1)
    assert gpuvos.metrics.region_similarity(mask[None], large[None] == number) > 0.8
    followed = segment(*features, config=config, first_mask=mask).mask
    assert gpuvos.metrics.region_similarity(followed, truth == number).min() > 0.8


def test_clicks_by_hand() -> None:
    # four regions in a row; D: 0 and 1 are 1 apart, 2 is 3 from them, 3 is 9 away and of lowest objectness
    far = torch.tensor([[0.0, 1, 3, 9], [1, 0, 3, 9], [3, 3, 0, 9], [9, 9, 9, 0]])[None]
    features = (torch.zeros(1, 1, 1, 4), torch.tensor([[[0.9, 0.8, 0.7, 0.1]]]), torch.zeros(1, 2, 1, 4))
    config = Config(rule="paper", num_seeds=4, num_background=1, window=1)
    base = segment(*features, config=config)
    forest = gpuvos.Forest(torch.arange(4)[None, None], torch.zeros(1, 1, 4), far)
    seeds = base.seeds._replace(objectness=torch.tensor([[0.9, 0.8, 0.7, 0.1]]))
    result = base._replace(forest=forest, seeds=seeds)

    def click(*points: tuple[int, int]) -> list[int]:
        place = torch.tensor([[float(x), 0.0] for x, _ in points])
        labels = torch.tensor([label for _, label in points])
        return mask_from_points(result, place, labels, config=config)[0].int().tolist()

    assert click((0, 1)) == [1, 1, 1, 0]  # all nearer than the seed of lowest objectness
    assert click((0, 1), (2, 0)) == [1, 1, 0, 0]
    assert click((0, 1), (1, 0)) == [1, 0, 0, 0]
    assert click((3, 1)) == [1, 1, 1, 1]  # nothing is left to be the background
    assert click((0, 1), (3, 1), (2, 0)) == [1, 1, 0, 1]
    assert click((0, 0)) == [0, 0, 0, 0]
    assert click((0, -1)) == [0, 0, 0, 0]


def test_bad_input(result: Segmentation) -> None:
    with pytest.raises(InputError, match="num_foreground"):
        prompts(result, num_foreground=-1)
    with pytest.raises(InputError, match="num_background: got 21, wanted at most 20"):
        prompts(result, num_background=21)
    with pytest.raises(InputError, match="result: got int"):
        prompts(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="labels: got shape"):
        mask_from_points(result, torch.zeros(2, 2), torch.ones(1, dtype=torch.int64))
    with pytest.raises(InputError, match="points: got"):
        mask_from_points(result, torch.full((1, 2), 99.0), torch.ones(1, dtype=torch.int64))
