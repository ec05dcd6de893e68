"""Initial background, Eq. 7-8 and the motion of the camera."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpuvos import InputError
from gpuvos import functional as F


def brute_background(o: list[float], valid: list[bool], count: int) -> list[bool]:
    """The lowest of the valid seeds: of a frame with V of K seeds, ceil(min(count, K) * V / K) of them."""
    k = len(o)
    wanted = -(-min(count, k) * sum(valid) // k)
    order = sorted((i for i in range(k) if valid[i]), key=lambda i: (o[i], i))
    return [i in order[:wanted] for i in range(k)]


def brute_saliency(v: np.ndarray, o: np.ndarray, valid: np.ndarray, count: int, squared: bool) -> np.ndarray:
    background = brute_background(o.tolist(), valid.tolist(), count)
    nearest = np.zeros(len(v))
    for s in np.flatnonzero(valid):
        nearest[s] = min(((v[s] - v[b]) ** 2).sum() for b in np.flatnonzero(background))
    nearest = nearest if squared else np.sqrt(nearest)
    return nearest / nearest.max() if nearest.max() > 0 else nearest


def test_initial_background_by_hand() -> None:
    # two lowest of five: 0.1 and the first of the two 0.2
    o = torch.tensor([[0.2, 0.9, 0.1, 0.2, 0.5]])
    valid = torch.ones(1, 5, dtype=torch.bool)
    assert F.initial_background(o, valid, num_background=2).tolist() == [[True, False, True, False, False]]
    # only three of five seeds: ceil(2 * 3 / 5) = 2 of them; the 0.1 is not there
    valid = torch.tensor([[True, True, False, False, True]])
    assert F.initial_background(o, valid, num_background=2).tolist() == [[True, False, False, False, True]]
    # two of five: ceil(2 * 2 / 5) = 1
    valid = torch.tensor([[False, True, False, False, True]])
    assert F.initial_background(o, valid, num_background=2).tolist() == [[False] * 4 + [True]]


@pytest.mark.parametrize("count", [1, 3, 10, 50])
def test_initial_background_against_brute_force(count: int, generator: torch.Generator) -> None:
    o = torch.randint(0, 6, (40, 12), generator=generator).double() / 5
    valid = torch.rand(40, 12, generator=generator) < torch.linspace(0, 1, 40)[:, None]
    found = F.initial_background(o, valid, num_background=count)
    for t in range(40):
        assert found[t].tolist() == brute_background(o[t].tolist(), valid[t].tolist(), count)
        assert found[t].any() == valid[t].any()  # a frame with a seed has a background


def test_equation_7_and_8_by_hand() -> None:
    # background: seeds 0 and 2 (objectness 0.1, 0.2), flows (0, 0) and (1, 0).
    # seed 1 (3, 4): min(25, 4 + 16 = 20) = 20; seed 3 (0, 1): min(1, 2) = 1; seed 4 (1, 2): min(5, 4) = 4; Z = 20
    v = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [1.0, 0.0], [0.0, 1.0], [1.0, 2.0]]])
    o = torch.tensor([[0.1, 0.9, 0.2, 0.5, 0.6]])
    valid = torch.ones(1, 5, dtype=torch.bool)
    squared = F.motion_saliency(v, o, valid, num_background=2, squared=True)
    torch.testing.assert_close(squared, torch.tensor([[0, 1, 0, 0.05, 0.2]]))
    # without the square: sqrt(1 / 20) = 0.2236068, sqrt(4 / 20) = 0.4472136
    plain = F.motion_saliency(v, o, valid, num_background=2)
    torch.testing.assert_close(plain, torch.tensor([[0, 1, 0, 0.2236068, 0.4472136]]))


@pytest.mark.parametrize("squared", [True, False])
def test_saliency_against_brute_force(squared: bool, generator: torch.Generator) -> None:
    v = torch.randn(20, 9, 2, generator=generator, dtype=torch.float64)
    o = torch.rand(20, 9, generator=generator, dtype=torch.float64)
    valid = torch.rand(20, 9, generator=generator) < 0.7
    valid[0] = False
    found = F.motion_saliency(v, o, valid, num_background=4, squared=squared)
    for t in range(20):
        expected = brute_saliency(v[t].numpy(), o[t].numpy(), valid[t].numpy(), 4, squared)
        np.testing.assert_allclose(found[t].numpy(), expected, rtol=1e-10, atol=1e-15)


def test_still_frames_have_no_saliency() -> None:
    valid = torch.ones(1, 4, dtype=torch.bool)
    saliency = F.motion_saliency(torch.full((1, 4, 2), 3.0), torch.rand(1, 4), valid, num_background=2)
    assert (saliency == 0).all()


def test_saliency_does_not_depend_on_the_unit_of_the_flow(generator: torch.Generator) -> None:
    v, o = torch.randn(2, 9, 2, generator=generator), torch.rand(2, 9, generator=generator)
    valid = torch.ones(2, 9, dtype=torch.bool)
    a, b = (F.motion_saliency(v * s, o, valid, num_background=3) for s in (1.0, 16.0))
    torch.testing.assert_close(a, b)


def test_normalize_saliency_by_hand() -> None:
    length = torch.tensor([[1.0, 4.0, 8.0], [0.0, 0.0, 0.0], [2.0, 9.0, 1.0], [7.0, 7.0, 7.0]])
    valid = torch.tensor([[True] * 3, [True] * 3, [True, False, True], [False] * 3])
    expected = [[0.125, 0.5, 1], [0, 0, 0], [1, 0, 0.5], [0, 0, 0]]
    assert F.normalize_saliency(length, valid).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_normalize_saliency_of_tiny_and_huge_lengths_stays_in_range(dtype: torch.dtype) -> None:
    for scale in (torch.finfo(dtype).tiny, torch.finfo(dtype).max):
        length = torch.tensor([[0.0, 0.5, 1.0]], dtype=dtype) * scale
        saliency = F.normalize_saliency(length, torch.ones(1, 3, dtype=torch.bool))
        assert saliency.isfinite().all()
        assert saliency.amax() <= 1


def quadratic(h: int, w: int, generator: torch.Generator) -> torch.Tensor:
    """A random flow field of second order, ``[2, H, W]``, of some pixels."""
    y = torch.linspace(-1, 1, h)[:, None].expand(h, w)
    x = torch.linspace(-1, 1, w).expand(h, w)
    basis = torch.stack((torch.ones(h, w), x, y, x * x, x * y, y * y))
    return torch.einsum("cb,bhw->chw", 4 * torch.randn(2, 6, generator=generator), basis)


@pytest.mark.parametrize("shape", [(40, 60), (90, 101), (1, 30)])
def test_a_quadratic_field_is_all_camera(shape: tuple[int, int], generator: torch.Generator) -> None:
    flow = torch.stack([quadratic(*shape, generator) for _ in range(4)])
    assert F.residual_flow(flow).abs().max() < 1e-3


@pytest.mark.parametrize("weighted", [False, True])
def test_an_object_keeps_its_motion(weighted: bool, generator: torch.Generator) -> None:
    for _ in range(5):
        camera = quadratic(48, 64, generator)
        inside = torch.zeros(48, 64, dtype=torch.bool)
        inside[14:34, 20:43] = True  # 460 of 3,072 pixels: 15 %
        own = torch.tensor([3.0, -4.0])  # 5 px
        flow = camera + inside * own[:, None, None]
        weight = 1 - 0.9 * inside.float()[None] if weighted else None
        residual = F.residual_flow(flow[None], weight=weight)[0]
        assert (residual[:, inside] - own[:, None]).norm(dim=0).max() < 0.05 * 5
        assert residual[:, ~inside].norm(dim=0).max() < 0.05 * 5


def test_residual_against_a_loop(generator: torch.Generator) -> None:
    # iteratively reweighted least squares by NumPy: Geman-McClure weights 1 / (1 + r^2 / s)^2, s = 4 median(r^2)
    h, w = 6, 7
    flow = torch.randn(3, 2, h, w, generator=generator, dtype=torch.float64)
    prior = torch.rand(3, h, w, generator=generator, dtype=torch.float64)
    y, x = (c.ravel() for c in np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij"))
    basis = np.stack([x**0, x, y, x * x, x * y, y * y], 1)
    for rounds in (1, 2, 3):
        found = F.residual_flow(flow, weight=prior, iterations=rounds)
        for t in range(3):
            target = flow[t].flatten(1).numpy().T
            own = prior[t].flatten().numpy()
            trust = own
            for _ in range(rounds):
                root = np.sqrt(trust)[:, None]
                model = np.linalg.lstsq(root * basis, root * target, rcond=None)[0]
                error = ((target - basis @ model) ** 2).sum(1)
                trust = own / (1 + error / (4 * np.sort(error)[h * w // 2])) ** 2
            expected = (target - basis @ model).T.reshape(2, h, w)
            np.testing.assert_allclose(found[t].numpy(), expected, atol=1e-3)


def test_residual_of_frames_without_motion_or_of_one_pixel() -> None:
    assert (F.residual_flow(torch.zeros(2, 2, 9, 9)) == 0).all()
    one = F.residual_flow(torch.full((1, 2, 1, 1), 7.0))
    assert one.abs().max() < 1e-3
    nothing = F.residual_flow(torch.rand(1, 2, 6, 6), weight=torch.zeros(1, 6, 6))
    assert nothing.isfinite().all()


def test_leading_dimensions_and_strides(generator: torch.Generator) -> None:
    v = torch.randn(2, 3, 2, 8, generator=generator).transpose(-1, -2)
    o = torch.rand(2, 3, 8, generator=generator)
    valid = torch.rand(2, 3, 8, generator=generator) < 0.8
    flow = torch.randn(2, 3, 7, 9, 2, generator=generator).movedim(-1, -3)
    weight = torch.rand(2, 3, 7, 9, generator=generator)
    start = F.initial_background(o, valid, num_background=3)
    saliency = F.motion_saliency(v, o, valid, num_background=3)
    residual = F.residual_flow(flow, weight=weight)
    for b in range(2):
        for t in range(3):
            one = (v[b, t].contiguous(), o[b, t], valid[b, t])
            assert torch.equal(start[b, t], F.initial_background(*one[1:], num_background=3))
            assert torch.equal(saliency[b, t], F.motion_saliency(*one, num_background=3))
            single = F.residual_flow(flow[b, t].contiguous(), weight=weight[b, t])
            torch.testing.assert_close(residual[b, t], single, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types(dtype: torch.dtype, generator: torch.Generator) -> None:
    flow = torch.randn(2, 2, 7, 9, generator=generator).to(dtype)
    weight = torch.rand(2, 7, 9, generator=generator).to(dtype)
    found, expected = (
        F.residual_flow(flow, weight=weight),
        F.residual_flow(flow.float(), weight=weight.float()),
    )
    assert torch.equal(found.float(), expected)
    v, o = (
        torch.randn(1, 5, 2, generator=generator).to(dtype),
        torch.rand(1, 5, generator=generator).to(dtype),
    )
    valid = torch.ones(1, 5, dtype=torch.bool)
    found = F.motion_saliency(v, o, valid, num_background=2)
    assert torch.equal(found, F.motion_saliency(v.float(), o.float(), valid, num_background=2))


def test_bad_input_names_the_argument() -> None:
    v, o, valid = torch.zeros(1, 3, 2), torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool)
    with pytest.raises(InputError, match=r"^objectness:"):
        F.initial_background(o.long(), valid)
    with pytest.raises(InputError, match=r"^valid:"):
        F.initial_background(o, valid[:, :2])
    with pytest.raises(InputError, match=r"^num_background:"):
        F.initial_background(o, valid, num_background=0)
    with pytest.raises(InputError, match=r"^region_flow:"):
        F.motion_saliency(torch.zeros(1, 3, 3), o, valid)
    with pytest.raises(InputError, match=r"^objectness: got leading"):
        F.motion_saliency(v, o.expand(2, 3), valid)
    with pytest.raises(InputError, match=r"^valid:"):
        F.normalize_saliency(o, valid.float())
    with pytest.raises(InputError, match=r"^flow:"):
        F.residual_flow(torch.zeros(1, 3, 4, 4))
    with pytest.raises(InputError, match=r"^weight:"):
        F.residual_flow(torch.zeros(1, 2, 4, 4), weight=torch.zeros(1, 4, 5))
    with pytest.raises(InputError, match=r"^iterations:"):
        F.residual_flow(torch.zeros(1, 2, 4, 4), iterations=0)
