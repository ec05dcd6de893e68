"""Interactive use: change the label of a seed, and only what depends on it is computed again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpuvos.config import Config
from gpuvos.errors import InputError, check_count, check_tensor, fail, shortened
from gpuvos.interactive.session import config_of
from gpuvos.pipeline.result import check_one_video, resize, with_probability
from gpuvos.pipeline.steps import probability_under, source_frames
from gpuvos.types import SeedSets, Segmentation

Pairs = Sequence[tuple[int, int]]


def relabel(
    result: Segmentation,
    embedding: Tensor,
    *,
    foreground: Pairs = (),
    background: Pairs = (),
    neither: Pairs = (),
    config: Config | None = None,
) -> Segmentation:
    """Changes the labels of seeds and computes Eq. 13-15 again, in the frames that use them and in no other.

    Args:
        result: a result of ``segment`` for one video, made without ``first_mask``.
        embedding: ``[T, D, H, W]``, the embedding that the result was segmented from.
        foreground: pairs (frame, seed) of the seeds that become foreground.
        background: pairs of the seeds that become background.
        neither: pairs of the seeds that become neither.
        config: parameters it was segmented with; those that the result carries where absent.

    Returns:
        A new Segmentation. Tracks, saliency and whatever else led to the labels are as they were.

    Raises:
        InputError: a seed that does not exist, or with two labels; an embedding that is not of this result.

    Example:
        >>> from gpuvos import VideoSegmenter
        >>> from gpuvos.data import render_clip
        >>> segmenter = VideoSegmenter()
        >>> frames = render_clip("single", num_frames=4, height=64, width=96).frames
        >>> result, embedding = segmenter(frames), segmenter.features(frames).embedding
        >>> edited = relabel(result, embedding, background=[(1, int(result.foreground[1].nonzero()[0]))])
        >>> [bool((a == b).all()) for a, b in zip(edited.probability, result.probability)]
        [False, False, False, True]
    """
    config = config_of(result, config)
    if config.softness:
        raise fail("config.softness", str(config.softness), "0", "soft labels have no edits: segment without")
    t, h, w = result.forest.label.shape
    d, like = result.seeds.embedding.shape[-1], result.seeds.embedding
    check_tensor("embedding", embedding, "T D H W", sizes={"T": t, "D": d, "H": h, "W": w}, like=like)
    sets = {"foreground": result.foreground.clone(), "background": result.background.clone()}
    edits = {"foreground": foreground, "background": background, "neither": neither}
    edited: set[tuple[int, int]] = set()
    for name, pairs in edits.items():
        for frame, seed in _checked_pairs(name, pairs):
            _check_seed(name, frame, seed, result, edited)
            edited.add((frame, seed))
            for label, members in sets.items():
                members[frame, seed] = label == name
    sources = source_frames(embedding[None], config)  # [n, T]
    changed = torch.tensor(sorted({frame for frame, _ in edited}), dtype=torch.int64, device=embedding.device)
    frames = torch.isin(sources, changed).any(0).nonzero().flatten()
    probability = result.probability.clone()
    if len(frames):
        known = SeedSets(result.seeds.embedding[None], sets["foreground"][None], sets["background"][None])
        found = probability_under(embedding[None, frames], known, config, sources[:, frames])
        resized = resize(found, (probability.shape[-2], probability.shape[-1]))[0]
        probability[frames] = resized.to(probability.dtype)
    edited_result = with_probability(result, probability)
    return edited_result._replace(foreground=sets["foreground"], background=sets["background"])


def seeds_at(result: Segmentation, points: Tensor, *, frame: int = 0) -> Tensor:
    """The seeds in whose regions points of the image are.

    Args:
        result: a result of ``segment`` for one video.
        points: ``[N, 2]`` (x, y) in pixels of the image.
        frame: the number of the frame.

    Returns:
        ``[N]`` int64 seed numbers; -1 where the frame has no seed.

    Raises:
        InputError: a point outside of the image, no such frame.

    Example:
        >>> import torch
        >>> from gpuvos import VideoSegmenter
        >>> result = VideoSegmenter()(torch.zeros(2, 3, 32, 48, dtype=torch.uint8))
        >>> seeds_at(result, torch.tensor([[3.0, 20.0]]), frame=1).shape
        torch.Size([1])
    """
    check_one_video(result)
    t, h, w = result.mask.shape
    check_count("frame", frame, 0)
    if frame >= t:
        raise fail("frame", str(frame), f"a frame in [0, {t - 1}]")
    check_tensor("points", points, "N 2", like=result.probability)
    grid_h, grid_w = result.forest.label.shape[-2:]
    x, y = points.unbind(1)
    if bool(((x < -0.5) | (x > w - 0.5) | (y < -0.5) | (y > h - 0.5) | points.isnan().any(1)).any()):
        raise fail("points", str(points.tolist()), f"(x, y) inside of an image of {w} x {h} pixels")
    column = ((x + 0.5) * grid_w / w).long().clamp(max=grid_w - 1)
    row = ((y + 0.5) * grid_h / h).long().clamp(max=grid_h - 1)
    return result.forest.label[frame, row, column]


def _checked_pairs(name: str, pairs: Pairs) -> list[tuple[int, int]]:
    wanted = "pairs (frame, seed) of whole numbers"
    try:
        found = [(frame, seed) for frame, seed in pairs]
        for frame, seed in found:
            check_count(name, frame, 0)
            check_count(name, seed, 0)
    except (InputError, TypeError, ValueError, RuntimeError):
        raise fail(name, shortened(pairs), wanted) from None
    return [(int(frame), int(seed)) for frame, seed in found]


def _check_seed(name: str, frame: int, seed: int, result: Segmentation, edited: set[tuple[int, int]]) -> None:
    t, k = result.foreground.shape
    if not (0 <= frame < t and 0 <= seed < k) or not bool(result.seeds.valid[frame, seed]):
        raise fail(name, f"frame {frame}, seed {seed}", f"a valid seed of a video of {t} frames and {k} seeds")
    if (frame, seed) in edited:
        raise fail(name, f"frame {frame}, seed {seed} a second time", "each seed once")
