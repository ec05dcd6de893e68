"""Labels of seeds that are not all or nothing, so that Eq. 13-15 have gradients through Eq. 7-8 and 12."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.errors import check_positive, check_share, check_tensor
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.precision import full_precision
from gpuvos.functional.similarity import check_temperature
from gpuvos.kernels.blocks import blocks
from gpuvos.kernels.logistic import logistic


def soft_below(value: Tensor, threshold: float | Tensor, *, softness: float) -> Tensor:
    """How much ``value < threshold`` holds: ``logistic((1 - value / threshold) / softness)``, 0.5 where they are equal.

    Args:
        value: ``[...]`` non-negative.
        threshold: positive, a number or what ``value`` can be divided by.
        softness: relative width of the step; towards 0 it becomes the comparison.

    Example:
        >>> soft_below(torch.tensor([0.0, 0.3, 0.6]), 0.3, softness=0.25)
        tensor([0.9820, 0.5000, 0.0180])
    """
    check_positive("softness", softness)
    tiny = torch.finfo(value.dtype).tiny
    limit = threshold.clamp(min=tiny) if isinstance(threshold, Tensor) else max(threshold, tiny)
    return logistic((1 - value / limit) / softness)


def soft_background(
    objectness: Tensor,
    saliency: Tensor,
    foreground: Tensor,
    valid: Tensor,
    *,
    background_objectness: float = 0.1,
    background_saliency: float = 0.005,
    softness: float = 0.25,
) -> Tensor:
    """Eq. 12 with soft comparisons: how much a seed is background, ``O < threshold or M < threshold``.

    Args:
        objectness: ``[T, K]`` of the seeds (any leading dimensions).
        saliency: ``[T, K]`` of the seeds.
        foreground: ``[T, K]`` bool; these are not background at all.
        valid: ``[T, K]`` bool.
        background_objectness: threshold on O.
        background_saliency: threshold on M.
        softness: relative width of the steps, see ``soft_below``.

    Returns:
        ``[T, K]`` in [0, 1], differentiable with respect to ``objectness`` and ``saliency``.

    Example:
        >>> no, yes = torch.tensor([[False, False]]), torch.tensor([[True, True]])
        >>> soft_background(torch.tensor([[0.1, 0.2]]), torch.tensor([[1.0, 1.0]]), no, yes)
        tensor([[0.5000, 0.0180]])
    """
    sizes = check_tensor("objectness", objectness, "... K")
    for name, value, kind in (
        ("saliency", saliency, "float"),
        ("foreground", foreground, "bool"),
        ("valid", valid, "bool"),
    ):
        check_tensor(name, value, "... K", kind=kind, sizes=sizes, leading=objectness.shape[:-1], like=objectness)
    check_share("background_objectness", background_objectness)
    check_share("background_saliency", background_saliency)
    dull = soft_below(objectness, background_objectness, softness=softness)
    quiet = soft_below(saliency, background_saliency, softness=softness)
    return (dull + quiet - dull * quiet).masked_fill(foreground | ~valid, 0)


@full_precision
def soft_foreground_probability(
    embedding: Tensor,
    seed_embedding: Tensor,
    foreground: Tensor,
    background: Tensor,
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """Eq. 13-15 with seeds that have a weight in both sets: ``R_FG(p) = max over s of w_s R(p, s)``, and so ``R_BG``.

    With weights of 0 and 1 it is ``foreground_probability``. Differentiable with respect to everything; the seed that
    gives a maximum is a choice.

    Args:
        embedding: ``[T, D, H, W]`` (any leading dimensions).
        seed_embedding: ``[T, K, D]``.
        foreground: ``[T, K]`` weights in [0, 1].
        background: ``[T, K]`` weights in [0, 1].
        temperature: the number by which squared distances are divided, see ``foreground_probability``.

    Returns:
        ``[T, H, W]`` in [0, 1]; 0 where no seed has any weight as foreground.

    Example:
        >>> e = torch.tensor([[[[0.0, 0.5, 1.0]]]])
        >>> fg, bg = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.5]])
        >>> soft_foreground_probability(e, torch.tensor([[[0.0], [1.0]]]), fg, bg)
        tensor([[[0.7881, 0.6667, 0.5183]]])
    """
    sizes = check_tensor("embedding", embedding, "... D H W", filled=True)
    lead, grid = embedding.shape[:-3], embedding.shape[-2:]
    channels = {"D": sizes["D"]}
    count = check_tensor("seed_embedding", seed_embedding, "... K D", sizes=channels, leading=lead, filled=True)
    check_tensor("foreground", foreground, "... K", sizes={"K": count["K"]}, leading=lead, like=embedding)
    check_tensor("background", background, "... K", sizes={"K": count["K"]}, leading=lead, like=embedding)
    check_temperature(temperature)
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    pixels = merge_leading(embedding.flatten(-2).mT, 2).to(dtype)  # [N, P, D]
    seeds = merge_leading(seed_embedding, 2).to(dtype)
    sides = []
    for weight in (foreground, background):
        flat = merge_leading(weight, 1).to(dtype)
        nearest = _nearest(pixels.detach(), seeds.detach(), flat.detach(), temperature)  # [N, P]
        chosen = seeds.gather(1, nearest[..., None].expand(-1, -1, sizes["D"]))
        distance = (pixels - chosen).square().sum(-1) / temperature
        sides.append((distance, flat.gather(1, nearest)))
    (near, yes), (far, no) = sides
    # the large parts of the two softplus are subtracted first
    gap = far - near + (-far).exp().log1p() - (-near).exp().log1p()
    tiny = torch.finfo(dtype).tiny
    odds = gap + yes.clamp(min=tiny).log() - no.clamp(min=tiny).log()
    probability = torch.where(no > 0, logistic(odds), 1)
    return torch.where(yes > 0, probability, 0).reshape(*lead, *grid)


@torch.no_grad()
def _nearest(pixels: Tensor, seeds: Tensor, weight: Tensor, temperature: float | Tensor) -> Tensor:
    """The seed of largest ``w_s R(p, s)``, ``[N, P]``; of equal ones the first."""
    n, p, _ = pixels.shape
    log = weight.log()[:, None]  # [N, 1, K]
    parts = []
    for block in blocks(p, 3 * n * seeds.shape[1] * pixels.element_size()):
        distance = torch.cdist(pixels[:, block], seeds).square() / temperature
        parts.append((log - distance - (-distance).exp().log1p()).argmax(-1))
    return torch.cat(parts, 1)
