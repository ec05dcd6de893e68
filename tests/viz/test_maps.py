"""Pictures: hand-worked colours and positions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from gpuvos import viz
from gpuvos.errors import InputError


def black(frames: int = 1, height: int = 12, width: int = 16) -> Tensor:
    return torch.zeros(frames, 3, height, width, dtype=torch.uint8)


def colors_of(picture: Tensor) -> set[tuple[int, ...]]:
    return {tuple(color) for color in picture.movedim(1, -1).flatten(0, 2).tolist()}


def test_two_clusters_get_two_colors(generator: torch.Generator) -> None:
    mask = torch.zeros(3, 10, 14, dtype=torch.bool)
    mask[:, 3:7, 4:9] = True
    embedding = torch.randn(3, 6, 10, 14, generator=generator) * 0.05
    embedding = embedding + torch.randn(1, 6, 1, 1, generator=generator) * 3 * mask[:, None]
    red = viz.embedding_colors(embedding)[:, 0]
    ends = sorted((red[mask].float().mean().item(), red[~mask].float().mean().item()))
    assert ends[0] < 30
    assert ends[1] > 225


def test_principal_components_by_hand() -> None:
    # Variance 4 along channel 1, 1 along channel 0: red is channel 1, green channel 0, blue does not vary.
    first, second = torch.tensor([-1.0, 1.0, -1.0, 1.0]), torch.tensor([-2.0, -2.0, 2.0, 2.0])
    picture = viz.embedding_colors(torch.stack([first, second]).view(1, 2, 1, 4))
    assert picture[0, :, 0].tolist() == [[0, 0, 255, 255], [0, 255, 0, 255], [128, 128, 128, 128]]


def test_components_are_those_of_the_covariance(generator: torch.Generator) -> None:
    scale = torch.tensor([0.3, 5.0, 1.0, 2.0]).view(1, 4, 1, 1)
    embedding = torch.randn(4, 4, 20, 30, generator=generator) * scale
    picture = viz.embedding_colors(embedding).float().movedim(1, 0).flatten(1)
    channels = embedding.movedim(1, 0).flatten(1)
    correlation = torch.corrcoef(torch.cat([picture, channels]))[:3, 3:]
    for component, channel in enumerate((1, 3, 2)):  # in the order of their variances, signs positive
        assert correlation[component, channel] > 0.97


def test_one_basis_serves_the_clip() -> None:
    embedding = torch.randn(1, 5, 8, 8, generator=torch.Generator().manual_seed(1))
    both = viz.embedding_colors(torch.cat([embedding, embedding.flip(-1)]))
    assert torch.equal(both[0], both[1].flip(-1))
    shuffled = viz.embedding_colors(torch.cat([embedding.flip(-1), embedding]))
    assert (both[0].int() - shuffled[1].int()).abs().max() <= 1


def test_sign_does_not_follow_rounding() -> None:
    values = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    noise = 1e-6 * torch.randn(20, 1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    pictures = [viz.embedding_colors(torch.cat([values, -values], dim=1) + n)[:, 0] for n in noise]
    assert all(picture[0, 0, 0] < 20 for picture in pictures)
    assert all(picture[0, -1, -1] > 235 for picture in pictures)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 3, 5), (2, 64, 7, 1), (0, 4, 3, 3), (1, 0, 2, 2)])
def test_embedding_of_any_shape(shape: tuple[int, int, int, int]) -> None:
    picture = viz.embedding_colors(torch.rand(shape), size=(9, 11) if shape[0] else None)
    assert picture.shape == (shape[0], 3, *((9, 11) if shape[0] else shape[2:]))
    assert picture.dtype == torch.uint8


def test_constant_embedding_is_grey_and_nan_is_no_disaster() -> None:
    assert colors_of(viz.embedding_colors(torch.full((2, 4, 3, 3), 7.0))) == {(128, 128, 128)}
    embedding = torch.rand(1, 4, 6, 6)
    embedding[0, :, 0, 0] = float("nan")
    assert viz.embedding_colors(embedding).float().std() > 20


def test_half_precision_embedding() -> None:
    embedding = torch.rand(2, 8, 6, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(viz.embedding_colors(embedding), viz.embedding_colors(embedding.float()))


def test_heat_rises_in_lightness() -> None:
    picture = viz.heatmap(torch.linspace(0, 1, 256).view(1, 1, 256)).double()
    lightness = (picture * torch.tensor([0.2126, 0.7152, 0.0722]).view(1, 3, 1, 1)).sum(1).flatten()
    assert (lightness.diff() > -0.75).all()  # rounding to 8 bits
    assert (lightness[::16].diff() > 5).all()
    assert lightness[0] < 15
    assert lightness[-1] > 240


def test_heat_between_two_control_colors() -> None:
    # Six intervals: 1/12 is half way from (6, 6, 26) to (60, 20, 104).
    assert viz.heatmap(torch.full((1, 1, 1), 1 / 12), low=0, high=1).flatten().tolist() == [33, 13, 65]


def test_heat_bounds() -> None:
    values = torch.tensor([[[-5.0, 0.0, 1.0, 9.0]]])
    bounded = viz.heatmap(values, low=0.0, high=1.0)[0, :, 0]
    ends = viz.heatmap(torch.tensor([[[0.0, 1.0]]]))[0, :, 0]
    assert torch.equal(bounded, ends[:, [0, 0, 1, 1]])


def test_heat_of_constant_and_non_finite_maps() -> None:
    lowest = (6, 6, 26)
    assert colors_of(viz.heatmap(torch.full((2, 3, 3), 4.0))) == {lowest}
    assert colors_of(viz.heatmap(torch.full((1, 2, 2), float("nan")))) == {lowest}
    values = torch.tensor([[[float("nan"), -float("inf"), 0.0, 1.0, float("inf")]]])
    picture = viz.heatmap(values)[0, :, 0].T.tolist()
    assert picture[:3] == [[6, 6, 26]] * 3
    assert picture[3] == picture[4] == [252, 250, 206]
    assert colors_of(viz.heatmap(torch.full((1, 1, 1), float("inf")))) == {(252, 250, 206)}
    assert viz.heatmap(torch.zeros(0, 3, 4)).shape == (0, 3, 3, 4)


def test_flow_wheel_by_hand() -> None:
    vectors = [(0.0, 0.0), (2.0, 0.0), (-2.0, 0.0), (1.0, 0.0), (0.0, 2.0), (0.0, -2.0), (8.0, 0.0)]
    flow = torch.tensor(vectors).T.view(1, 2, 1, 7)
    white, right, left, half, down, up, far = viz.flow_colors(flow, largest=2.0)[0, :, 0].T.tolist()
    assert white == [255, 255, 255]
    assert right == far == [255, 0, 0]
    assert left == [0, 255, 255]
    assert half == [255, 128, 128]
    assert down == [128, 255, 0]
    assert up == [128, 0, 255]


def test_flow_scale_is_a_percentile_of_the_clip() -> None:
    flow = torch.zeros(1, 2, 1, 101)
    flow[0, 1, 0] = torch.arange(101.0)
    assert viz.flow_scale(flow) == pytest.approx(99.0)
    assert torch.equal(viz.flow_colors(flow), viz.flow_colors(flow, largest=99.0))


def test_still_and_broken_flow_is_white() -> None:
    assert colors_of(viz.flow_colors(torch.zeros(2, 2, 3, 5))) == {(255, 255, 255)}
    flow = torch.ones(1, 2, 1, 3)
    flow[0, 0, 0, 0], flow[0, 1, 0, 1] = float("nan"), float("inf")
    assert viz.flow_colors(flow)[0, :, 0].T.tolist()[:2] == [[255] * 3] * 2
    assert viz.flow_colors(flow)[0, 0, 0, 2] == 255
    assert viz.flow_colors(torch.zeros(0, 2, 3, 5)).shape == (0, 3, 3, 5)


def test_every_label_has_its_own_color() -> None:
    picture = viz.region_colors(torch.arange(-1, 300).view(1, 7, 43))
    assert len(colors_of(picture)) == 301
    assert picture[0, :, 0, 0].tolist() == [0, 0, 0]
    assert picture.amax(1).flatten()[1:].min() > 150  # none but -1 is dark
    neighbors = picture[0].flatten(1)[:, 1:].int().diff(dim=1).abs().sum(0)
    assert neighbors.min() > 100


def test_colors_of_labels_do_not_depend_on_the_frame() -> None:
    label = torch.tensor([[[3, 5]], [[5, 3]]])
    picture = viz.region_colors(label)
    assert torch.equal(picture[0], picture[1].flip(-1))


def test_region_borders_by_hand() -> None:
    label = torch.tensor([[[0, 0, 1], [0, 0, 1], [2, 2, 2]]])
    drawn = viz.region_colors(label, borders=True)[0].sum(0) > 0
    assert drawn.tolist() == [[True, False, True], [False, False, False], [True, True, True]]


def test_a_point_lies_in_the_middle_of_its_cell() -> None:
    # Grid 3 x 4 on 12 x 20: cells of 4 x 5 pixels. Cell (1, 2): rows 4-7, columns 10-14; middle (5, 12).
    picture = viz.draw_points(black(1, 12, 20), torch.tensor([[6]]), (3, 4), radius=0, color=(9, 8, 7))
    assert picture[0].sum(0).nonzero().tolist() == [[5, 12]]
    assert picture[0, :, 5, 12].tolist() == [9, 8, 7]


def test_a_disc_and_its_rim() -> None:
    white = black(1, 9, 9) + 255
    picture = viz.draw_points(white, torch.tensor([[40]]), (9, 9), radius=2, color=(0, 255, 0))[0]
    y, x = torch.meshgrid(torch.arange(9) - 4, torch.arange(9) - 4, indexing="ij")
    distance = (x**2 + y**2).float().sqrt()
    green = (picture[1] == 255) & (picture[0] == 0)
    assert torch.equal(green, distance <= 2.35)
    assert torch.equal(picture.amax(0) == 12, (distance > 2.35) & (distance <= 3.35))


def test_points_that_are_not_drawn() -> None:
    index = torch.tensor([[-1, 5, 6, 99]])
    valid = torch.tensor([[True, False, True, True]])
    picture = viz.draw_points(black(), index, (3, 4), valid=valid, radius=0)
    assert picture.sum() == 3 * 255
    assert not viz.draw_points(black(), index.fill_(-1), (3, 4), radius=4).any()
    assert not viz.draw_points(black(), torch.zeros(1, 0, dtype=torch.int64), (3, 4)).any()


def test_of_two_discs_the_later_is_on_top() -> None:
    index = torch.tensor([[0, 0], [0, 0]])
    group = torch.tensor([[1, 2], [2, 1]])
    picture = viz.draw_points(black(2, 5, 5), index, (1, 1), group=group, radius=1)
    expected = viz.region_colors(torch.tensor([[[2]], [[1]]]))
    assert torch.equal(picture[:, :, 2, 2], expected[:, :, 0, 0])


def test_points_of_a_frame_stay_in_it_and_discs_are_cut_at_the_side() -> None:
    index = torch.tensor([[0], [-1], [11]])
    picture = viz.draw_points(black(3, 12, 16), index, (3, 4), radius=5, color=(255, 255, 255))
    lit = picture.amax(1) == 255
    assert not lit[1].any()
    assert lit[0, 0, 0]
    assert not lit[0, :, 8:].any()
    assert not lit[2, :, :8].any()


def test_points_do_not_change_their_input() -> None:
    image = black()
    viz.draw_points(image, torch.tensor([[3]]), (3, 4))
    assert not image.any()


def test_overlay_by_hand() -> None:
    frames = torch.full((1, 3, 1, 2), 0.4)  # 102 of 255
    mask = torch.tensor([[[True, False]]])
    picture = viz.overlay(frames, mask, color=(202, 2, 102), alpha=0.25, contour=False)
    assert picture[0, :, 0].T.tolist() == [[127, 77, 102], [102, 102, 102]]


def test_overlay_contour() -> None:
    mask = torch.zeros(1, 7, 9, dtype=torch.bool)
    mask[0, 1:6, 2:7] = True
    picture = viz.overlay(black(1, 7, 9), mask, color=(200, 100, 0), alpha=0.5)
    ring = mask.clone()
    ring[0, 2:5, 3:6] = False
    assert torch.equal(picture[:, 0] == 200, ring)
    assert torch.equal(picture[:, 0] == 100, mask & ~ring)
    assert torch.equal(picture[:, 0] == 0, ~mask)
    thick = viz.mask_contour(mask, thickness=2)
    assert (mask & ~thick).nonzero().tolist() == [[0, 3, 4]]


def test_side_of_the_frame_is_no_contour() -> None:
    assert not viz.mask_contour(torch.ones(2, 3, 4, dtype=torch.bool), thickness=3).any()
    assert not viz.mask_contour(torch.zeros(2, 3, 4, dtype=torch.bool)).any()


def test_saliency_map_by_hand() -> None:
    label = torch.tensor([[[0, 2], [-1, 1]], [[2, 2], [0, -1]]])
    values = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    expected = torch.tensor([[[0.1, 0.3], [0.0, 0.2]], [[0.6, 0.6], [0.4, 0.0]]])
    assert torch.equal(viz.saliency_map(label, values), expected)
    one = viz.saliency_map(torch.zeros(1, 2, 2, dtype=torch.int64), torch.tensor([[0.5]]).double())
    assert one.dtype == torch.float64
    assert (one == 0.5).all()
    assert not viz.saliency_map(torch.full((1, 2, 2), -1), torch.zeros(1, 0)).any()


def test_pictures_stay_on_the_device_of_their_input() -> None:
    # Tensors without values fail on any mixture with the CPU and on any look at a value.
    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    frames, mask = empty(2, 3, 20, 30, dtype=torch.uint8), empty(2, 20, 30, dtype=torch.bool)
    label, index = empty(2, 5, 6, dtype=torch.int64), empty(2, 4, dtype=torch.int64)
    pictures = [
        viz.heatmap(empty(2, 20, 30)),
        viz.heatmap(empty(2, 20, 30), low=0.0, high=1.0),
        viz.flow_colors(empty(2, 2, 20, 30)),
        viz.flow_colors(empty(2, 2, 20, 30), largest=1.0),
        viz.region_colors(empty(2, 20, 30, dtype=torch.int64), borders=True),
        viz.draw_points(frames, index, (5, 6), valid=empty(2, 4, dtype=torch.bool), group=index),
        viz.draw_points(frames, index, (5, 6)),
        viz.overlay(frames, mask),
        viz.embedding_colors(empty(2, 9, 5, 6), size=(20, 30)),
    ]
    assert all(picture.device.type == "meta" for picture in pictures)
    assert all(picture.shape == frames.shape and picture.dtype == torch.uint8 for picture in pictures)
    assert viz.saliency_map(label, empty(2, 7)).device.type == "meta"


def test_png_round_trip(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    viz.save_png(tmp_path / "a.png", image)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (7, 5)
        assert [picture.getpixel((x, 2)) for x in range(7)] == [tuple(c) for c in image[:, 2].T.tolist()]


def test_a_failed_png_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: Image.Image, file: object, **_: object) -> None:
        Path(str(file)).write_bytes(b"half")
        raise OSError("disk full")

    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        viz.save_png(target, torch.zeros(3, 2, 2))
    assert target.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: viz.embedding_colors(torch.zeros(2, 3, 4)), "embedding"),
        (lambda: viz.heatmap(torch.zeros(2, 3)), "values"),
        (lambda: viz.heatmap(torch.zeros(1, 2, 3), low=1.0, high=1.0), "low"),
        (lambda: viz.flow_colors(torch.zeros(1, 3, 4, 4)), "flow"),
        (lambda: viz.flow_colors(torch.zeros(1, 2, 4, 4), largest=0.0), "largest"),
        (lambda: viz.region_colors(torch.zeros(1, 4, 4)), "label"),
        (lambda: viz.draw_points(black(2), torch.zeros(1, 3, dtype=torch.int64), (3, 4)), "index"),
        (lambda: viz.draw_points(black(), torch.tensor([[0]]), (3, 4), radius=-1), "radius"),
        (lambda: viz.draw_points(black(), torch.tensor([[0]]), (0, 4)), "grid"),
        (lambda: viz.draw_points(black(), torch.tensor([[0]]), (3, 4), valid=torch.tensor([[1]])), "valid"),
        (lambda: viz.overlay(black(), torch.zeros(1, 12, 17, dtype=torch.bool)), "mask"),
        (lambda: viz.overlay(black(), torch.zeros(1, 12, 16, dtype=torch.bool), alpha=1.5), "alpha"),
        (lambda: viz.mask_contour(torch.zeros(1, 4, 4, dtype=torch.bool), thickness=0), "thickness"),
        (lambda: viz.saliency_map(torch.zeros(2, 4, 4, dtype=torch.int64), torch.zeros(1, 5)), "values"),
        (lambda: viz.save_png("x.png", torch.zeros(1, 4, 4)), "image"),
    ],
)
def test_bad_input_names_the_argument(call: object, argument: str) -> None:
    with pytest.raises(InputError, match=f"^{argument}:"):
        call()  # type: ignore[operator]
