"""Seed tracks, Eq. 9, and their scores, Eq. 10."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.config import LinkBy, RankBy
from gpuvos.errors import check_choice, check_index, check_tensor, fail
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.precision import full_precision
from gpuvos.kernels.link_tracks import link_tracks as link_op
from gpuvos.types import Seeds


@full_precision
def link_tracks(seeds: Seeds, *, link_by: LinkBy = "mean") -> Tensor:
    """Follows every seed of frame 0 through the sequence, Eq. 9: on to the seed of the next frame most similar to it.

    ``s_t = argmax over the seeds s of frame t of R(x, s)``, where x is the mean embedding ``(e_0 + ... + e_{t-1}) / t``
    of the track so far (``link_by="mean"``) or the embedding ``e_{t-1}`` of its last seed (``"last"``). Which of them
    the paper compares with is lost from its text; see ``Config.link_by``. Ties go to the lowest seed number.

    Args:
        seeds: Seeds of a sequence, index ``[T, K]`` (or ``[B, T, K]``).
        link_by: ``mean`` or ``last``.

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
    check_choice("link_by", link_by, ("mean", "last"))
    sizes = check_tensor("seeds.embedding", seeds.embedding, "... T K D", filled=True)
    valid, embedding = seeds.valid, seeds.embedding.detach()
    count = {"T": sizes["T"], "K": sizes["K"]}
    lead = embedding.shape[:-3]
    check_tensor("seeds.valid", valid, "... T K", kind="bool", sizes=count, leading=lead, like=embedding)
    tracks: Tensor = link_op(merge_leading(embedding, 3), merge_leading(valid, 2), link_by == "mean")
    return tracks.reshape(valid.shape)


def track_scores(tracks: Tensor, objectness: Tensor, saliency: Tensor, *, rank_by: RankBy = "both") -> Tensor:
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
