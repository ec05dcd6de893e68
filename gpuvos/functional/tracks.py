"""Seed tracks, Eq. 9, and their scores, Eq. 10."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.errors import check_choice, check_index, check_tensor, fail
from gpuvos.functional.batch import merge_leading
from gpuvos.kernels.following_seeds import following_seeds as following_op
from gpuvos.kernels.shapes import LONGEST, is_open
from gpuvos.types import Seeds


def link_tracks(seeds: Seeds) -> Tensor:
    """Follows every seed of frame 0 through the sequence, Eq. 9: on to the most similar seed of the next frame.

    The step from each frame to the next is a map of seed numbers, and maps compose, so all frames are linked in
    ``log2 T`` gathers. Ties go to the lowest seed number.

    Args:
        seeds: Seeds of a sequence, index ``[T, K]`` (or ``[B, T, K]``).

    Returns:
        ``[T, K]`` int64: the seed, in frame t, of the track that started at seed k of frame 0; -1 for a track that
        starts at an invalid seed and from the first frame on that has no seed.

    Example:
        >>> e = torch.tensor([[[0.0], [9.0]], [[8.0], [1.0]]])
        >>> valid = torch.ones(2, 2, dtype=torch.bool)
        >>> link_tracks(Seeds(torch.tensor([[0, 1], [0, 1]]), valid, e, torch.ones(2, 2)))
        tensor([[0, 1],
                [1, 0]])
    """
    if not isinstance(seeds, tuple) or len(seeds) != len(Seeds._fields):
        raise fail("seeds", type(seeds).__name__, "Seeds", "see gpuvos.functional.select_seeds")
    sizes = check_tensor("seeds.embedding", seeds.embedding, "... T K D", filled=True)
    valid, embedding = seeds.valid, seeds.embedding.detach()
    count = {"T": sizes["T"], "K": sizes["K"]}
    lead = embedding.shape[:-3]
    check_tensor("seeds.valid", valid, "... T K", kind="bool", sizes=count, leading=lead, like=embedding)
    following = following_seeds(embedding[..., :-1, :, :], embedding[..., 1:, :, :], valid[..., 1:, :])
    return compose_tracks(following, valid)


def following_seeds(embedding: Tensor, following: Tensor, valid: Tensor) -> Tensor:
    """The most similar seed of the next frame, one step of Eq. 9; ties go to the lowest number.

    Args:
        embedding: ``[T, K, D]`` of the seeds of frames.
        following: ``[T, K, D]`` of the seeds of the frames after them.
        valid: ``[T, K]`` bool, which of the latter exist.

    Returns:
        ``[T, K]`` int64.

    Example:
        >>> e = torch.tensor([[[0.0], [9.0]]])
        >>> following_seeds(e, e.flip(1), torch.ones(1, 2, dtype=torch.bool))
        tensor([[1, 0]])
    """
    nearest = following_op(merge_leading(embedding, 2), merge_leading(following, 2), merge_leading(valid, 1))
    return nearest.reshape(embedding.shape[:-1])


def compose_tracks(following: Tensor, valid: Tensor) -> Tensor:
    """Tracks from their steps, as ``link_tracks`` gives them.

    Args:
        following: ``[T - 1, K]`` from ``following_seeds``.
        valid: ``[T, K]`` bool.

    Returns:
        ``[T, K]`` int64.

    Example:
        >>> compose_tracks(torch.tensor([[1, 0], [1, 1]]), torch.ones(3, 2, dtype=torch.bool))
        tensor([[0, 1],
                [1, 0],
                [1, 1]])
    """
    t, k = valid.shape[-2:]
    identity = torch.arange(k, device=valid.device).expand(valid.shape)
    tracks = torch.cat((identity[..., :1, :], following), -2)  # [..., T, K]
    reach = 1
    while reach < (LONGEST if is_open(t) else t):
        tracks = _reach_twice(tracks, reach)
        reach *= 2
    ended = (~valid.any(-1)).cumsum(-1) > 0  # [..., T]
    return tracks.masked_fill(ended[..., None] | ~valid[..., :1, :], -1)


def _reach_twice(tracks: Tensor, reach: int) -> Tensor:
    """Steps of ``reach`` frames, from the beginning where there are fewer, as steps of twice as many."""
    t = tracks.shape[-2]
    if not is_open(t):
        composed = tracks[..., reach:, :].gather(-1, tracks[..., :-reach, :])
        return torch.cat((tracks[..., :reach, :], composed), -2)
    number = torch.arange(t, device=tracks.device)  # a slice would have to prove that T has so many
    before = tracks.index_select(-2, (number - reach).clamp(min=0))
    return torch.where((number >= reach)[:, None], tracks.gather(-1, before), tracks)


def track_scores(tracks: Tensor, objectness: Tensor, saliency: Tensor, *, rank_by: str = "both") -> Tensor:
    """Score of every track, Eq. 10: the mean of ``O(s) M(s)`` over its members.

    Args:
        tracks: ``[T, K]`` int64 from ``link_tracks`` (any leading dimensions).
        objectness: ``[T, K]`` of the seeds.
        saliency: ``[T, K]`` of the seeds.
        rank_by: ``both``, or ``motion`` or ``objectness`` alone.

    Returns:
        ``[K]``; -inf for a track with no member.

    Example:
        >>> track_scores(torch.tensor([[0], [1]]), torch.tensor([[1.0, 0.0], [0.0, 0.5]]), torch.ones(2, 2))
        tensor([0.7500])
    """
    check_choice("rank_by", rank_by, ("both", "motion", "objectness"))
    sizes = check_tensor("tracks", tracks, "... T K", kind="int64", filled=True)
    lead = tracks.shape[:-2]
    frames = {"T": sizes["T"]}
    seeds = check_tensor("objectness", objectness, "... T K", sizes=frames, leading=lead, like=tracks)
    check_tensor("saliency", saliency, "... T K", sizes=seeds, leading=lead, like=tracks)
    check_index("tracks", tracks, -1, seeds["K"])
    value = {"both": objectness * saliency, "motion": saliency, "objectness": objectness}[rank_by]
    member = tracks >= 0
    score = value.double().gather(-1, tracks.clamp(min=0)).masked_fill(~member, 0).sum(-2)
    count = member.sum(-2)
    return (score / count.clamp(min=1)).to(value.dtype).masked_fill(count == 0, -torch.inf)


def best_track(tracks: Tensor, score: Tensor) -> Tensor:
    """Members of the track of highest score, the foreground seeds; ties go to the lowest number.

    Args:
        tracks: ``[T, K]`` int64 from ``link_tracks`` (any leading dimensions).
        score: ``[K]`` from ``track_scores``.

    Returns:
        ``[T]`` int64; -1 where the track has no member.

    Example:
        >>> best_track(torch.tensor([[0, 1], [1, 0]]), torch.tensor([0.2, 0.7]))
        tensor([1, 0])
    """
    k = check_tensor("tracks", tracks, "... T K", kind="int64", filled=True)["K"]
    check_tensor("score", score, "... K", sizes={"K": k}, leading=tracks.shape[:-2], like=tracks)
    check_index("tracks", tracks, -1, k)
    best = score.argmax(-1)[..., None, None].expand(*tracks.shape[:-1], 1)
    return tracks.gather(-1, best).squeeze(-1)
