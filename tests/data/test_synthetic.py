"""Rendered clips: what they call true must be true of the pixels."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from gpuvos.data import synthetic
from gpuvos.data.synthetic import SCENES, RenderedClip, _Blob, render_clip
from gpuvos.errors import InputError


def small_clip(scene: str, **changes: object) -> RenderedClip:
    settings: dict = {"num_frames": 9, "height": 121, "width": 214, "seed": 3, "noise": 0.0}
    return render_clip(scene, **(settings | changes))


def warp_back(image: Tensor, flow: Tensor) -> Tensor:
    """Samples image [T, C, H, W] at pixel + flow, independently of the renderer."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([(x + flow[:, 0]) * 2 / (width - 1) - 1, (y + flow[:, 1]) * 2 / (height - 1) - 1], dim=-1)
    return nnf.grid_sample(image.float(), grid, mode="bicubic", padding_mode="border", align_corners=True)


def away_from_edges(instances: Tensor) -> Tensor:
    """Pixels whose 7 x 7 neighbourhood holds one layer only."""
    padded = nnf.pad(instances[:, None].float(), (3, 3, 3, 3), mode="replicate")
    highest = nnf.max_pool2d(padded, 7, 1)
    lowest = -nnf.max_pool2d(-padded, 7, 1)
    return (highest == lowest)[:, 0]


@pytest.mark.sampled
@pytest.mark.parametrize("scene", SCENES)
def test_next_frame_warped_back_by_the_flow_is_this_frame(scene: str) -> None:
    clip = small_clip(scene)
    moved = warp_back(clip.frames[1:], clip.flow[:-1])
    error = (moved - clip.frames[:-1].float()).abs().mean(1)  # [T-1, H, W]
    # An edge of the pillar is no edge of the instances; visibility keeps what lies behind it out.
    keep = clip.visible[:-1] & away_from_edges(clip.instances)[:-1]
    assert keep.float().mean() > 0.8
    assert error[keep].mean() < 0.7
    assert error[keep].quantile(0.99) < (5 if scene == "occlusion" else 1.5)
    still = (clip.frames[1:].float() - clip.frames[:-1].float()).abs().mean(1)
    assert error[keep].mean() < 0.15 * still[keep].mean()  # without the flow frames differ much


@pytest.mark.sampled
@pytest.mark.parametrize("scene", ["single", "occlusion", "twins", "two"])
def test_warped_back_instances_agree_where_visible_and_only_there(scene: str) -> None:
    clip = small_clip(scene, num_frames=12)
    height, width = clip.instances.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    target_x, target_y = x + clip.flow[:-1, 0], y + clip.flow[:-1, 1]
    inside = (target_x >= 0) & (target_x <= width - 1) & (target_y >= 0) & (target_y <= height - 1)
    column = target_x.round().long().clamp(0, width - 1)
    row = target_y.round().long().clamp(0, height - 1)
    frame = torch.arange(1, len(clip.instances))[:, None, None]
    there = clip.instances[frame, row, column]
    visible, here = clip.visible[:-1], clip.instances[:-1]
    assert not visible[~inside].any()
    settled = away_from_edges(clip.instances)[1:][frame - 1, row, column] & inside
    assert torch.equal(there[settled & visible], here[settled & visible])
    # Scene that an object covers in the next frame is not visible, and the other way round.
    covered = settled & (here == 0) & (there > 0)
    assert covered.sum() > 20
    assert not visible[covered].any()


def test_points_that_go_behind_the_pillar_are_not_visible() -> None:
    clip = small_clip("occlusion", num_frames=24)
    area = clip.mask.flatten(1).sum(1)
    assert area[11:13].max() < 0.6 * area[[0, -1]].min()
    assert area.min() > 0
    behind = clip.mask & ~clip.visible
    assert behind[6:12].flatten(1).sum(1).min() > 20
    # The pillar is scene: it is no instance, and it moves as the scene beside it does.
    middle = clip.flow[11, :, :4, clip.flow.shape[-1] // 2]
    beside = clip.flow[11, :, :4, clip.flow.shape[-1] // 4]
    assert (middle - beside).abs().max() < 0.3


def test_last_frame_looks_back() -> None:
    clip = small_clip("single")
    moved = warp_back(clip.frames[-2:-1], -clip.flow[-1:])[0]
    error = (moved - clip.frames[-1].float()).abs().mean(0)
    keep = clip.visible[-1] & away_from_edges(clip.instances)[-1]
    assert error[keep].mean() < 0.7
    # Flow is continuous in time, so its sign is that of the frame before.
    inside = clip.mask[-1] & clip.mask[-2]
    assert (clip.flow[-1] - clip.flow[-2])[:, inside].abs().max() < 0.5


def test_flow_of_an_object_is_the_motion_of_its_mask() -> None:
    clip = small_clip("single", num_frames=6, speed=6.0, camera_speed=0.0)
    y, x = torch.meshgrid(torch.arange(121.0), torch.arange(214.0), indexing="ij")
    centres = torch.stack([torch.stack([x[mask].mean(), y[mask].mean()]) for mask in clip.mask])
    mean_flow = torch.stack([flow[:, mask].mean(1) for flow, mask in zip(clip.flow, clip.mask, strict=True)])
    assert torch.allclose(centres.diff(dim=0), mean_flow[:-1], atol=0.15)
    assert clip.flow[:, :, ~clip.mask[0]][0].abs().max() < 8
    assert (clip.flow.norm(dim=1)[clip.mask].mean() - 6).abs() < 0.7
    assert clip.flow.norm(dim=1)[~clip.mask].max() == 0


def test_flow_of_the_scene_is_a_similarity() -> None:
    clip = small_clip("static", num_frames=3)
    y, x = torch.meshgrid(torch.arange(121.0), torch.arange(214.0), indexing="ij")
    design = torch.stack([torch.ones_like(x), x, y], dim=-1).flatten(0, 1).double()
    for flow in clip.flow.double():
        solution = torch.linalg.lstsq(design, flow.flatten(1).T).solution  # [3, 2]
        assert (design @ solution - flow.flatten(1).T).abs().max() < 1e-3
        assert torch.allclose(solution[1, 0], solution[2, 1], atol=1e-4)
        assert torch.allclose(solution[1, 1], -solution[2, 0], atol=1e-4)


@pytest.mark.sampled
@pytest.mark.parametrize("scene", SCENES)
def test_types_and_consistency(scene: str) -> None:
    clip = small_clip(scene, num_frames=5)
    assert clip.frames.shape == (5, 3, 121, 214)
    assert clip.frames.dtype == torch.uint8
    assert clip.mask.shape == clip.instances.shape == clip.visible.shape == (5, 121, 214)
    assert (clip.mask.dtype, clip.instances.dtype) == (torch.bool, torch.int64)
    assert clip.visible.dtype == torch.bool
    assert clip.flow.shape == (5, 2, 121, 214)
    assert clip.flow.dtype == torch.float32
    moving = {"static": (), "two": (1, 2)}.get(scene, (1,))
    assert torch.equal(clip.mask, torch.isin(clip.instances, torch.tensor(moving, dtype=torch.int64)))
    assert int(clip.instances.max()) == {"two": 2, "twins": 2, "late": 1}.get(scene, 1)
    assert 20 < clip.frames.float().mean() < 200
    assert clip.frames.float().std() > 20


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(4))
def test_speeds_stay_in_the_range_of_video(seed: int) -> None:
    clip = render_clip("single", num_frames=24, height=96, width=170, seed=seed)
    relative = clip.flow.norm(dim=1)[clip.mask]
    assert 1 < relative.mean() < 8
    assert relative.max() < 9
    assert 0 < clip.flow.norm(dim=1)[~clip.mask].mean() < 2.5
    assert clip.mask.flatten(1).any(1).all()


def test_twins_look_alike_and_move_apart() -> None:
    clip = small_clip("twins")
    first, second = clip.instances == 1, clip.instances == 2
    assert 0.7 < first.sum() / second.sum() < 1.4
    colours = [clip.frames.permute(0, 2, 3, 1)[part].float() for part in (first, second)]
    histograms = [
        torch.stack([torch.histc(colour[:, c], 16, 0, 255) for c in range(3)]) / len(colour) for colour in colours
    ]
    assert (histograms[0] - histograms[1]).abs().sum(1).max() < 0.2
    scene_colours = clip.frames.permute(0, 2, 3, 1)[clip.instances == 0].float()
    distance = (scene_colours.mean(0) - colours[0].mean(0)).abs().max()
    assert distance > 5 * (colours[0].mean(0) - colours[1].mean(0)).abs().max()
    motion = clip.flow.permute(0, 2, 3, 1)
    scene_motion = motion[clip.instances == 0].mean(0)
    assert (motion[second].mean(0) - scene_motion).norm() < 0.3
    assert (motion[first].mean(0) - scene_motion).norm() > 2


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(4))
def test_late_is_empty_first_and_not_later(seed: int) -> None:
    present = render_clip("late", num_frames=24, height=96, width=170, seed=seed).mask.flatten(1).any(1)
    assert not present[:9].any()
    assert present[14:].all()
    assert bool((present.int().diff() >= 0).all())


def test_a_long_late_clip_keeps_its_object_in_view() -> None:
    area = render_clip("late", num_frames=120, height=32, width=48).mask.flatten(1).sum(1)
    assert area[70:].min() > 0.6 * area.max()


def test_seeds() -> None:
    first, again, other = (render_clip("two", num_frames=3, height=40, width=50, seed=s) for s in (5, 5, 6))
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one, two)
    assert (first.frames != other.frames).float().mean() > 0.5
    assert not torch.equal(first.mask, other.mask)
    assert not torch.equal(first.flow, other.flow)


@pytest.mark.parametrize("frames_at_once", [1, 2, 4])
def test_a_clip_is_the_same_in_pieces(frames_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = render_clip("occlusion", num_frames=5, height=31, width=45)
    monkeypatch.setattr(synthetic, "_PIXELS_AT_ONCE", frames_at_once * 31 * 45)
    pieces = render_clip("occlusion", num_frames=5, height=31, width=45)
    assert (whole.frames.int() - pieces.frames.int()).abs().max() <= 1
    assert (whole.flow - pieces.flow).abs().max() < 1e-5
    for name in ("mask", "instances", "visible"):
        assert (getattr(whole, name) != getattr(pieces, name)).float().mean() < 1e-3


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    render_clip("single", num_frames=2, height=16, width=16)
    assert torch.equal(torch.rand(3), expected)


def test_noise_is_as_strong_as_asked() -> None:
    clean, noisy = (small_clip("single", num_frames=2, noise=noise).frames.float() for noise in (0.0, 4.0))
    inner = (clean > 30) & (clean < 225)
    assert (noisy - clean)[inner].std() == pytest.approx(math.sqrt(16 + 1 / 6), abs=0.1)


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(("num_frames", "height", "width"), [(1, 33, 47), (2, 1, 1), (3, 1, 9), (1, 8, 5), (2, 17, 3)])
def test_odd_and_tiny_sizes(scene: str, num_frames: int, height: int, width: int) -> None:
    clip = render_clip(scene, num_frames=num_frames, height=height, width=width)
    assert clip.frames.shape == (num_frames, 3, height, width)
    assert clip.flow.shape == (num_frames, 2, height, width)
    assert torch.isfinite(clip.flow).all()
    if num_frames == 1:
        assert clip.visible.all()
        assert not clip.flow.any()


def test_stillness() -> None:
    clip = small_clip("static", camera_speed=0.0)
    assert not clip.flow.any()
    assert clip.visible.all()
    assert not clip.mask.any()
    assert (clip.instances == 1).any()
    assert torch.equal(clip.frames[0], clip.frames[-1])


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
def test_everything_is_on_the_device_asked_for(scene: str) -> None:
    # Tensors without values fail on any mixture with the CPU.
    clip = render_clip(scene, num_frames=2, height=16, width=20, device="meta")
    assert all(part.device.type == "meta" for part in clip)


def test_distance_to_a_circle_is_exact() -> None:
    circle = _Blob(10.0, torch.zeros(4), torch.zeros(4))
    points = torch.tensor([0j, 3 + 4j, 10j, 12 + 0j], dtype=torch.complex64)
    assert torch.allclose(circle.distance(points), torch.tensor([-10.0, -5.0, 0.0, 2.0]))


def test_outline_radius_is_the_sum_of_its_waves() -> None:
    amplitude, phase = torch.tensor([0.2, 0.1, 0.05, 0.03]), torch.tensor([0.3, 1.0, 2.0, 4.0])
    angle = torch.linspace(-3, 3, 50, dtype=torch.float64)
    radius, slope = _Blob(7.0, amplitude, phase).radius(torch.polar(torch.ones_like(angle), angle))
    order = torch.arange(2, 6)[:, None]
    waves = order * angle + phase[:, None]
    assert torch.allclose(radius, 7 * (1 + (amplitude[:, None] * waves.cos()).sum(0)), atol=1e-5)
    assert torch.allclose(slope, -7 * (amplitude[:, None] * order * waves.sin()).sum(0), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"scene": "car"}, "scene"),
        ({"num_frames": 0}, "num_frames"),
        ({"height": -3}, "height"),
        ({"width": 4.5}, "width"),
        ({"speed": -1.0}, "speed"),
        ({"camera_speed": float("nan")}, "camera_speed"),
        ({"noise": -0.1}, "noise"),
        ({"seed": None}, "seed"),
    ],
)
def test_bad_input_names_the_argument(changes: dict, argument: str) -> None:
    with pytest.raises(InputError, match=f"^{argument}:"):
        render_clip(**({"scene": "single", "num_frames": 2, "height": 8, "width": 8} | changes))
