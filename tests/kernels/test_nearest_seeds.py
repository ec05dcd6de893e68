"""Nearest foreground and background seed of every pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from gpuvos.kernels.nearest_seeds import nearest_seeds, reference
from gpuvos.kernels.nearest_seeds.op import nearest_seeds_backward

Case = tuple[Tensor, Tensor, Tensor, Tensor]


def draw(generator: torch.Generator, n: int, d: int, p: int, k: int) -> Case:
    embedding = torch.randn(n, d, p, generator=generator, dtype=torch.float64)
    seeds = torch.randn(n, k, d, generator=generator, dtype=torch.float64)
    foreground, background = (torch.rand(n, k, generator=generator) < 0.5 for _ in range(2))
    return embedding, seeds, foreground, background


def distances(embedding: Tensor, seeds: Tensor) -> Tensor:
    """All squared distances ``[N, K, P]`` in float64, from the differences."""
    return (embedding.double()[:, None] - seeds.double()[..., None]).square().sum(2)


def assert_equals_brute_force(case: Case, *, rtol: float, sure: float) -> None:
    """Distances within ``rtol``; the same seed wherever the next one is farther by more than ``sure``."""
    result = nearest_seeds(*case)
    table = distances(*case[:2])
    for side, members in enumerate(case[2:]):
        allowed = table.masked_fill(~members[..., None], torch.inf)
        least, at = allowed.min(1)
        assert torch.allclose(result[side].double(), least, rtol=rtol, atol=0)
        number = result[2 + side]
        there = members.any(1, keepdim=True).expand_as(number)
        assert (number[~there] == -1).all()
        assert (result[side][~there] == torch.inf).all()
        second = allowed.scatter(1, at[:, None], torch.inf).amin(1)
        clear = there & (second > least * (1 + sure))
        assert torch.equal(number[clear], at[clear])
        assert clear.sum() > 0.9 * there.sum()  # the comparison above is not empty


def test_hand_worked() -> None:
    embedding = torch.tensor([[[0.0, 3.0, 9.0], [0.0, 4.0, 9.0]]])  # pixels (0,0), (3,4), (9,9)
    seeds = torch.tensor([[[0.0, 1.0], [3.0, 3.0], [9.0, 8.0], [0.0, 0.0]]])
    foreground = torch.tensor([[True, True, False, False]])
    background = torch.tensor([[False, False, True, True]])
    near, far, nearest_fg, nearest_bg = nearest_seeds(embedding, seeds, foreground, background)
    assert near.tolist() == [[1, 1, 72]]
    assert nearest_fg.tolist() == [[0, 1, 1]]
    assert far.tolist() == [[0, 25, 1]]
    assert nearest_bg.tolist() == [[3, 3, 2]]


@pytest.mark.parametrize("shape", [(3, 16, 70, 9), (1, 64, 50, 100), (2, 1, 40, 3), (2, 5, 1, 4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_equals_brute_force(shape: tuple[int, int, int, int], dtype: torch.dtype, generator: torch.Generator) -> None:
    embedding, seeds, foreground, background = draw(generator, *shape)
    foreground[:, 0] = True
    case = (embedding.to(dtype), seeds.to(dtype), foreground, background)
    exact = dtype == torch.float64
    assert nearest_seeds(*case)[0].dtype == (torch.float64 if exact else torch.float32)
    assert_equals_brute_force(case, rtol=1e-10 if exact else 1e-5, sure=1e-8 if exact else 1e-3)


def test_empty_sets(generator: torch.Generator) -> None:
    embedding, seeds, foreground, background = draw(generator, 3, 4, 10, 5)
    foreground[0], background[1] = False, False
    foreground[2], background[2] = False, False
    foreground[1, 0], background[0, 0] = True, True
    assert_equals_brute_force((embedding, seeds, foreground, background), rtol=1e-10, sure=1e-8)
    near, far, nearest_fg, nearest_bg = nearest_seeds(embedding, seeds, foreground, background)
    assert (near[[0, 2]] == torch.inf).all()
    assert (nearest_fg[[0, 2]] == -1).all()
    assert (far[[1, 2]] == torch.inf).all()
    assert (nearest_bg[[1, 2]] == -1).all()


def test_no_seeds_at_all(generator: torch.Generator) -> None:
    embedding, seeds, foreground, background = draw(generator, 2, 4, 10, 5)
    embedding.requires_grad_()
    result = nearest_seeds(embedding, seeds[:, :0], foreground[:, :0], background[:, :0])
    for distance, number in zip(result[:2], result[2:], strict=True):
        assert distance.shape == number.shape == (2, 10)
        assert (distance == torch.inf).all()
        assert (number == -1).all()
    result[0].clamp(max=0).sum().backward()
    assert embedding.grad is not None
    assert not embedding.grad.any()


def test_a_seed_may_be_in_both_sets(generator: torch.Generator) -> None:
    embedding, seeds, foreground, _ = draw(generator, 2, 4, 10, 5)
    near, far, nearest_fg, nearest_bg = nearest_seeds(embedding, seeds, foreground, foreground)
    assert torch.equal(near, far)
    assert torch.equal(nearest_fg, nearest_bg)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("k", [1, 2, 3, 5, 17, 50])
def test_of_equal_seeds_the_lowest_is_named(k: int, dtype: torch.dtype, generator: torch.Generator) -> None:
    embedding, seeds, _, _ = draw(generator, 2, 24, 100, k)
    seeds = torch.cat((seeds, seeds, seeds), 1)  # every one thrice: the rounding of a matrix product differs by row
    members = torch.ones(2, 3 * k, dtype=torch.bool)
    later = members.clone()
    later[:, :k] = False
    case = (embedding.to(dtype), seeds.to(dtype), members, later)
    near, far, nearest_fg, nearest_bg = nearest_seeds(*case)
    assert (nearest_fg < k).all()
    assert torch.equal(nearest_bg, nearest_fg + k)
    assert torch.equal(near, far)


def test_a_pixel_between_two_seeds_takes_the_lower() -> None:
    seeds = torch.tensor([[[2.0], [-2.0], [4.0], [-4.0]]])
    members = torch.ones(1, 4, dtype=torch.bool)
    nearest = nearest_seeds(torch.tensor([[[0.0, 3.0, -3.0]]]), seeds, members, members)[2]
    assert nearest.tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_large_offset_costs_no_accuracy(dtype: torch.dtype, generator: torch.Generator) -> None:
    embedding, seeds, foreground, background = draw(generator, 2, 64, 60, 20)
    case = ((embedding + 1000).to(dtype), (seeds + 1000).to(dtype), foreground, background)
    assert_equals_brute_force(case, rtol=1e-3, sure=1e-3)


def test_seeds_of_no_set_do_not_matter(generator: torch.Generator) -> None:
    embedding, seeds, foreground, background = draw(generator, 2, 64, 60, 20)
    foreground[:, 10:], background[:, 10:] = False, False
    embedding, seeds = (embedding + 1000).float(), (seeds + 1000).float()
    wanted = nearest_seeds(embedding, seeds, foreground, background)
    for other in (0.0, 1e6, torch.nan, torch.inf):  # 0: how an invalid seed is stored
        seeds[:, 10:] = other
        case = (embedding, seeds, foreground, background)
        assert_equals_brute_force(case, rtol=1e-3, sure=1e-3)
        for got, want in zip(nearest_seeds(*case), wanted, strict=True):
            assert torch.equal(got, want)


def test_half_seeds_of_a_float_embedding(generator: torch.Generator) -> None:
    embedding, seeds, foreground, background = draw(generator, 2, 8, 20, 6)
    case = (embedding.float(), seeds.half(), foreground, background)
    assert_equals_brute_force(case, rtol=1e-5, sure=1e-3)


@pytest.mark.slow
def test_gradients(generator: torch.Generator) -> None:
    embedding, seeds, foreground, background = draw(generator, 2, 3, 7, 4)
    foreground[:, 0], background[:, 1] = True, True
    inputs = (embedding.requires_grad_(), seeds.requires_grad_())
    assert gradcheck(lambda e, s: nearest_seeds(e, s, foreground, background)[:2], inputs)
    for side in range(2):
        assert gradcheck(lambda e, s: nearest_seeds(e, s, foreground, background)[side], inputs)  # noqa: B023


def test_second_gradients(generator: torch.Generator) -> None:
    embedding, seeds, foreground, background = draw(generator, 1, 2, 4, 3)
    foreground[:, 0], background[:, 1] = True, True
    inputs = (embedding.requires_grad_(), seeds.requires_grad_())
    assert gradgradcheck(lambda e, s: nearest_seeds(e, s, foreground, background)[:2], inputs)


def test_backward_op(generator: torch.Generator) -> None:
    case = draw(generator, 2, 3, 7, 4)
    near, _, *numbers = nearest_seeds(*case)
    grads = [torch.rand(near.shape, generator=generator, dtype=near.dtype) for _ in range(2)]
    torch.library.opcheck(nearest_seeds_backward, (*case[:2], *numbers, *grads))
    leaves = [value.clone().requires_grad_() for value in case[:2]]
    results = nearest_seeds(*leaves, *case[2:])[:2]
    wanted = torch.autograd.grad([r.masked_fill(r.isinf(), 0) for r in results], leaves, grads)
    for got, want in zip(nearest_seeds_backward(*case[:2], *numbers, *grads), wanted, strict=True):
        assert torch.equal(got, want)


def test_hand_worked_gradient() -> None:
    embedding = torch.tensor([[[0.0, 5.0, 6.0]]], requires_grad=True)
    seeds = torch.tensor([[[1.0], [4.0], [9.0]]], requires_grad=True)
    foreground = torch.tensor([[True, True, False]])
    near, far, nearest_fg, nearest_bg = nearest_seeds(embedding, seeds, foreground, torch.zeros_like(foreground))
    assert not nearest_fg.requires_grad
    assert not nearest_bg.requires_grad
    (near + far.clamp(max=0)).sum().backward()  # the background is empty: it pulls nothing
    assert embedding.grad is not None
    assert seeds.grad is not None
    assert embedding.grad.tolist() == [[[-2, 2, 4]]]
    assert seeds.grad.tolist() == [[[2], [-6], [0]]]


def test_gradient_types(generator: torch.Generator) -> None:
    embedding, seeds, foreground, background = draw(generator, 2, 3, 7, 4)
    foreground[:, 0] = True
    narrow = (embedding.half().requires_grad_(), seeds.half().requires_grad_())
    wide = tuple(value.detach().double().requires_grad_() for value in narrow)
    for e, s in (narrow, wide):
        nearest_seeds(e, s, foreground, background)[0].sum().backward()
    for low, high in zip(narrow, wide, strict=True):
        assert low.grad is not None
        assert high.grad is not None
        assert low.grad.dtype == torch.float16
        assert torch.allclose(low.grad.double(), high.grad, rtol=2e-3, atol=2e-3)


def test_a_nan_stays_at_its_pixel(generator: torch.Generator) -> None:
    case = draw(generator, 2, 6, 20, 5)
    wanted = nearest_seeds(*case)
    case[0][1, 3, 7] = torch.nan
    got = nearest_seeds(*case)
    clean = torch.ones(2, 20, dtype=torch.bool)
    clean[1, 7] = False
    for one, two in zip(got, wanted, strict=True):
        assert torch.equal(one[clean], two[clean])
    for distance, number in zip(got[:2], got[2:], strict=True):
        assert distance[1, 7].isnan()
        assert 0 <= number[1, 7] < 5


def test_pixels_a_few_at_a_time(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    case = draw(generator, 2, 6, 300, 5)
    wanted = nearest_seeds(*case)
    monkeypatch.setattr(reference, "_CACHE_BYTES", 1)  # one lane of pixels at a time
    widths = []
    search = reference._argmax
    monkeypatch.setattr(reference, "_argmax", lambda s: widths.append(s.shape[1]) or search(s))
    for got, want in zip(nearest_seeds(*case), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    sets = int(case[2].any(1).sum() + case[3].any(1).sum())
    assert sets == 4
    assert widths == ([64] * 8 + [44] * 2) * 2


def test_batches_and_layouts_agree(generator: torch.Generator) -> None:
    case = draw(generator, 3, 6, 20, 5)
    whole = nearest_seeds(*case)
    singles = [nearest_seeds(*(value[i : i + 1] for value in case)) for i in range(3)]
    turned = nearest_seeds(*(value.transpose(0, -1).contiguous().transpose(0, -1) for value in case))
    for part in range(4):
        assert torch.equal(whole[part], torch.cat([single[part] for single in singles]))
        assert torch.allclose(whole[part], turned[part], rtol=1e-12)
        assert turned[part].is_contiguous()
