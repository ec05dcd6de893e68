"""Batches out of stills: crops at the scale of video frames, objects pasted onto other photographs, spoilt colours."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate, max_pool2d

from gpuvos.training.images import UNKNOWN, Still

_OBJECT_SHARE = (0.02, 0.40)  # of the frame, what objects of videos mostly cover
_SMALLEST_CROP = 80  # pixels of a still; below it there is little left to see when enlarged
_LEAST_PIXELS = 4  # of an instance on the network's grid


class Batch(NamedTuple):
    """Images and what is known of them."""

    image: Tensor  # [N, 3, S, S] float in [0, 1]
    instance: Tensor  # [N, S, S] int64: -1 unknown, 0 the rest, 1.. objects or segments
    objectness: Tensor  # [N, S, S] float: -1 unknown, 0 the rest, 1 object


class Targets(NamedTuple):
    """The labels of a batch on the network's grid."""

    instance: Tensor  # [N, H, W] int64
    objectness: Tensor  # [N, H, W] float, share of object; -1 unknown


def random_crop(still: Still, size: int, generator: torch.Generator) -> Batch:
    """A crop about an object of the still, of such a side that the object covers 2 to 40 % of it where possible.

    Args:
        still: a photograph.
        size: side of the crop that is returned.
        generator: source of chance, on the CPU.

    Returns:
        A Batch of one. Half of the crops are mirrored; one in five is anywhere at any scale.
    """
    height, width = still.image.shape[1:]
    draw = torch.rand(6, generator=generator).tolist()
    largest = min(height, width)
    side, centre = largest * (0.5 + 0.5 * draw[0]), (draw[1] * height, draw[2] * width)
    chosen = _random_object(still, generator)
    if draw[3] > 0.2 and chosen is not None:
        rows, columns = torch.nonzero(chosen, as_tuple=True)
        low, high = (math.log(share) for share in _OBJECT_SHARE)
        side = math.sqrt(len(rows) / math.exp(low + (high - low) * draw[0]))
        # The centre of the object lies anywhere in the middle two thirds of the crop.
        middle = [float(place.double().mean()) for place in (rows, columns)]
        centre = (middle[0] + side * (draw[1] - 0.5) * 0.66, middle[1] + side * (draw[2] - 0.5) * 0.66)
    aspect = math.exp((draw[4] - 0.5) * 0.5)
    sides = [
        min(max(side * factor, _SMALLEST_CROP), limit) for factor, limit in ((aspect, height), (1 / aspect, width))
    ]
    box = [int(length) for length in sides]
    top, left = (
        int(min(max(place - length / 2, 0), limit - length))
        for place, length, limit in zip(centre, box, (height, width), strict=True)
    )
    part = Still(*(plane[..., top : top + box[0], left : left + box[1]] for plane in still))
    batch = resize(part, size, size)
    return Batch(*(plane.flip(-1) for plane in batch)) if draw[5] < 0.5 else batch


def resize(still: Still, height: int, width: int) -> Batch:
    """The still as a Batch of one at another size: colours averaged, labels of the nearest pixel."""
    image = interpolate(still.image[None].float() / 255, size=(height, width), mode="bilinear", antialias=True).clamp(
        0, 1
    )
    labels = torch.stack((still.instance, still.objectness))[None].float()
    labels = interpolate(labels, size=(height, width), mode="nearest-exact")[0]
    labels = labels.masked_fill(labels == UNKNOWN, -1)
    return Batch(image, labels[:1].long(), labels[1:])


def cut_out(still: Still, size: int, generator: torch.Generator) -> Tensor:
    """One object of the still, for ``paste``.

    Args:
        still: a photograph.
        size: side of the square that the whole photograph is fitted into.
        generator: source of chance, on the CPU.

    Returns:
        ``[4, size, size]`` float: colour, and 1 where the object is. It is nowhere if the still has no labelled
        object, or if the one chosen is cut by the edge of the photograph or is too small or too large to be of use.
    """
    height, width = still.image.shape[1:]
    chosen = _random_object(still, generator)
    result = torch.zeros(4, size, size)
    if chosen is None:
        return result
    cut = sum(int(edge.sum()) for edge in (chosen[0], chosen[-1], chosen[:, 0], chosen[:, -1]))
    if cut > 0.03 * (height + width) or not 0.004 <= float(chosen.float().mean()) <= 0.7:
        return result
    scale = size / max(height, width)
    fitted = [max(1, round(scale * length)) for length in (height, width)]
    inner = resize(still._replace(instance=chosen.byte()), fitted[0], fitted[1])
    top, left = ((size - length) // 2 for length in fitted)
    result[:3, top : top + fitted[0], left : left + fitted[1]] = inner.image[0]
    result[3, top : top + fitted[0], left : left + fitted[1]] = inner.instance[0].float()
    return result


def concatenate(batches: list[Batch]) -> Batch:
    """One Batch of all images."""
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def paste(batch: Batch, objects: Tensor, generator: torch.Generator) -> Batch:
    """Puts one object onto every image, at a random place, scale and angle.

    The object becomes a new instance with exact labels. Its rim is feathered. What was unknown elsewhere stays so.

    Args:
        batch: backgrounds.
        objects: ``[N, 4, S, S]`` float from ``cut_out``; an image whose object is nowhere stays as it is.
        generator: source of chance, on the CPU.

    Returns:
        The composites.
    """
    count, _, size, _ = batch.image.shape
    grid = affine_grid(_placement(objects[:, 3], generator), [count, 4, size, size], align_corners=False)
    # Eroded, then blurred: the feather reaches no colour of the object's own background.
    soft = avg_pool2d(-max_pool2d(-objects[:, 3:], 3, 1, 1), 3, 1, 1)
    moved = grid_sample(torch.cat((objects[:, :3], soft), 1), grid, mode="bilinear", align_corners=False)
    gain = 0.8 + 0.4 * torch.rand(count, 1, 1, 1, generator=generator)
    cover = moved[:, 3:].clamp(0, 1)
    image = batch.image * (1 - cover) + (gain * moved[:, :3]).clamp(0, 1) * cover
    inside = cover[:, 0] > 0.5
    new = batch.instance.flatten(1).amax(1).clamp(min=0)[:, None, None] + 1
    return Batch(image, torch.where(inside, new, batch.instance), batch.objectness.masked_fill(inside, 1.0))


def unknown_to_rest(batch: Batch) -> Batch:
    """Unknown pixels of images with instances become label 0, "none of these instances"; objectness stays unknown.

    True where every object of the labelled kinds is labelled, and to be combined with a ``rest_weight`` of 0.
    """
    labelled = (batch.instance > 0).flatten(1).any(1)[:, None, None]
    return batch._replace(instance=batch.instance.masked_fill(labelled & (batch.instance < 0), 0))


def _random_object(still: Still, generator: torch.Generator) -> Tensor | None:
    """Pixels ``[h, w]`` of one object, the likelier the larger the root of its area; None where there is none."""
    salient = still.objectness == 1
    labelled = (still.instance > 0) & (still.instance != UNKNOWN)
    if (labelled & (still.objectness != 1)).any():  # segments: which object they are parts of is not known
        return salient if salient.any() else None
    area = torch.bincount(torch.where(salient & labelled, still.instance, 0).flatten().long(), minlength=2).float()
    area[0] = 0
    if not area.any():
        return None
    return still.instance == int(torch.multinomial(area.sqrt(), 1, generator=generator))


def _placement(alpha: Tensor, generator: torch.Generator) -> Tensor:
    """Affine maps ``[N, 2, 3]`` from the composite to the donor, in the coordinates of ``affine_grid``."""
    count, size, _ = alpha.shape
    draw = torch.rand(5, count, generator=generator)
    axis = (torch.arange(size, dtype=torch.float32) * 2 + 1) / size - 1
    area = alpha.sum((1, 2)).clamp(min=1)
    centre = torch.stack((alpha.sum(1) @ axis, alpha.sum(2) @ axis), 1) / area[:, None]  # (x, y)
    low, high = (math.log(share) for share in _OBJECT_SHARE)
    scale = (torch.exp(low + (high - low) * draw[0]) * size * size / area).sqrt().clamp(0.25, 1.6)
    angle = (draw[1] - 0.5) * 0.5
    mirror = torch.where(draw[2] < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    turn = torch.stack((torch.stack((mirror * cos, -mirror * sin), 1), torch.stack((sin, cos), 1)), 1)
    target = (draw[3:].T - 0.5) * 1.4
    shift = centre - (turn @ target[:, :, None])[:, :, 0]
    return torch.cat((turn, shift[:, :, None]), 2)


def spoil(image: Tensor, generator: torch.Generator) -> Tensor:
    """Changes light and colour of every image, and blurs, compresses or adds noise to some.

    Args:
        image: ``[N, 3, S, S]`` float in [0, 1], on the CPU.
        generator: source of chance, on the CPU.

    Returns:
        Another tensor of that shape in [0, 1].
    """
    from kornia.enhance import adjust_hue, jpeg_codec_differentiable

    count = len(image)
    draw = torch.rand(9, count, generator=generator)
    shape = (count, 1, 1, 1)
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * (0.6 + 0.8 * draw[0].view(shape))  # saturation
    mean = grey.mean((2, 3), keepdim=True)
    image = mean + (image - mean) * (0.7 + 0.6 * draw[1].view(shape))  # contrast
    image = (image * (0.75 + 0.5 * draw[2].view(shape))).clamp(0, 1)  # brightness
    hue, deviation, quality = (draw[4] - 0.5) * 0.4, 0.4 + 1.2 * draw[6], 25 + 60 * draw[8]
    for chosen, change, amount in (
        (draw[3] < 0.25, adjust_hue, hue),
        (draw[5] < 0.25, _blur, deviation),
        (draw[7] < 0.25, jpeg_codec_differentiable, quality),
    ):
        pick = torch.nonzero(chosen)[:, 0]
        if len(pick):
            image = image.index_copy(0, pick, change(image[pick], amount[pick]).clamp(0, 1))
    level = 0.03 * torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.3)
    return (image + level * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def _blur(image: Tensor, deviation: Tensor) -> Tensor:
    from kornia.filters import gaussian_blur2d

    blurred: Tensor = gaussian_blur2d(image, (7, 7), deviation[:, None].expand(-1, 2))
    return blurred


def to_grid(batch: Batch, height: int, width: int) -> Targets:
    """The labels at the resolution of the network.

    Instances take the label of the nearest pixel; those of fewer than 4 grid pixels become unknown. Objectness is the
    share of object among the known pixels, unknown where fewer than half are known.
    """
    instance = interpolate(batch.instance[:, None].float(), size=(height, width), mode="nearest-exact")[:, 0].long()
    table = torch.zeros(len(instance), UNKNOWN + 1, device=instance.device)
    place = (instance + 1).flatten(1)
    table.scatter_add_(1, place, torch.ones(place.shape, device=place.device))
    small = (table.gather(1, place) < _LEAST_PIXELS).view_as(instance)
    known = (batch.objectness >= 0).float()
    both = torch.stack((known, batch.objectness.clamp(min=0)), 1)
    known, share = interpolate(both, size=(height, width), mode="area").unbind(1)
    objectness = torch.where(known >= 0.5, share / known.clamp(min=0.5), -1.0)
    return Targets(instance.masked_fill(small, -1), objectness)
