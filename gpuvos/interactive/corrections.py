"""Corrections of one frame that follow their seeds through the whole clip: what a click or a brush says, everywhere.

A correction names the object of some seeds of one frame. Every seed of the other frames hears what the seed says that
it continues: forwards the seed of the frame before that is most like it, where the flow puts that one; backwards
likewise. So labels travel along links that are found once for a clip, and a correction is as many look-ups as there are
frames. Where several corrections reach a seed, that of the nearest frame counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gpuvos.errors import check_choice, check_count, check_tensor, fail
from gpuvos.functional.similarity import squared_distance
from gpuvos.interactive.relabel import seeds_at
from gpuvos.pipeline.result import check_one_video
from gpuvos.types import Features, Segmentation

UNTOUCHED = -2  # of a seed that a correction says nothing about
Reach = Literal["spot", "part", "thing"]
REACHES: tuple[Reach, ...] = get_args(Reach)
"""How much one click takes: the seed under it; its closest neighbours; the piece of the picture that it stands for."""


class Links(NamedTuple):
    """Which seed each seed continues, -1 for none."""

    before: Tensor  # [T, K] int64, a seed of the frame before; -1 in the first frame
    after: Tensor  # [T, K] int64, a seed of the frame after; -1 in the last frame


class Correction(NamedTuple):
    """What somebody says of the seeds of one frame."""

    frame: int
    owner: Tensor  # [K] int64: 0 the ground, 1, 2, ... an object, ``UNTOUCHED`` nothing


def link_seeds(result: Segmentation, features: Features) -> Links:
    """Links the seeds of neighbouring frames, by their embedding and by where the flow says that they are.

    Squared distances of embeddings are divided by their median from seed to most similar seed, those of places by
    the area of a seed; the sum decides.

    Args:
        result: a result of ``segment`` for one video.
        features: the features that it was segmented from.

    Returns:
        Links.

    Example:
        >>> from gpuvos import VideoSegmenter
        >>> from gpuvos.data import render_clip
        >>> segmenter = VideoSegmenter()
        >>> frames = render_clip("single", num_frames=3, height=64, width=96).frames
        >>> features = segmenter.features(frames)
        >>> links = link_seeds(segmenter.label(features, frames), features)
        >>> links.before.shape, bool((links.before[0] == -1).all())
        (torch.Size([3, 300]), True)
    """
    seeds = check_one_video(result).seeds
    t, k = seeds.index.shape
    h, w = result.forest.label.shape[-2:]
    check_tensor("features.flow", features.flow, "T 2 H W", sizes={"T": t, "H": h, "W": w})
    index = seeds.index.clamp(min=0)
    place = torch.stack((index % w, index // w), -1).float()  # [T, K, 2] (x, y)
    scale = place.new_tensor((w / result.mask.shape[-1], h / result.mask.shape[-2]))
    flow = features.flow.flatten(2).gather(2, index[:, None].expand(-1, 2, -1)).mT.float() * scale
    embedding = seeds.embedding.detach().float()
    neither = ~(seeds.valid[1:, :, None] & seeds.valid[:-1, None])
    looks = squared_distance(embedding[1:], embedding[:-1]).masked_fill(neither, torch.inf)  # [T - 1, K, K before]
    nearest = looks.amin(-1)
    known = nearest[nearest.isfinite()]
    usual = known.median().clamp(min=1e-12) if known.numel() else looks.new_ones(())
    moved = squared_distance(place[1:], place[:-1] + flow[:-1])
    cost = looks / usual + moved * (k / (h * w))
    none = torch.full((1, k), -1, device=cost.device)
    before = torch.where(cost.amin(-1).isfinite(), cost.argmin(-1), -1)
    after = torch.where(cost.amin(-2).isfinite(), cost.argmin(-2), -1)
    return Links(torch.cat((none, before)), torch.cat((after, none)))


def correct_points(
    result: Segmentation, points: Tensor, owner: int, *, frame: int, reach: Reach = "thing"
) -> Correction:
    """The correction that clicks into one frame mean.

    A click takes seeds by their geodesic distance from the one under it. Under the minimax distance all seeds beyond an
    edge of the embedding are equally far, so the distance at which the most seeds lie is where the ground begins:
    ``reach="thing"`` takes the seeds before it, ``"part"`` the nearer half of these. A click on the ground itself takes
    little more than its own seed.

    Args:
        result: a result of ``segment`` for one video.
        points: ``[N, 2]`` (x, y) in pixels of ``result.mask``.
        owner: 0 the ground, 1, 2, ... an object.
        frame: the frame clicked at.
        reach: one of ``REACHES``.

    Returns:
        Correction.

    Raises:
        InputError: no such frame, points outside of the image, a negative owner.

    Example:
        >>> from gpuvos import VideoSegmenter
        >>> from gpuvos.data import render_clip
        >>> result = VideoSegmenter()(render_clip("single", num_frames=2, height=64, width=96).frames)
        >>> int((correct_points(result, torch.tensor([[5.0, 5.0]]), 0, frame=1, reach="spot").owner == 0).sum())
        1
    """
    check_count("owner", owner, 0)
    check_choice("reach", reach, REACHES)
    taken = torch.zeros_like(result.foreground[0])
    for seed in seeds_at(result, points, frame=frame).tolist():
        if seed >= 0:
            taken |= _around(result.forest.seed_distance[frame, seed], seed, reach)
    taken &= result.seeds.valid[frame]
    return Correction(frame, torch.where(taken, owner, UNTOUCHED))


def correct_area(result: Segmentation, area: Tensor, owner: int, *, frame: int, whole: bool = False) -> Correction:
    """The correction that a painted area means.

    Args:
        result: a result of ``segment`` for one video.
        area: ``[h, w]`` bool of any size, spread over the whole frame.
        owner: 0 the ground, 1, 2, ... an object.
        frame: the frame painted in.
        whole: whether the area is all of the object in this frame (a first mask), so that every seed outside of it
            is ground.

    Returns:
        Correction of the seeds whose regions the area covers by half or more; where there is none, of the seed whose
        region it covers most.

    Raises:
        InputError: an empty area, no such frame.

    Example:
        >>> from gpuvos import VideoSegmenter
        >>> from gpuvos.data import render_clip
        >>> clip = render_clip("single", num_frames=2, height=64, width=96)
        >>> found = correct_area(VideoSegmenter()(clip.frames), clip.mask[0], 1, frame=0, whole=True)
        >>> sorted(set(found.owner.tolist()))
        [-2, 0, 1]
    """
    check_count("owner", owner, 0)
    t, h, w = check_one_video(result).forest.label.shape
    if not 0 <= frame < t:
        raise fail("frame", str(frame), f"a frame in [0, {t - 1}]")
    check_tensor("area", area, "h w", kind="bool", filled=True)
    share = interpolate(area[None, None].float(), size=(h, w), mode="area").flatten()
    if not bool(share.any()):
        raise fail("area", "an empty one", "at least one pixel")
    label, valid = result.forest.label[frame].flatten(), result.seeds.valid[frame]
    sums = share.new_zeros(len(valid)).scatter_add_(0, label.clamp(min=0), share * (label >= 0))
    sizes = share.new_zeros(len(valid)).scatter_add_(0, label.clamp(min=0), (label >= 0).float())
    covered = sums / sizes.clamp(min=1)
    taken = (covered >= covered.max().clamp(min=1e-6, max=0.5)) & valid
    return Correction(frame, torch.where(taken, owner, torch.where(valid, 0 if whole else UNTOUCHED, UNTOUCHED)))


def follow(correction: Correction, links: Links) -> Tensor:
    """What a correction says of the seeds of all frames: ``[T, K]`` int64, ``UNTOUCHED`` where it says nothing.

    Example:
        >>> links = Links(torch.tensor([[-1, -1], [1, 1]]), torch.tensor([[0, 1], [-1, -1]]))
        >>> follow(Correction(0, torch.tensor([-2, 3])), links).tolist()
        [[-2, 3], [3, 3]]
    """
    owner = torch.full_like(links.before, UNTOUCHED)
    owner[correction.frame] = correction.owner
    for frame in range(correction.frame + 1, len(owner)):
        owner[frame] = _heard(owner[frame - 1], links.before[frame])
    for frame in range(correction.frame - 1, -1, -1):
        owner[frame] = _heard(owner[frame + 1], links.after[frame])
    return owner


def corrected_owner(owner: Tensor, corrections: Sequence[Correction], links: Links) -> Tensor:
    """The object of every seed after corrections.

    Args:
        owner: ``[T, K]`` int64 before them: 0 the ground, 1, 2, ... objects, -1 neither.
        corrections: in the order in which they were made. For every seed the one of the nearest frame counts that says
            something of it; of equally near ones the latest.
        links: of the seeds.

    Returns:
        ``[T, K]`` int64.
    """
    frames = torch.arange(len(owner), device=owner.device)[:, None]
    nearest = torch.full_like(owner, torch.iinfo(owner.dtype).max)
    for correction in corrections:
        said = follow(correction, links)
        distance = (frames - correction.frame).abs().expand_as(owner)
        counts = (said != UNTOUCHED) & (distance <= nearest)
        owner, nearest = torch.where(counts, said, owner), torch.where(counts, distance, nearest)
    return owner


def _heard(owner: Tensor, link: Tensor) -> Tensor:
    return torch.where(link >= 0, owner[link.clamp(min=0)], UNTOUCHED)


def _around(distance: Tensor, seed: int, reach: str) -> Tensor:
    """The seeds that a click on one takes, ``[K]`` bool, by their distances from it."""
    own = torch.arange(len(distance), device=distance.device) == seed
    others = ~own & distance.isfinite()
    if reach == "spot" or not bool(others.any()):
        return own
    near = distance[others].sort().values
    joining = (near[:, None] == near).sum(1)  # of each, how many are as far
    thing = others & (distance < near[joining.argmax()])
    if reach == "part" and bool(thing.any()):
        thing &= distance <= distance[thing].median()
    taken: Tensor = thing | own
    return taken
