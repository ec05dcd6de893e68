"""Several objects out of one foreground: disjoint tracks of its seeds, each with a mask of its own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gpuvos.errors import check_count, check_share
from gpuvos.functional.precision import full_precision
from gpuvos.functional.similarity import squared_distance
from gpuvos.pipeline.chunked import explain_memory
from gpuvos.pipeline.result import check_one_video
from gpuvos.types import Segmentation

_MOST_INSTANCES = 2**16
_MOST_TRACKS = 128  # that are looked at for pieces, whatever min_share is


class Instances(NamedTuple):
    """The objects of a video, best first. N is what was asked for; an object that is not there is empty."""

    mask: Tensor  # [N, T, h, w] bool, disjoint
    score: Tensor  # [N] share of the evidence of the foreground; -inf where there is no such object
    present: Tensor  # [N, T] bool, frames in which the object has a seed
    seed: Tensor  # [T, K] int64, the object of each foreground seed; -1 for none


@explain_memory("num_instances")
@full_precision
def instances(result: Segmentation, *, num_instances: int = 5, min_share: float = 0.1) -> Instances:
    """Splits the foreground of a video into its objects: the best disjoint tracks of groups of seeds.

    Foreground seeds whose regions touch are a group. A seed belongs to the track of the seed most similar to it in the
    frame before, out of the tracks that lead into its group: those with a seed there whose most similar foreground seed
    is in the group, and the other way round. A group that none leads into begins a track, at whatever frame; a
    track that leads nowhere has ended. So objects that touch for a while keep their tracks. Two tracks that are in one
    group in more than half of the frames of the shorter one are pieces of one object, which came out from behind a tree
    for example.

    The score of a track is Eq. 10 in extensive form: the sum of ``O(s) M(s)`` over its seeds, weighted by the
    areas of their regions, as a share of that of the whole foreground. Tracks of less than ``min_share`` are pieces
    of another object: they join the one whose seed of the same frame is most similar (the mean seed, where it has
    none). So where ``num_instances`` suffices, the union of the masks is ``result.mask``.

    Args:
        result: a result of ``segment`` for one video, made without ``first_mask``.
        num_instances: N, the number of objects to tell apart; tracks beyond the N best are left out.
        min_share: least score of an object.

    Returns:
        Instances. No shape depends on the values, nothing is read back from the device.

    Raises:
        InputError: the result is of several videos, or an option is out of its range.

    Example:
        >>> from gpuvos import VideoSegmenter
        >>> from gpuvos.data import render_clip
        >>> result = VideoSegmenter()(render_clip("two", num_frames=3, height=64, width=96).frames)
        >>> found = instances(result, num_instances=3)
        >>> found.mask.shape, bool((found.mask.any(0) == result.mask).all())
        (torch.Size([3, 3, 64, 96]), True)
    """
    check_one_video(result)
    check_count("num_instances", num_instances, high=_MOST_INSTANCES)
    check_share("min_share", min_share)
    t, k = result.foreground.shape
    group = _groups(result.forest.label, result.foreground)
    track = _tracks(result, group)  # [T, K]
    area = _areas(result.forest.label, k)
    evidence = (area * result.seeds.objectness * result.saliency).double()
    evidence = evidence.clamp(min=1e-12) * result.foreground  # seeds without evidence are still an object
    # no more than 1 / min_share tracks have that share
    most = t * k if min_share == 0 else min(t * k, int(1 / min_share))
    track = _rejoined(track, group, _sums(track, evidence), min(most, _MOST_TRACKS))
    total = _sums(track, evidence)
    whole = evidence.sum()
    score, best = (total / whole.clamp(min=torch.finfo(torch.float64).tiny)).topk(min(num_instances, t * k))
    there = (score >= min_share) & (score > 0)
    matches = (track[..., None] == best) & there & result.foreground[..., None]  # [T, K, N]
    number = torch.where(matches.any(-1), matches.int().argmax(-1), -1)
    piece = result.foreground & (number < 0) & (total[track.clamp(min=0)] < min_share * whole)
    number = torch.where(piece, _nearest_object(result.seeds.embedding, number, len(best)), number)
    masks = _masks(result, number, len(best))
    present = (number[None] == torch.arange(len(best), device=number.device)[:, None, None]).any(-1)
    there &= present.any(1)
    score = torch.where(there, score, -torch.inf).to(result.saliency.dtype)
    missing = num_instances - len(best)
    if missing:
        masks, present = (torch.cat((v, v.new_zeros(missing, *v.shape[1:]))) for v in (masks, present))
        score = torch.cat((score, score.new_full((missing,), -torch.inf)))
    return Instances(masks, score, present, number)


def _areas(label: Tensor, k: int) -> Tensor:
    """Pixels of every region, ``[T, K]``."""
    flat = label.flatten(1)
    inside = (flat >= 0).float()
    return inside.new_zeros(len(flat), k).scatter_add_(1, flat.clamp(min=0), inside)


def _groups(label: Tensor, foreground: Tensor) -> Tensor:
    """Lowest seed of the connected group of touching foreground regions that a seed is in, ``[T, K]``."""
    t, k = foreground.shape
    touch = torch.eye(k, device=label.device).repeat(t, 1, 1).flatten(1)  # [T, K K]
    for one, two in ((label[..., :-1], label[..., 1:]), (label[..., :-1, :], label[..., 1:, :])):
        pair = (one.clamp(min=0) * k + two.clamp(min=0)).flatten(1)
        known = ((one >= 0) & (two >= 0)).flatten(1).float()
        touch = touch.scatter_reduce(1, pair, known, "amax")
    touch = touch.view(t, k, k)
    reach = torch.maximum(touch, touch.mT) * foreground[:, :, None] * foreground[:, None]
    for _ in range(max(1, (k - 1).bit_length())):  # paths of twice the length each time
        reach = (reach @ reach).clamp(max=1)
    return reach.argmax(-1)


def _sums(track: Tensor, evidence: Tensor) -> Tensor:
    """Evidence of every track, ``[T K]``."""
    return evidence.new_zeros(track.numel()).scatter_add_(0, track.clamp(min=0).flatten(), evidence.flatten())


def _rejoined(track: Tensor, group: Tensor, total: Tensor, most: int) -> Tensor:
    """Tracks ``[T, K]``; pieces among the ``most`` best have that of which they are a piece."""
    best = total.sort(descending=True, stable=True).indices[:most]
    member = track[..., None] == best  # [T, K, M]
    inside = torch.zeros(member.shape, device=track.device)  # [T, groups, M]
    inside.scatter_add_(1, group[..., None].expand(member.shape), member.float())
    together = (torch.einsum("tgm,tgn->tmn", inside, inside) > 0).sum(0)  # frames, [M, M]
    frames = together.diagonal()
    piece = (2 * together > torch.minimum(frames, frames[:, None])).tril(-1)
    number = torch.arange(most, device=track.device)
    whole = torch.where(piece.any(1), piece.int().argmax(1), number)
    for _ in range(most.bit_length()):  # pieces of pieces
        whole = whole[whole]
    return torch.where(member.any(-1), best[whole][member.int().argmax(-1)], track)


def _tracks(result: Segmentation, group: Tensor) -> Tensor:
    """Track of every foreground seed, ``[T, K]`` int64: frame times K plus seed where it began; -1 elsewhere."""
    foreground, embedding = result.foreground, result.seeds.embedding.detach()
    t, k = foreground.shape
    own = torch.arange(k, device=group.device)
    rows = [torch.where(foreground[0], group[0], -1)]
    for now in range(1, t):
        before, here = foreground[now - 1], foreground[now]
        distance = squared_distance(embedding[now], embedding[now - 1])  # [K now, K before]
        distance = distance.masked_fill(~(here[:, None] & before), torch.inf)
        back, forth = distance.argmin(1), distance.argmin(0)
        mutual = (forth[back] == own) & here & before.any()
        # tracks that lead into a group: [group, seed before]
        leads = torch.zeros(k, k, dtype=torch.bool, device=group.device)
        link = mutual[:, None] & (rows[-1][back][:, None] == rows[-1]) & before
        leads = leads.float().index_add(0, group[now], link.float()) > 0
        reached = leads[group[now]]
        nearest = distance.masked_fill(~reached, torch.inf).argmin(1)
        inherited = torch.where(reached.any(1), rows[-1][nearest], now * k + group[now])
        rows.append(torch.where(here, inherited, -1))
    return torch.stack(rows)


def _nearest_object(embedding: Tensor, number: Tensor, n: int) -> Tensor:
    """Object of the most similar seed of the frame that has one, or of the most similar mean seed: ``[T, K]``."""
    member = number[..., None] == torch.arange(n, device=number.device)  # [T, K, N]
    weight = member.to(embedding.dtype)
    mean = torch.einsum("tkn,tkd->nd", weight, embedding) / weight.sum((0, 1)).clamp(min=1)[:, None]
    absent = ~member.any(1).any(0)
    far = squared_distance(embedding, mean.expand(len(embedding), -1, -1)).masked_fill(absent, torch.inf)
    near = squared_distance(embedding, embedding).masked_fill((number < 0)[:, None], torch.inf)
    joined = number.gather(1, near.argmin(-1))
    return torch.where((number >= 0).any(1, keepdim=True), joined, far.argmin(-1))


def _masks(result: Segmentation, number: Tensor, n: int) -> Tensor:
    """Disjoint masks ``[N, T, h, w]``.

    A region belongs to the object of its seed, or of the foreground seed nearest to it in the embedding graph.
    """
    distance = result.forest.seed_distance.masked_fill(~result.foreground[:, None], torch.inf)
    nearest = torch.where(result.foreground, torch.arange(number.shape[1], device=number.device), distance.argmin(-1))
    region = number.gather(1, nearest)  # [T, K]
    region = torch.where(result.foreground.any(1, keepdim=True), region, 0)  # the sets came from another frame
    label = result.forest.label
    grid = region.gather(1, label.clamp(min=0).flatten(1)).view_as(label)
    size = (result.mask.shape[-2], result.mask.shape[-1])
    pixel = interpolate(grid[:, None].float(), size=size, mode="nearest-exact")[:, 0]
    return (pixel == torch.arange(n, device=pixel.device)[:, None, None, None]) & result.mask
