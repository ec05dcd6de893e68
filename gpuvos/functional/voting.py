"""Labels of the seeds by vote: seeds that look alike, anywhere in the sequence, decide together (robust rule)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gpuvos.errors import check_count, check_positive, check_share, check_tensor
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.precision import full_precision
from gpuvos.functional.relaxed import soft_below
from gpuvos.kernels.backend import needs_plain
from gpuvos.kernels.neighbor_mean import mean_within, neighbor_mean, reference
from gpuvos.kernels.shapes import is_open


@full_precision
def smooth_seed_labels(
    embedding: Tensor,
    label: Tensor,
    valid: Tensor,
    *,
    neighbors: int = 128,
    largest_share: float = 1.0,
    frames: int = 16,
) -> Tensor:
    """Mean label of the nearest seeds of the whole sequence.

    Neighbours are looked for among the seeds of at most ``frames`` frames, evenly spaced, so that the cost grows with
    the length of the sequence and not with its square. A seed of one of those frames is its own first neighbour.
    Seeds as far as the last neighbour count as well, so the result does not depend on the order of equal distances.

    Args:
        embedding: ``[T, K, D]`` of the seeds (or ``[B, T, K, D]``).
        label: ``[T, K]`` floating point, for example 1 for foreground and 0 for the rest.
        valid: ``[T, K]`` bool; invalid seeds are nobody's neighbours. A video ends with its last valid seed.
        neighbors: the number of neighbours to average over; fewer where there are fewer seeds.
        largest_share: take at most this share of the seeds that are looked at, but at least three: neighbours in a
            short clip are far apart.
        frames: in how many frames neighbours are looked for.

    Returns:
        ``[T, K]``; 0 where invalid.

    Example:
        >>> e = torch.tensor([[[0.0], [1.0], [5.0], [6.0]]])
        >>> label = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
        >>> smooth_seed_labels(e, label, torch.ones(1, 4, dtype=torch.bool), neighbors=2)
        tensor([[0.5000, 0.5000, 0.0000, 0.0000]])
    """
    sizes = check_tensor("embedding", embedding, "... T K D", filled=True)
    count = {"T": sizes["T"], "K": sizes["K"]}
    check_tensor("label", label, "... T K", sizes=count, leading=embedding.shape[:-3], like=embedding)
    search = _Sequence(embedding, valid, neighbors, largest_share, frames)
    return search.mean(label)


@full_precision
def vote_labels(
    embedding: Tensor,
    score: Tensor,
    valid: Tensor,
    *,
    neighbors: int = 128,
    largest_share: float = 1.0,
    frames: int = 16,
    confident_share: float = 0.55,
    vote_threshold: float = 0.35,
) -> Tensor:
    """Foreground seeds of the robust rule: seeds that look alike, anywhere in the sequence, decide together.

    The scores are smoothed over the nearest seeds. A seed is confident if its smoothed score exceeds
    ``confident_share`` of the largest of its frame (or of half the largest of the video, if that is more, so that a
    frame without the object has none). It is foreground if more than ``vote_threshold`` of its neighbours are.

    Args:
        embedding: ``[T, K, D]`` of the seeds (or ``[B, T, K, D]``).
        score: ``[T, K]`` non-negative evidence for foreground.
        valid: ``[T, K]`` bool.
        neighbors: the number of neighbours, see ``smooth_seed_labels``.
        largest_share: the largest share of the seeds that are neighbours, see ``smooth_seed_labels``.
        frames: the number of frames that are searched, see ``smooth_seed_labels``.
        confident_share: share of the largest score.
        vote_threshold: share of the neighbours.

    Returns:
        ``[T, K]`` bool; False everywhere where every score is 0.

    Example:
        >>> e = torch.tensor([[[0.0], [1.0], [5.0], [6.0]]])
        >>> score = torch.tensor([[0.9, 0.5, 0.1, 0.0]])
        >>> vote_labels(e, score, torch.ones(1, 4, dtype=torch.bool), neighbors=2)
        tensor([[ True,  True, False, False]])
    """
    check_share("vote_threshold", vote_threshold)
    vote = take_vote(
        embedding,
        score,
        valid,
        neighbors=neighbors,
        largest_share=largest_share,
        frames=frames,
        confident_share=confident_share,
    )
    return (vote.share > vote_threshold) & valid


class Vote(NamedTuple):
    """What ``vote_labels`` decides on."""

    smoothed: Tensor  # [T, K] mean score of a seed's neighbours
    confident: Tensor  # [T, K] bool; with a softness floating point in [0, 1]
    share: Tensor  # [T, K] share of a seed's neighbours that are confident


@full_precision
def take_vote(
    embedding: Tensor,
    score: Tensor,
    valid: Tensor,
    *,
    neighbors: int = 128,
    largest_share: float = 1.0,
    frames: int = 16,
    confident_share: float = 0.55,
    softness: float = 0.0,
) -> Vote:
    """The vote behind ``vote_labels``, whose arguments these are.

    With a ``softness`` above 0 seeds are more or less confident (see ``soft_below``), so that the share has a gradient
    with respect to the score.

    Example:
        >>> e = torch.tensor([[[0.0], [1.0], [5.0], [6.0]]])
        >>> score = torch.tensor([[0.75, 0.5, 0.0, 0.0]])
        >>> take_vote(e, score, torch.ones(1, 4, dtype=torch.bool), neighbors=2).smoothed
        tensor([[0.6250, 0.6250, 0.0000, 0.0000]])
    """
    sizes = check_tensor("valid", valid, "... T K", kind="bool", filled=True)
    check_tensor("score", score, "... T K", sizes=sizes, leading=valid.shape[:-2], like=valid)
    check_share("confident_share", confident_share)
    search = _Sequence(embedding, valid, neighbors, largest_share, frames)
    smoothed = search.mean(score.masked_fill(search.invalid.reshape(valid.shape), 0))
    confident = confident_seeds(smoothed, valid, confident_share=confident_share, softness=softness)
    return Vote(smoothed, confident, search.mean(confident.to(score.dtype)))


def confident_seeds(
    smoothed: Tensor,
    valid: Tensor,
    *,
    confident_share: float = 0.55,
    softness: float = 0.0,
    largest: Tensor | None = None,
) -> Tensor:
    """Seeds whose smoothed score exceeds a share of the largest of their frame, or of half the largest of the video.

    Args:
        smoothed: ``[T, K]`` (any leading dimensions), 0 where invalid.
        valid: ``[T, K]`` bool.
        confident_share: the share of the largest score that a confident seed exceeds.
        softness: relative width of the step, see ``soft_below``; 0 compares exactly.
        largest: largest score of the video, where these are not all of its frames.

    Returns:
        ``[T, K]`` bool; with a softness floating point in [0, 1].

    Example:
        >>> smoothed = torch.tensor([[1.0, 0.6, 0.5], [0.2, 0.25, 0.3]])
        >>> confident_seeds(smoothed, torch.ones(2, 3, dtype=torch.bool))
        tensor([[ True,  True, False],
                [False, False,  True]])
    """
    frame = smoothed.amax(-1, keepdim=True)
    video = frame.amax(-2, keepdim=True) if largest is None else largest
    limit = confident_share * torch.maximum(frame, 0.5 * video)
    if softness:
        return (1 - soft_below(smoothed, limit, softness=softness)).masked_fill(~valid, 0)
    return (smoothed > limit) & valid


@full_precision
def means_of_neighbors(
    embedding: Tensor,
    valid: Tensor,
    points: Tensor,
    labels: Sequence[Tensor],
    there: Tensor,
    *,
    neighbors: int = 128,
    largest_share: float = 1.0,
) -> list[Tensor]:
    """Mean labels of the nearest of other seeds: what ``take_vote`` needs of frames that are not looked at themselves.

    Args:
        embedding: ``[R, K, D]`` of the seeds that ask.
        valid: ``[R, K]`` bool.
        points: ``[A, K, D]`` of the seeds that answer.
        labels: floating point ``[A, K]`` each.
        there: ``[A, K]`` bool, which of those seeds exist.
        neighbors: the number of neighbours, see ``smooth_seed_labels``.
        largest_share: the largest share of the seeds that are neighbours, see ``smooth_seed_labels``.

    Returns:
        ``[R, K]`` for each of the labels; 0 where invalid.

    Example:
        >>> points, yes = torch.tensor([[[0.0], [9.0]]]), torch.ones(1, 2, dtype=torch.bool)
        >>> means_of_neighbors(points + 1, yes, points, [torch.tensor([[1.0, 0.0]])], yes, neighbors=1)
        [tensor([[1., 0.]])]
    """
    sizes = check_tensor("embedding", embedding, "R K D")
    channels = {"D": sizes["D"]}
    check_tensor("valid", valid, "R K", kind="bool", sizes=sizes, like=embedding)
    others = check_tensor("points", points, "A K D", sizes=channels, like=embedding)
    for label in labels:
        check_tensor("labels", label, "A K", sizes=others, like=embedding)
    check_tensor("there", there, "A K", kind="bool", sizes=others, like=embedding)
    dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
    rows, answers = embedding.detach().to(dtype), points.detach().to(dtype)
    centre = answers[:1].mean(1, keepdim=True)
    search = _Neighbors(
        (rows - centre).flatten(0, 1)[None],
        (answers - centre).flatten(0, 1)[None],
        there.flatten()[None],
        neighbors,
        largest_share,
    )
    found = [search.mean(label.flatten()[None]).reshape(valid.shape) for label in labels]
    return [mean.masked_fill(~valid, 0).to(label.dtype) for mean, label in zip(found, labels, strict=True)]


class _Sequence:
    """The neighbours of every seed of a sequence among the seeds of evenly spaced frames of it."""

    def __init__(self, embedding: Tensor, valid: Tensor, neighbors: int, largest_share: float, frames: int) -> None:
        sizes = check_tensor("embedding", embedding, "... T K D", filled=True)
        count = {"T": sizes["T"], "K": sizes["K"]}
        check_tensor("valid", valid, "... T K", kind="bool", sizes=count, leading=embedding.shape[:-3], like=embedding)
        check_count("frames", frames)
        dtype = torch.float64 if embedding.dtype == torch.float64 else torch.float32
        seeds = merge_leading(embedding.detach().to(dtype), 3)  # [B, T, K, D]
        # small numbers keep the product exact enough; frame 0 alone, so that padded frames change no bit
        seeds = seeds - seeds[:, :1].mean(2, keepdim=True)
        self.valid = merge_leading(valid, 2)  # [B, T, K]
        self.invalid = ~self.valid.flatten(1)
        self.chosen, exists = spread_frames(self.valid, frames)  # [B, A]
        self.search = _Neighbors(
            seeds.flatten(1, 2),
            self._among(seeds).flatten(1, 2),
            (self._among(self.valid) & exists[..., None]).flatten(1),
            neighbors,
            largest_share,
        )

    def _among(self, values: Tensor) -> Tensor:
        """Values ``[B, T, ...]`` of the frames that are looked at, ``[B, A, ...]``."""
        index = self.chosen.reshape(*self.chosen.shape, *[1] * (values.ndim - 2))
        return values.gather(1, index.expand(*self.chosen.shape, *values.shape[2:]))

    def mean(self, label: Tensor) -> Tensor:
        """Mean label ``[..., T, K]`` of the neighbours of every seed."""
        result = self.search.mean(self._among(merge_leading(label, 2)).flatten(1))
        return result.masked_fill(self.invalid, 0).reshape(label.shape).to(label.dtype)


class _Neighbors:
    """The nearest points ``[B, A, D]`` of every row ``[B, R, D]``: not as a list, but as a radius, found once."""

    def __init__(self, rows: Tensor, points: Tensor, valid: Tensor, neighbors: int, largest_share: float) -> None:
        check_count("neighbors", neighbors)
        check_positive("largest_share", largest_share)
        count = valid.shape[1]
        share = valid.sum(1) * largest_share
        if is_open(count):  # its share is no integer in a program; a larger bound changes nothing
            self.most: Any = torch.sym_min(neighbors, count)
            there = torch.ones_like(valid, dtype=torch.int64).sum(1)
            self.wanted = torch.minimum(share.long().clamp(min=3, max=neighbors), there)  # [B]
        else:
            self.most = min(neighbors, count, max(3, int(count * largest_share) + 1))
            self.wanted = share.long().clamp(min=3, max=self.most)
        self.given = (rows, points, valid)
        self.radius: Tensor | None = None

    def mean(self, label: Tensor) -> Tensor:
        """Mean label ``[B, A]`` of the neighbours of every row, ``[B, R]``."""
        if needs_plain(label, *self.given):
            if self.radius is None:
                with torch.no_grad():
                    self.radius = neighbor_mean(*self.given, label.detach(), self.wanted, self.most)[1]
            return reference.mean_within(*self.given, label, self.radius, self.most)
        if self.radius is not None:
            return mean_within(*self.given, label, self.radius, self.most)
        mean, self.radius = neighbor_mean(*self.given, label, self.wanted, self.most)
        return mean


def spread_frames(valid: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """At most ``frames`` frames of each video ``[B, T, K]``, evenly spaced, and which of them it has: ``[B, A]``."""
    t = valid.shape[1]
    number = torch.arange(t, device=valid.device)
    length = ((number + 1) * valid.any(2)).amax(1, keepdim=True)  # [B, 1]; padded frames have no valid seed
    count = length.clamp(max=frames)
    most: Any = torch.sym_min(t, frames)
    # a slice would have to prove that an open T has so many
    place = torch.arange(most, device=valid.device) if is_open(t) else number[:most]
    return place * length // count.clamp(min=1), place < count
