"""Dense CRF against exact mean field over all pairs of pixels, and against the field's package."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gpuvos import InputError
from gpuvos import functional as F
from gpuvos.functional import crf
from gpuvos.nn import DenseCRF

ROUNDING: dict[str, Any] = {"rtol": 0, "atol": 2e-6}  # sums in another order


def kernel(features: Tensor) -> Tensor:
    """Gaussian of ``features [P, d]`` with symmetric normalisation, ``[P, P]``."""
    k = torch.exp(-0.5 * (features[:, None] - features).square().sum(-1))
    scale = k.sum(1).rsqrt()
    return k * scale * scale[:, None]


def exact(
    unary: Tensor,
    levels: Tensor,
    iterations: int = 10,
    *,
    wa: float = 4,
    sa: float = 67,
    sc: float = 3,
    ws: float = 3,
    ss: float = 1,
) -> Tensor:
    """Marginals ``[L, H, W]`` by the definition, in float64; ``levels [C, H, W]`` of 0 to 255."""
    count, h, w = unary.shape
    position = torch.cartesian_prod(torch.arange(h).double(), torch.arange(w).double())
    color = levels.double().flatten(1).T
    pairs = wa * kernel(torch.cat((position / sa, color / sc), 1)) + ws * kernel(position / ss)
    energy = unary.double().view(count, -1)
    q = torch.softmax(-energy, 0)
    for _ in range(iterations):
        q = torch.softmax(-energy + q @ pairs, 0)
    return q.view(count, h, w)


def two(probability: Tensor, clip: float = 1e-5) -> Tensor:
    return -torch.stack((1 - probability, probability), -3).clamp(clip, 1 - clip).log()


def smooth(generator: torch.Generator, c: int, h: int, w: int, window: int = 7) -> Tensor:
    """Smooth noise ``[c, h, w]`` of unit variance."""
    noise = torch.randn(1, c, h + window - 1, w + window - 1, generator=generator)
    return avg_pool2d(noise, window, stride=1)[0] * window


def pictures(generator: torch.Generator, h: int = 28, w: int = 36) -> dict[str, tuple[Tensor, Tensor]]:
    """Small random images (levels) with a disc of another color, and noisy probabilities of the disc."""
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    disc = ((y - h / 2) ** 2 + (x - w / 2.5) ** 2 < (h / 3) ** 2).float()
    probability = (0.5 + 0.18 * (2 * disc - 1) + 0.15 * smooth(generator, 1, h, w)[0]).clamp(0.02, 0.98)
    cells = torch.rand(3, 4, 4, generator=generator).mul(60).add(20)
    patches = cells.repeat_interleave(h // 4, 1).repeat_interleave(w // 4, 2)
    grain = torch.randn(3, h, w, generator=generator)
    images = {
        "patches": patches + 150 * disc + grain,
        "slope": torch.linspace(20, 40, w).expand(3, h, w) + 150 * disc + grain,
        "soft": 60 + 1.5 * smooth(generator, 3, h, w) + 80 * disc,
        "noise": torch.rand(3, h, w, generator=generator) * 255,
        "constant": torch.full((3, h, w), 77.0),
    }
    return {name: (image.round().clamp(0, 255).byte(), probability) for name, image in images.items()}


def test_one_update_by_hand() -> None:
    # two pixels, the smoothness kernel alone: k = 1 and exp(-1/2) = 0.606531, sums 1.606531. P = (0.8, 0.4):
    # logits (1.386294, -0.405465), differences of Q (0.6, -0.2);
    # messages 3 (0.6 - 0.2 * 0.606531) / 1.606531 = 0.893902, 3 (0.6 * 0.606531 - 0.2) / 1.606531 = 0.306098
    # logits (2.280197, -0.099368), P = (0.907224, 0.475179)
    p, image = torch.tensor([[[0.8, 0.4]]]), torch.zeros(1, 3, 1, 2)
    found = F.dense_crf(p, image, iterations=1, appearance_weight=0)
    torch.testing.assert_close(found, torch.tensor([[[0.907224, 0.475179]]]), rtol=0, atol=2e-6)


def test_a_pixel_alone_by_hand() -> None:
    # its kernels are 1 after normalisation: logit 0.847298 + (4 + 3) * 0.4 = 3.647298, P = 0.974600
    found = F.dense_crf(torch.tensor([[[0.7]]]), torch.zeros(1, 3, 1, 1), iterations=1)
    torch.testing.assert_close(found, torch.tensor([[[0.974600]]]), rtol=0, atol=2e-6)


def test_no_iterations_return_the_unary(generator: torch.Generator) -> None:
    p = torch.rand(2, 4, 5, generator=generator).clamp(0.01, 0.99)
    torch.testing.assert_close(F.dense_crf(p, torch.rand(2, 3, 4, 5), iterations=0), p)


@pytest.mark.parametrize("labels", [2, 3, 5])
def test_smoothness_kernel_is_exact(labels: int, generator: torch.Generator) -> None:
    unary = torch.rand(labels, 9, 14, generator=generator, dtype=torch.float64) * 3
    image = torch.zeros(3, 9, 14, dtype=torch.float64)
    found = F.dense_crf_marginals(unary, image, appearance_weight=0, smoothness_sigma=1.5)
    wanted = exact(unary, image, wa=0, ss=1.5)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)  # the kernel ends at 5 deviations


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["patches", "slope", "soft", "noise", "constant"])
def test_marginals_against_all_pairs(name: str, generator: torch.Generator) -> None:
    image, probability = pictures(generator)[name]
    found = F.dense_crf(probability, image)
    wanted = exact(two(probability), image)[1]
    assert (found - wanted).abs().mean() < 0.01
    assert ((found > 0.5) == (wanted > 0.5)).float().mean() >= 0.99
    assert ((probability > 0.5) != (wanted > 0.5)).float().mean() > 0.02  # there was something to do


def test_many_labels_against_all_pairs(generator: torch.Generator) -> None:
    image, _ = pictures(generator)["patches"]
    unary = 1.5 * torch.rand(4, 28, 36, generator=generator)
    found, wanted = F.dense_crf_marginals(unary, image), exact(unary, image)
    torch.testing.assert_close(found.sum(0), torch.ones(28, 36))
    assert (found - wanted).abs().mean() < 0.01
    assert (found.argmax(0) == wanted.argmax(0)).float().mean() >= 0.99


def test_two_labels_are_a_special_case_of_many(generator: torch.Generator) -> None:
    image, probability = pictures(generator)["patches"]
    unary = two(probability)
    with_a_third = torch.cat((unary, torch.full_like(unary[:1], 1000.0)))
    found = F.dense_crf_marginals(with_a_third, image)
    torch.testing.assert_close(found[:2], F.dense_crf_marginals(unary, image), rtol=0, atol=1e-4)
    assert (found[2] == 0).all()
    torch.testing.assert_close(F.dense_crf_marginals(unary, image)[1], F.dense_crf(probability, image), **ROUNDING)
    one = F.dense_crf_marginals(unary[:1], image)
    assert (one == 1).all()


@pytest.mark.slow
def test_scales_and_weights_reach_the_model(generator: torch.Generator) -> None:
    image, probability = pictures(generator)["slope"]
    base = {"wa": 2.0, "sa": 20.0, "sc": 9.0, "ws": 1.0, "ss": 2.0}
    for changed in ({}, {"wa": 8.0}, {"sa": 4.0}, {"sc": 60.0}, {"ws": 6.0}, {"ss": 0.3}):
        given = base | changed
        found = F.dense_crf(
            probability,
            image,
            iterations=5,
            appearance_weight=given["wa"],
            appearance_sigma=given["sa"],
            color_sigma=given["sc"],
            smoothness_weight=given["ws"],
            smoothness_sigma=given["ss"],
        )
        wanted = exact(two(probability), image, 5, **given)[1]
        error = (found - wanted).abs().mean()
        assert error < 0.005
        if changed:
            assert (wanted - exact(two(probability), image, 5, **base)[1]).abs().mean() > 2 * error


def test_pixels_left_alone_keep_their_unary_and_say_nothing(generator: torch.Generator) -> None:
    image = torch.rand(1, 3, 12, 20, generator=generator) * 0.02
    image[..., 10:] += 0.5  # far in colour, so that the halves share no point of the lattice
    probability = torch.rand(1, 12, 20, generator=generator).clamp(0.01, 0.99)
    mask = torch.zeros(1, 12, 20, dtype=torch.bool)
    mask[..., 10:] = True
    found = F.dense_crf(probability, image, mask=mask)
    torch.testing.assert_close(found[..., 10:], probability[..., 10:])
    half = F.dense_crf(probability[..., :10], image[..., :10])
    torch.testing.assert_close(found[..., :10], half, rtol=0, atol=1e-4)
    assert (F.dense_crf(probability, image)[..., :10] - half).abs().max() > 1e-3
    everything = F.dense_crf(probability, image, mask=torch.ones_like(mask))
    torch.testing.assert_close(everything, probability)


STRESS = {
    "textured noise": lambda g, h, w: torch.randint(0, 256, (2, 3, h, w), generator=g, dtype=torch.uint8),
    "constant": lambda _, h, w: torch.full((2, 3, h, w), 0.25),
    "black and white": lambda g, h, w: (torch.rand(2, 3, h, w, generator=g) > 0.5).float(),
    "gray": lambda g, h, w: torch.rand(2, 1, h, w, generator=g),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", STRESS)
@pytest.mark.parametrize(("h", "w"), [(16, 24), (1, 30), (30, 1), (1, 1)])
def test_hard_input_gives_finite_results(name: str, h: int, w: int, generator: torch.Generator) -> None:
    image = STRESS[name](generator, h, w)
    some = torch.rand(2, h, w, generator=generator)
    for probability in (some, some.round(), torch.zeros(2, h, w), torch.ones(2, h, w)):
        found = F.dense_crf(probability, image)
        assert found.shape == probability.shape
        assert ((found >= 0) & (found <= 1)).all()  # false where it is NaN
    assert (F.dense_crf(torch.zeros(2, h, w), image) < 1e-3).all()
    assert (F.dense_crf(torch.ones(2, h, w), image) > 1 - 1e-3).all()


def test_certain_pixels_can_be_overruled(generator: torch.Generator) -> None:
    p = (torch.rand(1, 20, 20, generator=generator) < 0.9).float()  # wrong in one pixel of ten
    assert (F.dense_crf(p, torch.zeros(1, 3, 20, 20), clip=0.1) > 0.5).all()


def test_sharp_colors_need_wide_keys() -> None:
    p, image = torch.full((1, 6, 8), 0.4), torch.rand(1, 3, 6, 8)
    assert F.dense_crf(p, image, color_sigma=0.3, appearance_sigma=1.0).isfinite().all()
    with pytest.raises(InputError, match=r"appearance_sigma, color_sigma.*raise one"):
        F.dense_crf(p, image, color_sigma=1e-4, appearance_sigma=1e-3)


def test_frames_videos_and_blocks_do_not_mix(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    p = torch.rand(2, 3, 9, 11, generator=generator)
    image = (torch.rand(2, 3, 3, 9, 11, generator=generator) * 4).round() / 8
    whole = F.dense_crf(p, image)
    singles = [F.dense_crf(a, b) for a, b in zip(p.flatten(0, 1), image.flatten(0, 1), strict=True)]
    torch.testing.assert_close(whole, torch.stack(singles).view_as(p), **ROUNDING)
    monkeypatch.setattr(crf, "_CPU_BUDGET", 1)
    torch.testing.assert_close(F.dense_crf(p, image), whole, **ROUNDING)


def test_types_of_images_and_probabilities(generator: torch.Generator) -> None:
    levels = torch.randint(0, 256, (2, 3, 6, 7), generator=generator, dtype=torch.uint8)
    p = torch.rand(2, 6, 7, generator=generator, dtype=torch.float64)
    wanted = F.dense_crf(p, levels)
    assert wanted.dtype == torch.float64
    torch.testing.assert_close(F.dense_crf(p, levels.double() / 255), wanted)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float16, 2e-2), (torch.bfloat16, 2e-1)):
        found = F.dense_crf(p.to(dtype), levels)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=tolerance)
    turned = levels.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert torch.equal(F.dense_crf(p, turned), wanted)


def test_nothing_to_do() -> None:
    assert F.dense_crf(torch.zeros(0, 4, 5), torch.zeros(0, 3, 4, 5)).shape == (0, 4, 5)
    assert F.dense_crf(torch.zeros(2, 0, 5), torch.zeros(2, 3, 0, 5)).shape == (2, 0, 5)


@pytest.mark.slow
def test_gradient_of_the_unary(generator: torch.Generator) -> None:
    image = torch.rand(1, 3, 3, 4, generator=generator, dtype=torch.float64) * 0.05
    mask = torch.rand(1, 3, 4, generator=generator) < 0.2
    unary = torch.rand(1, 3, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    p = (0.2 + 0.6 * torch.rand(1, 3, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: F.dense_crf_marginals(u, image, iterations=3, mask=mask), (unary,))
    assert torch.autograd.gradcheck(lambda v: F.dense_crf(v, image, iterations=3), (p,))


def test_room_for_lattice_points(generator: torch.Generator) -> None:
    p = torch.rand(3, 8, 9, generator=generator)
    image = torch.rand(3, 3, 8, 9, generator=generator)
    image[0] = 0.5  # one color: six points
    wanted = F.dense_crf(p, image)
    torch.testing.assert_close(F.dense_crf(p, image, lattice_points=6 * 72), wanted, **ROUNDING)
    torch.testing.assert_close(F.dense_crf(p, image, lattice_points=10**9), wanted, **ROUNDING)
    tight = F.dense_crf(p, image, lattice_points=160)  # the first two fit into three frames' share, the last does not
    torch.testing.assert_close(tight[:1], wanted[:1], **ROUNDING)
    assert tight[2].isnan().all()
    assert F.dense_crf(p, image, lattice_points=1).isnan().all()


@pytest.mark.slow
def test_traces_without_reading_values(generator: torch.Generator) -> None:
    p, image = torch.rand(2, 6, 7, generator=generator), torch.rand(2, 3, 6, 7, generator=generator)
    compiled = torch.compile(lambda a, b: F.dense_crf(a, b, iterations=2), fullgraph=True, backend="eager")
    wanted = F.dense_crf(p, image, iterations=2)
    torch.testing.assert_close(compiled(p, image), wanted, **ROUNDING)

    class Step(torch.nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return F.dense_crf(a, b, iterations=2)

    exported = torch.export.export(Step(), (p, image)).module()
    torch.testing.assert_close(exported(p, image), wanted, **ROUNDING)


def test_means_of_squares_by_hand() -> None:
    # squares of 2 x 2 of a 3 x 4 image, the last row standing in for the missing fourth: without neighbours (no weight)
    # a square keeps its mean, and a bilinear sample of two squares lies a quarter of the way from the nearer
    p = torch.tensor([[[0.2, 0.4, 0.8, 0.8], [0.4, 0.6, 0.8, 0.8], [0.5, 0.5, 0.1, 0.1]]])
    found = F.dense_crf(p, torch.zeros(1, 3, 3, 4), appearance_weight=0, smoothness_weight=0, subsample=2)
    # means 0.4 and 0.8, below them 0.5 and 0.1; first row 0.4, 0.4 + 0.1, 0.8 - 0.1, 0.8; second a quarter towards the
    # row below, third three quarters
    above, below = torch.tensor([0.4, 0.5, 0.7, 0.8]), torch.tensor([0.5, 0.4, 0.2, 0.1])
    expected = torch.stack((above, above.lerp(below, 0.25), above.lerp(below, 0.75)))
    torch.testing.assert_close(found[0], expected)


def test_a_coarser_field_is_the_field_of_the_coarser_image(generator: torch.Generator) -> None:
    p, image = torch.rand(2, 4, 5, generator=generator), torch.rand(2, 3, 4, 5, generator=generator)
    options = {"iterations": 2, "color_sigma": 30.0}
    whole = F.dense_crf(p, image, appearance_sigma=2.0, smoothness_sigma=0.5, **options)
    large, frames = (value.repeat_interleave(3, -1).repeat_interleave(3, -2) for value in (p, image))
    found = F.dense_crf(large, frames, appearance_sigma=6.0, smoothness_sigma=1.5, subsample=3, **options)
    torch.testing.assert_close(found[:, 1::3, 1::3], whole, **ROUNDING)  # the middle of a square


def test_a_coarser_field_does_not_hear_of_pixels_left_alone(generator: torch.Generator) -> None:
    p, image = torch.rand(1, 6, 8, generator=generator), torch.rand(1, 3, 6, 8, generator=generator)
    mask = torch.zeros(1, 6, 8, dtype=torch.bool)
    mask[:, 2:4, :3] = True  # a whole square and half of one
    mask[:, 5, 7] = True
    options = {"iterations": 3, "color_sigma": 60.0, "subsample": 2}
    found = F.dense_crf(p, image, mask=mask, **options)
    assert torch.equal(found[mask], p[mask])
    other = torch.where(mask, 1 - p, p), torch.where(mask[:, None], 1 - image, image)
    again = F.dense_crf(*other, mask=mask, **options)
    torch.testing.assert_close(again[~mask], found[~mask], **ROUNDING)
    alone = F.dense_crf(
        p * 0 + 0.7, image, mask=mask, appearance_weight=0, smoothness_weight=0, subsample=2
    )  # nobody to hear
    torch.testing.assert_close(alone, p * 0 + 0.7)


def test_module_is_the_function(generator: torch.Generator) -> None:
    p, image = torch.rand(1, 6, 7, generator=generator), torch.rand(1, 3, 6, 7, generator=generator)
    options: dict[str, Any] = {
        "iterations": 3,
        "appearance_weight": 2.0,
        "appearance_sigma": 9.0,
        "color_sigma": 20.0,
        "smoothness_weight": 1.0,
        "smoothness_sigma": 2.0,
        "subsample": 2,
    }
    mask = p > 0.9
    module = DenseCRF(**options)
    assert torch.equal(module(p, image, mask=mask), F.dense_crf(p, image, mask=mask, **options))
    assert "iterations=3" in repr(module)
    assert torch.equal(DenseCRF()(p, image), F.dense_crf(p, image))
    assert DenseCRF(lattice_points=1)(p, image).isnan().all()
    assert not torch.equal(DenseCRF()(p, image), module(p, image))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": torch.full((1, 4, 5), 1.5)}, r"probability: got values"),
        ({"probability": torch.full((1, 4, 5), math.nan)}, r"probability: got NaN"),
        ({"probability": torch.ones(1, 4, 5, dtype=torch.int64)}, r"probability: got torch.int64"),
        ({"image": torch.zeros(1, 3, 4, 6)}, r"image: got shape"),
        ({"image": torch.zeros(2, 3, 4, 5)}, r"image: got leading dimensions"),
        ({"image": torch.full((1, 3, 4, 5), 200.0)}, r"image: got values"),
        ({"mask": torch.zeros(1, 4, 5)}, r"mask: got torch.float32"),
        ({"iterations": -1}, r"iterations: got -1"),
        ({"color_sigma": 0.0}, r"color_sigma: got 0.0"),
        ({"smoothness_weight": -2.0}, r"smoothness_weight: got -2.0"),
        ({"lattice_points": 0}, r"lattice_points: got 0"),
        ({"clip": 0.0}, r"clip: got 0.0"),
        ({"subsample": 0}, r"subsample: got 0"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    given = {"probability": torch.full((1, 4, 5), 0.5), "image": torch.zeros(1, 3, 4, 5)} | change
    with pytest.raises(InputError, match=message):
        F.dense_crf(given.pop("probability"), given.pop("image"), **given)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("sequence", ["rhino", "train"])
def test_against_pydensecrf(sequence: str, development_data: Path, generator: torch.Generator) -> None:
    densecrf = pytest.importorskip("pydensecrf.densecrf")
    from gpuvos.data.images import read_image
    from gpuvos.data.masks import read_mask

    root = development_data / "davis2016"
    frame = root / "JPEGImages" / "480p" / sequence / "00010.jpg"
    if not frame.is_file():
        frame = sorted(frame.parent.glob("*.jpg"))[0]
    image, _ = read_image(frame)
    truth = read_mask(root / "Annotations" / "480p" / sequence / f"{frame.stem}.png") > 0
    _, h, w = image.shape
    blurred = avg_pool2d(truth[None].float(), 21, stride=1, padding=10, count_include_pad=False)[0]
    probability = (0.1 + 0.8 * blurred + 0.1 * smooth(generator, 1, h, w, 9)[0]).clamp(0.01, 0.99)
    model = densecrf.DenseCRF2D(w, h, 2)
    model.setUnaryEnergy(np.ascontiguousarray(two(probability).reshape(2, -1).numpy()))
    model.addPairwiseGaussian(sxy=1, compat=3)
    model.addPairwiseBilateral(sxy=67, srgb=3, rgbim=np.ascontiguousarray(image.permute(1, 2, 0).numpy()), compat=4)
    wanted = torch.from_numpy(np.array(model.inference(10)))[1].view(h, w)
    found = F.dense_crf(probability, image)
    assert ((probability > 0.5) != (wanted > 0.5)).float().mean() > 0.005  # the CRF does something
    assert ((found > 0.5) == (wanted > 0.5)).float().mean() > 0.999
    assert (found - wanted).abs().mean() < 1e-3
