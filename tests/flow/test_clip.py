"""Optical flow against known motion, and its behaviour on the edge of what it accepts."""

from __future__ import annotations

import math
import sys
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from gpuvos.errors import InputError
from gpuvos.flow import variational
from gpuvos.flow.clip import (
    DenseFlow,
    FlowParameters,
    clip_flow,
    forward_backward_error,
    occlusion_mask,
    optical_flow,
)
from gpuvos.flow.raft import TorchvisionRaft


def texture(x, y):
    """A smooth picture [...] in [0, 1] that can be looked up anywhere, with detail from 5 to 60 pixels."""
    waves = torch.Generator().manual_seed(5)
    total = torch.zeros_like(x)
    for period in (5.0, 7.0, 11.0, 17.0, 26.0, 40.0, 61.0):
        for _ in range(3):
            angle, phase = (torch.rand(2, generator=waves, dtype=torch.float64) * 2 * math.pi).tolist()
            total += torch.cos((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period + phase) * math.sqrt(
                period
            )
    return (0.5 + total / 60).clamp(0, 1)


def picture(height, width, dx=0.0, dy=0.0):
    """[1,1,H,W] texture, moved by (dx, dy); numbers or fields."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
    )
    return texture(x - dx, y - dy).float()[None, None]


def end_point_error(flow, dx, dy, border=12):
    inner = flow[..., border:-border, border:-border]
    return torch.hypot(inner[:, 0] - dx, inner[:, 1] - dy)


@pytest.mark.sampled
@pytest.mark.parametrize("scale", [0.5, 1.0])
@pytest.mark.parametrize(("dx", "dy"), [(3, -2), (0, 7), (0.37, -0.21), (-1.5, 0.75), (-14, 5)])
def test_translation(dx, dy, scale):
    flow = optical_flow(picture(97, 131), picture(97, 131, dx, dy), parameters=FlowParameters(scale=scale))
    assert flow.shape == (1, 2, 97, 131)
    assert flow.dtype == torch.float32
    assert end_point_error(flow, dx, dy, border=18).mean() < 0.1


def test_affine_motion():
    height, width = 120, 160
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
    )
    matrix = torch.tensor([[1.04, 0.03], [-0.02, 0.97]], dtype=torch.float64)
    offset = torch.tensor([-2.0, 1.5], dtype=torch.float64)
    # first(p) = texture(p); second(A p + c) = texture(p), so second(q) = texture(A^-1 (q - c))
    source = torch.linalg.inv(matrix) @ torch.stack((x - offset[0], y - offset[1])).flatten(1)
    second = texture(*source.view(2, height, width)).float()[None, None]
    moved = (matrix @ torch.stack((x, y)).flatten(1)).view(2, height, width) + offset[:, None, None]
    truth = (moved - torch.stack((x, y))).float()[None]
    error = (optical_flow(picture(height, width), second) - truth)[..., 12:-12, 12:-12].norm(dim=1)
    assert error.mean() < 0.1
    assert truth.norm(dim=1).mean() > 2


def test_moving_square_before_a_still_background():
    first, second = picture(96, 128), picture(96, 128)
    patch = picture(60, 60, 400.0, 300.0)[..., :32, :32]
    first[..., 30:62, 40:72] = patch
    second[..., 33:65, 45:77] = patch
    flow = optical_flow(first, second)
    assert (flow[0, :, 36:56, 46:66] - torch.tensor([5.0, 3.0]).view(2, 1, 1)).norm(dim=0).mean() < 0.3
    assert flow[0, :, :20].norm(dim=0).mean() < 0.1
    backward = optical_flow(second, first)
    hidden = occlusion_mask(flow, backward)[0]
    # background right of and below the square's first place is covered by its second place
    assert hidden[40:60, 73:76].float().mean() > 0.5
    assert hidden[:24, 12:-12].float().mean() < 0.02
    assert hidden[40:54, 48:64].float().mean() < 0.1


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 5), (11, 13), (12, 40), (33, 47), (64, 64)])
def test_any_size_works(size):
    first = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    second = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2))
    flow = optical_flow(first, second)
    assert flow.shape == (2, 2, *size)
    assert flow.isfinite().all()
    assert optical_flow(first, first).abs().max() < 1e-3


def test_one_pixel_does_not_move():
    assert optical_flow(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)).abs().max() == 0


@pytest.mark.parametrize("levels", [(0.0, 0.0), (0.3, 0.3), (0.2, 0.7)])
def test_constant_frames_do_not_move(levels):
    first, second = (torch.full((1, 3, 40, 50), level) for level in levels)
    assert optical_flow(first, second).abs().max() < 1e-3


def test_no_outliers_where_nothing_is_seen():
    """Noise of one grey level on an empty wall must not look like motion."""
    generator = torch.Generator().manual_seed(3)
    first, second = (0.5 + torch.randn(1, 1, 80, 100, generator=generator) / 255 for _ in range(2))
    assert optical_flow(first, second).norm(dim=1).max() < 0.5


def test_batch_equals_single():
    pairs = [(picture(50, 71, i, 0), picture(50, 71, i + 2.5, -i)) for i in range(3)]
    first, second = (torch.cat(frames) for frames in zip(*pairs, strict=True))
    together = optical_flow(first, second)
    alone = torch.cat([optical_flow(*pair) for pair in pairs])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.equal(together, optical_flow(first, second))


def test_dtypes_and_colours_agree():
    first, second = ((picture(60, 80, dx) * 255).round().to(torch.uint8).expand(-1, 3, -1, -1) for dx in (0, 2))
    flow = optical_flow(first, second)
    assert torch.equal(flow, optical_flow(first / 255, second / 255))
    assert torch.allclose(flow, optical_flow(first[:, :1], second[:, :1]), atol=1e-2)
    assert optical_flow(first.double() / 255, second.double() / 255).dtype == torch.float32
    swapped = first.movedim(1, -1).contiguous().movedim(-1, 1)
    assert torch.equal(flow, optical_flow(swapped, second))


def test_brightness_change_is_not_motion():
    flow = optical_flow(picture(80, 100) * 0.8, picture(80, 100, 2, 1) * 0.8 + 0.1)
    assert end_point_error(flow, 2, 1).mean() < 0.2


@pytest.mark.data
def test_real_pair_with_true_flow(development_data):
    folder = development_data / "flow" / "middlebury" / "RubberWhale"
    if not folder.is_dir():
        pytest.skip("no Middlebury pair in the development data")
    first, second = (
        torch.from_numpy(np.array(Image.open(folder / name))).movedim(-1, 0)[None]
        for name in ("frame10.png", "frame11.png")
    )
    with np.load(folder / "flow10_f16.npz") as stored:
        truth = torch.from_numpy(stored["flow"].astype(np.float32)).movedim(-1, 0)
        valid = torch.from_numpy(np.unpackbits(stored["valid"], axis=1, count=truth.shape[-1])).bool()
    error = (optical_flow(first, second)[0] - truth).norm(dim=0)[valid].mean()
    assert error < 0.2  # OpenCV's DIS, medium: 0.225


def test_bad_frames():
    good = torch.zeros(1, 3, 8, 8)
    for second, word in (
        (torch.zeros(1, 3, 8, 9), "shape"),
        (good.byte(), "dtype"),
        (good.long(), "uint8"),
        (good + math.nan, "NaN"),
        (good + 2, "values from"),
        ([1], "list"),
    ):
        with pytest.raises(InputError, match=f"second.*{word}"):
            optical_flow(good, second)
    for first in (torch.zeros(1, 2, 8, 8), torch.zeros(3, 8, 8), torch.zeros(1, 3, 0, 8), good * math.nan):
        with pytest.raises(InputError, match="first"):
            optical_flow(first, first)
    assert optical_flow(good[:0], good[:0]).shape == (0, 2, 8, 8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": 0},
        {"scale": 1.5},
        {"noise": 0},
        {"warps": 0},
        {"finest_warps": 0},
        {"smoothness": -1},
        {"steps": math.nan},
    ],
)
def test_bad_parameters(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        FlowParameters(**wrong)


class Sampled(TorchDispatchMode):
    """Counts linearisations, each of which samples the other image, by the size of their level."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ == "grid_sampler_2d":
            self.count[tuple(args[0].shape[-2:])] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((48, 64), {(24, 32): 2, (12, 16): 4, (6, 8): 4}), ((20, 22), {(10, 11): 4})],
    ids=["three levels", "one level"],
)
def test_linearisations_of_every_level(size, wanted):
    image = picture(*size)
    with Sampled() as sampled:
        optical_flow(image, image, parameters=FlowParameters(warps=4, finest_warps=2))
    assert sampled.count == wanted


@pytest.fixture(scope="module")
def clip():
    return torch.cat([picture(48, 64, 1.5 * t, -0.5 * t) for t in range(5)])


@pytest.mark.slow
def test_clip_equals_pairs(clip):
    for chunk in (1, 3, None):
        flow = clip_flow(clip, chunk=chunk)
        assert torch.allclose(flow[:-1], optical_flow(clip[:-1], clip[1:]), atol=1e-4)
        assert torch.allclose(flow[-1:], -optical_flow(clip[-1:], clip[-2:-1]), atol=1e-4)
        back = clip_flow(clip, chunk=chunk, direction="backward")
        assert torch.allclose(back[1:], optical_flow(clip[1:], clip[:-1]), atol=1e-4)
        assert torch.allclose(back[:1], -optical_flow(clip[:1], clip[1:2]), atol=1e-4)
    assert torch.equal(DenseFlow(chunk=3)(clip), clip_flow(clip, chunk=3))


def test_clip_of_one_frame_and_of_none():
    assert torch.equal(clip_flow(torch.rand(1, 3, 9, 11), size=(3, 4)), torch.zeros(1, 2, 3, 4))
    assert clip_flow(torch.zeros(0, 3, 9, 11)).shape == (0, 2, 9, 11)


@pytest.mark.sampled
@pytest.mark.parametrize("size", [(12, 16), (13, 17), (48, 64), (30, 64), (96, 100), (1, 1)])
def test_clip_on_a_grid_keeps_pixels_of_the_image(clip, size):
    flow = clip_flow(clip, size=size)
    assert flow.shape == (5, 2, *size)
    assert torch.allclose(flow.median(-1).values.median(-1).values[:, 0], torch.tensor(1.5), atol=0.15)
    assert torch.allclose(flow.median(-1).values.median(-1).values[:, 1], torch.tensor(-0.5), atol=0.15)


def test_grid_is_an_area_average(clip):
    full = clip_flow(clip, parameters=FlowParameters(scale=1.0))
    quarter = clip_flow(clip, size=(12, 16), parameters=FlowParameters(scale=1.0))
    assert torch.allclose(quarter, full.unflatten(-1, (16, 4)).unflatten(-3, (12, 4)).mean((-1, -3)), atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"direction": "up"}, "direction"),
        ({"chunk": 0}, "chunk"),
        ({"size": (0, 4)}, "size"),
        ({"size": (4,)}, "size"),
    ],
)
def test_bad_clip_arguments(clip, wrong, word):
    with pytest.raises(InputError, match=word):
        clip_flow(clip, **wrong)


def test_forward_backward_by_hand():
    forward = torch.zeros(1, 2, 1, 4)
    forward[0, 0, 0] = torch.tensor([1.0, 1.0, 0.5, 2.0])
    backward = torch.zeros(1, 2, 1, 4)
    backward[0, 0, 0] = torch.tensor([0.0, -1.0, -2.0, -4.0])
    # met at x = 1, 2, 2.5 (half of -2 and half of -4), 5 (outside: the last value)
    assert torch.allclose(forward_backward_error(forward, backward), torch.tensor([[[0.0, 1.0, 2.5, 2.0]]]))
    # 0.01 (f^2 + b^2) + 0.5 = 0.52, 0.55, 0.59; squared errors 0, 1, 6.25
    assert occlusion_mask(forward, backward).tolist() == [[[False, True, True, True]]]
    assert occlusion_mask(forward, backward, absolute=1.0).tolist() == [[[False, False, True, True]]]
    with pytest.raises(InputError, match="backward"):
        forward_backward_error(forward, backward[..., :2])


@pytest.mark.parametrize("dilation", [1, 2])
def test_median_is_torch_median(dilation):
    values = torch.randn(2, 2, 7, 9, generator=torch.Generator().manual_seed(4))
    windows = F.unfold(F.pad(values, (dilation,) * 4, mode="replicate"), 3, dilation=dilation).view(2, 2, 9, 7, 9)
    assert torch.equal(variational.median3(values, dilation=dilation), windows.median(2).values)


def test_gradient_is_exact_on_cubics():
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")
    along_x, along_y = variational.gradient((0.1 * x**3 - x * y + y**3)[None, None].double())
    inner = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(along_x[inner], (0.3 * x**2 - y)[inner].double(), atol=1e-5)
    assert torch.allclose(along_y[inner], (3 * y**2 - x)[inner].double(), atol=1e-5)


def test_solver_against_a_dense_solve():
    generator = torch.Generator().manual_seed(6)
    height, width = 5, 6
    right = torch.rand(1, 1, height, width - 1, generator=generator, dtype=torch.float64)
    down = torch.rand(1, 1, height - 1, width, generator=generator, dtype=torch.float64)
    rows = torch.randn(1, 2, 2, height, width, generator=generator, dtype=torch.float64)
    a11, a12, a22 = ((rows[:, i] * rows[:, j]).sum(1, keepdim=True) for i, j in ((0, 0), (0, 1), (1, 1)))
    b = torch.randn(1, 2, height, width, generator=generator, dtype=torch.float64)
    number = torch.arange(height * width).view(height, width)
    laplacian = torch.zeros(height * width, height * width, dtype=torch.float64)
    for p, q, weight in (
        (number[:, :-1], number[:, 1:], right[0, 0]),
        (number[:-1], number[1:], down[0, 0]),
    ):
        for i, j, w in zip(p.flatten(), q.flatten(), weight.flatten(), strict=True):
            laplacian[i, i] += w
            laplacian[j, j] += w
            laplacian[i, j] -= w
            laplacian[j, i] -= w
    system = torch.block_diag(laplacian, laplacian)
    n = height * width
    for block, values in (((0, 0), a11), ((0, 1), a12), ((1, 0), a12), ((1, 1), a22)):
        system[block[0] * n : (block[0] + 1) * n, block[1] * n : (block[1] + 1) * n] += torch.diag(values.flatten())
    truth = torch.linalg.solve(system, b.flatten()).view_as(b)
    total = laplacian.diagonal().view(1, 1, height, width)
    p11, p22 = a11 + total, a22 + total
    determinant = p11 * p22 - a12 * a12
    solution = variational._solve(
        torch.zeros_like(b), b, torch.cat((p22, p11), 1) / determinant, -a12 / determinant, right, down, 400
    )
    assert torch.allclose(solution, truth, atol=1e-3)


@pytest.mark.slow
def test_whole_computation_traces():
    frames = torch.rand(3, 3, 24, 40)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert clip_flow(mode.from_tensor(frames), size=(6, 10)).shape == (3, 2, 6, 10)


@pytest.mark.cuda
def test_gpu_equals_cpu_without_a_sync(clip):
    on_device = (clip * 255).byte().cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        flow = clip_flow(on_device, size=(12, 16))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.allclose(flow.cpu(), clip_flow((clip * 255).byte(), size=(12, 16)), atol=1e-2)


def test_raft_has_the_same_interface():
    pytest.importorskip("torchvision")
    flow = TorchvisionRaft(weights=None, updates=1)
    frames = torch.randint(0, 256, (3, 3, 13, 21), dtype=torch.uint8)
    result = flow(frames)
    assert result.shape == (3, 2, 13, 21)
    assert result.dtype == torch.float32
    assert torch.allclose(result, flow(frames / 255), atol=1e-3)
    assert flow(frames, size=(3, 5), direction="backward").shape == (3, 2, 3, 5)
    assert torch.equal(flow(frames[:1]), torch.zeros(1, 2, 13, 21))


def test_raft_says_what_to_do_off_line(monkeypatch):
    pytest.importorskip("torchvision")

    def unreachable(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(InputError, match=r"no route to host.*DenseFlow"):
        TorchvisionRaft(weights="DEFAULT")
    with pytest.raises(InputError, match="variant"):
        TorchvisionRaft(weights=None, variant="huge")
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(InputError, match="torchvision cannot be imported"):
        TorchvisionRaft(weights=None)
