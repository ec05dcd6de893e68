"""The page of all steps: what it shows where."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

from gpuvos import functional, viz
from gpuvos.config import Config
from gpuvos.errors import InputError
from gpuvos.types import Features, Forest, Seeds, Segmentation
from gpuvos.viz import contact_sheet

sheet = importlib.import_module("gpuvos.viz.contact_sheet")  # the package has the function by this name

TITLES = [
    "frame",
    "embedding",
    "objectness",
    "edge map",
    "candidates",
    "seeds",
    "regions",
    "flow",
    "region flow",
    "saliency",
    "seed sets",
    "probability",
    "result",
]


def made_up(frames: int = 4, seeds: int = 3, grid: tuple[int, int] = (6, 8)) -> tuple[Features, Segmentation]:
    """Features and a segmentation in which the last seed of every frame is invalid."""
    generator = torch.Generator().manual_seed(0)
    h, w = grid
    index = torch.stack([torch.randperm(h * w, generator=generator)[:seeds] for _ in range(frames)])
    valid = torch.ones(frames, seeds, dtype=torch.bool)
    if seeds > 1:
        index[:, -1], valid[:, -1] = -1, False
    label = torch.randint(-1, max(1, seeds - 1), (frames, h, w), generator=generator)
    rows = torch.zeros(frames, seeds)
    probability = torch.rand(frames, 2 * h, 2 * w, generator=generator)
    result = Segmentation(
        mask=probability > 0.5,
        probability=probability,
        confidence=(2 * probability - 1).abs(),
        seeds=Seeds(index, valid, torch.zeros(frames, seeds, 5), rows),
        forest=Forest(label, rows.new_zeros(frames, h, w), torch.zeros(frames, seeds, seeds)),
        tracks=torch.arange(seeds).expand(frames, seeds),
        track_score=rows[0],
        foreground_seed=torch.zeros(frames, dtype=torch.int64),
        initial_foreground=torch.zeros(frames, h, w, dtype=torch.bool),
        foreground=valid & (torch.arange(seeds) == 0),
        background=valid & (torch.arange(seeds) == 1),
        region_flow=torch.rand(frames, seeds, 2, generator=generator) * 4 - 2,
        saliency=torch.rand(frames, seeds, generator=generator),
        seed_score=rows,
        confident=torch.zeros_like(valid),
    )
    flow = torch.rand(frames, 2, h, w, generator=generator) * 4 - 2
    embedding = torch.rand(frames, 5, h, w, generator=generator)
    return Features(embedding, torch.rand(frames, h, w, generator=generator), flow), result


def some_frames(count: int = 4, height: int = 24, width: int = 32) -> Tensor:
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """What the page is laid out from; filled when a sheet is made."""
    caught: dict[str, Tensor] = {}
    page = sheet._page

    def catch(columns: dict[str, Tensor], names: list[str], size: tuple[int, int]) -> Tensor:
        caught.update(columns)
        return page(columns, names, size)

    monkeypatch.setattr(sheet, "_page", catch)
    return caught


def test_page_by_hand(panels: dict[str, Tensor]) -> None:
    features, result = made_up()
    page = contact_sheet(some_frames(), features, result, panel_width=48)
    assert list(panels) == TITLES
    assert all(panel.shape == (3, 3, 36, 48) and panel.dtype == torch.uint8 for panel in panels.values())
    top, left = page.shape[1] - 3 * (36 + 6), page.shape[2] - 13 * (48 + 6)
    assert page.dtype == torch.uint8
    assert 10 < top < 40
    assert 10 < left < 60
    for column, panel in enumerate(panels.values()):
        for row in range(3):
            y, x = top + row * 42, left + column * 54
            assert torch.equal(page[:, y : y + 36, x : x + 48], panel[row])
    page[:, top:, left:] = 20
    # A title over every column, a name beside every row, and nothing else but paper.
    for column in range(13):
        assert page[:, :top, left + column * 54 : left + column * 54 + 48].max() > 150
    for row in range(3):
        assert page[:, top + row * 42 : top + row * 42 + 36, :left].max() > 150
    assert (page == 20).float().mean() > 0.9


def test_titles_differ_and_fit(panels: dict[str, Tensor]) -> None:
    font = sheet._font(TITLES, 100)
    texts = {title: sheet._text(title, font) for title in TITLES}
    assert all(text.shape[1] <= 101 for text in texts.values())
    assert len({text.shape[0] for text in texts.values()}) == 1
    assert len({tuple(text.flatten().tolist()) for text in texts.values()}) == len(TITLES)
    assert not panels


def test_panels_show_what_they_say(panels: dict[str, Tensor]) -> None:
    features, result = made_up()
    frames = some_frames()
    truth = torch.zeros(4, 24, 32, dtype=torch.bool)
    truth[:, 5:18, 7:20] = True
    contact_sheet(frames, features, result, truth=truth, times=[2, 0], panel_width=32)
    chosen = [2, 0]
    assert torch.equal(panels["frame"], frames[chosen])
    label = result.forest.label[chosen].repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert torch.equal(panels["regions"], viz.region_colors(label, borders=True))
    saliency = viz.saliency_map(label, result.saliency[chosen])
    assert torch.equal(panels["saliency"], viz.heatmap(saliency, low=0.0, high=1.0))
    flow = torch.stack([viz.saliency_map(label, result.region_flow[chosen][..., axis]) for axis in (0, 1)], 1)
    scale = float(viz.flow_scale(features.flow))
    assert (panels["region flow"].int() - viz.flow_colors(flow, largest=scale).int()).abs().max() <= 1
    green = (panels["result, truth"] == torch.tensor(sheet.TRUTH).view(3, 1, 1)).all(1)
    assert torch.equal(green, viz.mask_contour(truth[chosen], thickness=2))


def test_seed_sets_have_their_colors(panels: dict[str, Tensor]) -> None:
    features, result = made_up(frames=1)
    index = torch.tensor([[9, 30, -1]])  # cells (1, 1) and (3, 6) of 6 x 8
    result = result._replace(seeds=result.seeds._replace(index=index))
    contact_sheet(some_frames(1, 96, 128), features, result, panel_width=128)
    picture = panels["seed sets"][0]
    assert tuple(picture[:, 23, 23].tolist()) == sheet.FOREGROUND
    assert tuple(picture[:, 55, 103].tolist()) == sheet.BACKGROUND
    # The seed of the best track, the first one, has a white ring: radius 1, rim to 2, ring to 4.
    assert picture[:, 23, 27].tolist() == picture[:, 19, 23].tolist() == [255, 255, 255]
    assert (picture == 255).all(0)[:, 64:].sum() == 0
    colors = viz.region_colors(torch.tensor([[[0, 1]]]))[0, :, 0]
    assert torch.equal(panels["seeds"][0, :, 23, 23], colors[:, 0])
    assert torch.equal(panels["seeds"][0, :, 55, 103], colors[:, 1])


def test_candidates_are_those_of_the_method(panels: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    features, result = made_up(frames=1)
    asked = []

    def embedding_graph(embedding: Tensor, **options: object) -> tuple[None, Tensor]:
        asked.append(options)
        assert torch.equal(embedding, features.embedding)
        mask = torch.zeros(1, 6, 8, dtype=torch.bool)
        mask[0, 2, 5] = True
        return None, mask

    monkeypatch.setattr(functional.edges, "embedding_graph", embedding_graph)
    config = Config(window=5, edge_reduce="mean", temperature=3.0)
    contact_sheet(some_frames(1), features, result, panel_width=32, config=config)
    yellow = (panels["candidates"][0] == torch.tensor(sheet.CANDIDATE).view(3, 1, 1)).all(0)
    assert asked == [{"window": 5, "reduce": "mean", "temperature": 3.0}]
    expected = torch.zeros(24, 32, dtype=torch.bool)
    expected[8:12, 20:24] = True
    assert torch.equal(yellow, expected)


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 2), (3, 3), (9, 3)])
def test_default_times(count: int, rows: int, panels: dict[str, Tensor]) -> None:
    features, result = made_up(frames=count)
    frames = some_frames(count)
    contact_sheet(frames, features, result, panel_width=32)
    assert torch.equal(panels["frame"], frames[sorted({0, count // 2, count - 1})])
    assert len(panels["frame"]) == rows


@pytest.mark.parametrize(
    ("height", "width", "grid", "seeds", "panel_width"),
    [(23, 37, (5, 9), 1, 41), (8, 8, (1, 1), 1, 16), (90, 31, (23, 8), 4, 64)],
)
def test_odd_sizes(height: int, width: int, grid: tuple[int, int], seeds: int, panel_width: int) -> None:
    features, result = made_up(1, seeds, grid)
    frames = some_frames(1, height, width).float() / 255
    for config in (Config(), Config(edge_reduce="mean", window=5)):
        page = contact_sheet(frames, features, result, panel_width=panel_width, config=config)
        assert page.shape[2] > 13 * panel_width


def test_features_that_require_a_gradient() -> None:
    features, result = made_up(frames=2)
    embedding = features.embedding.requires_grad_()
    page = contact_sheet(some_frames(2), features._replace(embedding=embedding), result, panel_width=32)
    assert not page.requires_grad


def test_no_track_and_no_seed(panels: dict[str, Tensor]) -> None:
    features, result = made_up(frames=1)
    result = result._replace(
        foreground_seed=torch.tensor([-1]),
        seeds=result.seeds._replace(index=torch.full((1, 3), -1), valid=torch.zeros(1, 3, dtype=torch.bool)),
    )
    contact_sheet(some_frames(1), features, result, panel_width=32)
    assert torch.equal(panels["seed sets"], panels["seeds"])


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"times": [4]}, "times"),
        ({"times": []}, "times"),
        ({"times": [-1]}, "times"),
        ({"panel_width": 8}, "panel_width"),
        ({"truth": torch.zeros(3, 24, 32, dtype=torch.bool)}, "truth"),
        ({"frames": torch.zeros(0, 3, 4, 4)}, "frames"),
        ({"frames": torch.zeros(5, 3, 4, 4)}, "features.embedding"),
    ],
)
def test_bad_input_names_the_argument(changes: dict, argument: str) -> None:
    features, result = made_up()
    with pytest.raises(InputError, match=f"^{argument}:"):
        contact_sheet(**({"frames": some_frames(), "features": features, "result": result} | changes))


def test_columns_wrap() -> None:
    features, result = made_up()
    wide = contact_sheet(some_frames(), features, result, panel_width=48)
    wrapped = contact_sheet(some_frames(), features, result, panel_width=48, per_row=7)
    left, rows, six = wide.shape[2] - 13 * (48 + 6), 3 * (36 + 6), 6 * (48 + 6)
    left_wrapped = wrapped.shape[2] - 7 * (48 + 6)  # titles and frame numbers may come in another size
    assert torch.equal(wrapped[:, -rows:, left_wrapped : left_wrapped + six], wide[:, -rows:, -six:])
    assert (wrapped[:, -rows:, left_wrapped + six :] == 20).all()
    panel = wide[:, -rows : -rows + 36, left : left + 48]
    above = wrapped[:, : wrapped.shape[1] - rows, left_wrapped : left_wrapped + 48]
    assert any(torch.equal(above[:, y : y + 36], panel) for y in range(above.shape[1] - 35))
