"""The method as one function of features, and as a module from frames to masks."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gpuvos import functional as F
from gpuvos.config import Config
from gpuvos.errors import check_count, check_tensor, check_values, fail, values_readable
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.edges import embedding_graph
from gpuvos.functional.precision import full_precision
from gpuvos.functional.voting import take_vote
from gpuvos.labels import Labels, labels_of_paper, labels_of_vote, soft_weights, vote_options
from gpuvos.memory import explain_memory, in_parts
from gpuvos.types import EdgeWeights, Features, Forest, Seeds, Segmentation

_LARGEST = 1e17  # squares of its differences, summed over thousands of channels, are floats still


class FrontEnd(Protocol):
    """Anything that turns frames ``[T, 3, h, w]`` (uint8, or float in [0, 1]) into the Features of the clip."""

    def __call__(self, frames: Tensor) -> Features:
        """Returns embedding ``[T, D, H, W]``, objectness ``[T, H, W]``, flow ``[T, 2, H, W]`` on one grid."""
        ...


class _Motion(NamedTuple):
    region_flow: Tensor  # [B, T, K, 2]
    saliency: Tensor  # [B, T, K]
    evidence: Tensor  # [B, T, K] what the robust rule smooths and votes on
    start: Tensor  # [B, T, K] bool, initial background


class _Choice(NamedTuple):
    tracks: Tensor  # [B, T, K]
    score: Tensor  # [B, K]
    seed: Tensor  # [B, T]
    initial: Tensor  # [B, T, H, W] bool
    labels: Labels  # [B, T, K]


@explain_memory("embedding")
@full_precision
def segment(
    embedding: Tensor,
    objectness: Tensor,
    flow: Tensor,
    *,
    config: Config | None = None,
    lengths: Tensor | None = None,
    size: tuple[int, int] | None = None,
    first_mask: Tensor | None = None,
    validate: bool = True,
) -> Segmentation:
    """Segments the moving object of a video from features of its frames, all frames at once.

    Args:
        embedding: ``[T, D, H, W]`` instance embedding, or ``[B, T, D, H, W]`` for several videos.
        objectness: ``[T, H, W]`` in [0, 1].
        flow: ``[T, 2, H, W]`` optical flow from frame t to t + 1. Only ``config.min_motion`` depends on its unit.
        config: parameters of the method; ``Config()`` where absent.
        lengths: ``[B]`` int64, frames of each video in a ragged batch; later frames get empty masks. Whatever finite
            values fill them change nothing.
        size: height and width of mask and probability; the grid's own where absent.
        first_mask: ``[h, w]`` bool (``[B, h, w]``), the object in frame 0: semi-supervised mode (A.1).
        validate: look for NaN and values out of range. It reads back from the device; False keeps the call free of
            synchronisation, for CUDA graphs and latency.

    Returns:
        Segmentation; see there for shapes.

    Raises:
        InputError: a shape, dtype, device or value does not fit.
        OutOfMemoryError: memory does not suffice; it is an InputError as well.

    Example:
        >>> e = torch.zeros(2, 1, 8, 12)
        >>> e[..., 2:6, 3:8] = 3.0
        >>> flow = torch.zeros(2, 2, 8, 12)
        >>> flow[:, 0, 2:6, 3:8] = 1.0
        >>> config = Config(rule="paper", window=3, num_seeds=20)
        >>> segment(e, (e[:, 0] > 0).float(), flow, config=config).mask.sum((1, 2))
        tensor([20, 20])
    """
    config = _checked_config(config)
    _check_features(embedding, objectness, flow, lengths, validate)
    several = embedding.ndim == 5
    _check_output(embedding, first_mask, size)
    if not several:
        embedding, objectness, flow = embedding[None], objectness[None], flow[None]
        first_mask = None if first_mask is None else first_mask[None]
    present = _present_frames(embedding, lengths)  # [B, T]
    seeds, weights, forest = _regions(embedding, objectness, present, config)
    motion = _motion(flow, objectness, seeds, forest, config)
    choice = _choose(seeds, weights, forest, motion, config)
    del weights  # a fifth of what the results take
    if first_mask is None:
        probability = _adapt(embedding, seeds, motion, choice, config)
    else:
        choice, probability = _from_mask(embedding, forest, first_mask, choice, config)
    probability = probability.masked_fill(~present[..., None, None], 0)
    result = _result(probability, seeds, forest, motion, choice, size)
    return result if several else _first_video(result)


def _result(
    probability: Tensor,
    seeds: Seeds,
    forest: Forest,
    motion: _Motion,
    choice: _Choice,
    size: tuple[int, int] | None,
) -> Segmentation:
    """Puts everything together, mask and probability at ``size``."""
    probability = _resize(probability, size)
    return Segmentation(
        probability > 0.5, probability, (2 * probability).sub_(1).abs_(), seeds, forest, choice.tracks, choice.score,
        choice.seed, choice.initial, choice.labels.foreground, choice.labels.background, motion.region_flow,
        motion.saliency, choice.labels.score, choice.labels.confident,
    )  # fmt: skip


def _resize(probability: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Brings ``[B, T, H, W]`` to ``size``."""
    if size is None:
        return probability
    flat = interpolate(
        merge_leading(probability, 2)[:, None], size=size, mode="bilinear", align_corners=False
    )
    return flat.clamp_(0, 1).reshape(*probability.shape[:2], *size)


def _check_features(
    embedding: Tensor, objectness: Tensor, flow: Tensor, lengths: Tensor | None, validate: bool
) -> None:
    lead = "B T" if isinstance(embedding, Tensor) and embedding.ndim == 5 else "T"
    sizes = check_tensor("embedding", embedding, f"{lead} D H W")
    check_tensor("objectness", objectness, f"{lead} H W", sizes=sizes, like=embedding)
    check_tensor("flow", flow, f"{lead} 2 H W", sizes=sizes, like=embedding)
    for name, length in sizes.items():
        if length == 0:
            raise fail("embedding", f"shape {tuple(embedding.shape)}", f"at least one element along {name}")
    if lengths is not None:
        if lead == "T":
            raise fail(
                "lengths", "a tensor", "None for a single video", "give the features a leading dimension B"
            )
        check_tensor("lengths", lengths, "B", kind="int64", sizes={"B": sizes["B"]}, like=embedding)
        if validate and values_readable(lengths) and bool(((lengths < 0) | (lengths > sizes["T"])).any()):
            raise fail(
                "lengths", str(lengths.tolist()), f"values in [0, {sizes['T']}], the frames of the batch"
            )
    if validate:
        check_values("embedding", embedding, low=-_LARGEST, high=_LARGEST)
        check_values("objectness", objectness, low=0, high=1)
        check_values("flow", flow, low=-_LARGEST, high=_LARGEST)


def _checked_config(config: Config | None) -> Config:
    if config is not None and not isinstance(config, Config):
        raise fail("config", type(config).__name__, "a gpuvos.Config", 'for example Config(rule="paper")')
    return config or Config()


def _check_first_mask(first_mask: Tensor, lead: str, videos: dict[str, int], like: Tensor) -> None:
    sizes = check_tensor("first_mask", first_mask, f"{lead}h w", kind="bool", sizes=videos, like=like)
    if min(sizes["h"], sizes["w"]) == 0:
        raise fail("first_mask", f"shape {tuple(first_mask.shape)}", "at least one pixel")


def _check_output(embedding: Tensor, first_mask: Tensor | None, size: tuple[int, int] | None) -> None:
    if first_mask is not None:
        lead, videos = ("B ", {"B": embedding.shape[0]}) if embedding.ndim == 5 else ("", {})
        _check_first_mask(first_mask, lead, videos, embedding)
    if size is not None and not (len(size) == 2 and min(size) > 0):
        raise fail("size", repr(size), "(rows, columns), both above zero")


def _present_frames(embedding: Tensor, lengths: Tensor | None) -> Tensor:
    b, t = embedding.shape[:2]
    if lengths is None:
        return torch.ones((b, t), dtype=torch.bool, device=embedding.device)
    return torch.arange(t, device=embedding.device) < lengths[:, None]


def _regions(
    embedding: Tensor, objectness: Tensor, present: Tensor, config: Config
) -> tuple[Seeds, EdgeWeights, Forest]:
    """Edge map, candidates, seeds and geodesic regions of every frame, Eq. 4-6."""
    weights, candidates = embedding_graph(
        embedding, reduce=config.edge_reduce, temperature=config.temperature, window=config.window
    )
    candidates = candidates & present[..., None, None]
    seeds = F.select_seeds(embedding, objectness, candidates, num_seeds=config.num_seeds)
    grow = F.minimax_forest if config.distance == "minimax" else F.shortest_forest
    return seeds, weights, grow(weights, seeds.index, seeds.valid)


def _motion(flow: Tensor, objectness: Tensor, seeds: Seeds, forest: Forest, config: Config) -> _Motion:
    """Region flow and motion saliency of the seeds, Eq. 7-8 or the residual of the camera's motion."""
    region_flow = F.region_mean(flow, forest.label, config.num_seeds)
    start = F.initial_background(seeds.objectness, seeds.valid, num_background=config.num_background)
    if config.rule == "paper":
        saliency = F.motion_saliency(
            region_flow, seeds.objectness, seeds.valid, num_background=config.num_background
        )
        return _Motion(region_flow, saliency, saliency, start)
    # the object should not bend the camera model
    residual = F.residual_flow(flow, weight=1 - 0.9 * objectness)
    length = F.region_mean(residual, forest.label, config.num_seeds).norm(dim=-1)
    mean_objectness = F.region_mean(objectness[:, :, None], forest.label, config.num_seeds)[..., 0]
    length = length * (length.amax(-1, keepdim=True) >= config.min_motion)
    saliency = F.normalize_saliency(length, seeds.valid)
    squared = saliency * mean_objectness.clamp(min=0)
    tiny = torch.finfo(squared.dtype).tiny  # the root of 0 has no gradient
    return _Motion(region_flow, saliency, squared.clamp(min=tiny).sqrt().masked_fill(squared == 0, 0), start)


def _choose(seeds: Seeds, weights: EdgeWeights, forest: Forest, motion: _Motion, config: Config) -> _Choice:
    """Tracks, the foreground track and the seed sets, Eq. 9-12."""
    tracks = F.link_tracks(seeds)
    score = F.track_scores(tracks, seeds.objectness, motion.saliency, rank_by=config.rank_by)
    seed = F.best_track(tracks, score)
    initial = _initial(seeds, weights, forest, motion, seed, config)
    if config.rule == "robust":
        vote = take_vote(
            seeds.embedding, motion.evidence, seeds.valid, **vote_options(config), softness=config.softness
        )
        labels = labels_of_vote(vote, seeds.valid, config)
    else:
        labels = labels_of_paper(initial, seeds, forest, motion.saliency, seed, motion.start, config)
    return _Choice(tracks, score, seed, initial, labels)


def _initial(
    seeds: Seeds, weights: EdgeWeights, forest: Forest, motion: _Motion, seed: Tensor, config: Config
) -> Tensor:
    """Initial foreground, Eq. 11."""
    if config.distance == "minimax":
        return F.initial_foreground(forest, seed, motion.start)
    return F.initial_foreground_shortest(
        weights, seeds.index, seed, motion.start, num_background=config.num_background
    )


def _adapt(embedding: Tensor, seeds: Seeds, motion: _Motion, choice: _Choice, config: Config) -> Tensor:
    """Eq. 13-15 with seed sets renewed every ``adapt_every`` frames."""
    frames = torch.arange(embedding.shape[1], device=embedding.device)
    source = frames * 0 if config.adapt_every is None else frames - frames % config.adapt_every
    sets = choice.labels[:2]
    probability = F.foreground_probability
    if config.softness:
        sets = soft_weights(choice.labels, seeds, motion.saliency, config)
        probability = F.soft_foreground_probability
    foreground, background = (members[:, source] for members in sets)
    return probability(
        embedding, seeds.embedding[:, source], foreground, background, temperature=config.temperature
    )


def _from_mask(
    embedding: Tensor, forest: Forest, first_mask: Tensor, choice: _Choice, config: Config
) -> tuple[_Choice, Tensor]:
    """Semi-supervised: the seed sets of every frame are those of frame 0 under its given mask (A.1)."""
    t = embedding.shape[1]
    sets = _mask_sets(embedding[:, :1], forest.label[:, :1], first_mask, config)
    seeds, foreground, background = (value.expand(-1, t, *value.shape[2:]) for value in sets)
    probability = F.foreground_probability(
        embedding, seeds, foreground, background, temperature=config.temperature
    )
    labels = choice.labels._replace(foreground=foreground, background=background)
    return choice._replace(labels=labels), probability


def _mask_sets(
    embedding: Tensor, label: Tensor, first_mask: Tensor, config: Config
) -> tuple[Tensor, Tensor, Tensor]:
    """Seeds and seed sets ``[B, 1, K, ...]`` of frame 0 from its mask ``[B, h, w]``."""
    share = interpolate(first_mask[:, None].float(), size=embedding.shape[-2:], mode="area")
    mask = share >= share.amax((-2, -1), keepdim=True).clamp(max=0.5).clamp(min=torch.finfo(share.dtype).tiny)
    return F.mask_seed_sets(embedding, label, mask, config.num_seeds, coverage=config.mask_coverage)


def _first_video(result: Segmentation) -> Segmentation:
    rest: dict[str, Any] = {
        name: value[0] for name, value in result._asdict().items() if isinstance(value, Tensor)
    }
    rest["seeds"] = Seeds(*[value[0] for value in result.seeds])
    rest["forest"] = Forest(*[value[0] for value in result.forest])
    return Segmentation(**rest)


class VideoSegmenter(nn.Module):
    """From frames to masks: a front end, then the method.

    Args:
        front_end: anything that returns Features for a clip; ``LearnedFeatures()`` (the
            network inside the package) where absent.
        config: parameters of the method.
        crf: refines probabilities by the frames, for example ``gpuvos.nn.DenseCRF()``; none where absent.
        chunk: frames that the front end and the CRF see at a time (and one beside them, for the flow), which bounds
            the memory of a long clip; None: the whole clip, and smaller parts only where memory runs out. The bits
            are the same as long as the features of a frame depend on it and on its neighbours alone.

    Example:
        >>> frames = torch.zeros(3, 3, 32, 48, dtype=torch.uint8)
        >>> VideoSegmenter()(frames).mask.shape
        torch.Size([3, 32, 48])
    """

    def __init__(
        self,
        front_end: FrontEnd | None = None,
        config: Config | None = None,
        *,
        crf: nn.Module | None = None,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        if chunk is not None:
            check_count("chunk", chunk)
        if front_end is None:
            from gpuvos.features.learned import LearnedFeatures

            front_end = LearnedFeatures()
        self.front_end = front_end
        self.config = _checked_config(config)
        self.crf, self.chunk = crf, chunk

    @explain_memory("frames")
    @torch.no_grad()
    def forward(
        self, frames: Tensor, *, first_mask: Tensor | None = None, validate: bool = True
    ) -> Segmentation:
        """Segments one video.

        Args:
            frames: ``[T, 3, H, W]`` uint8, or floating point in [0, 1].
            first_mask: ``[H, W]`` bool, the object in frame 0: semi-supervised mode.
            validate: as in ``segment``.

        Returns:
            Segmentation with masks ``[T, H, W]``.

        Raises:
            InputError: frames of a wrong shape, dtype or range, or none at all.
            OutOfMemoryError: memory does not suffice; it is an InputError as well.
        """
        features = self.features(frames, validate=validate)
        size = (frames.shape[-2], frames.shape[-1])
        result = segment(*features, config=self.config, size=size, first_mask=first_mask, validate=validate)
        return self.refine(result, frames, validate=validate)

    def refine(self, result: Segmentation, frames: Tensor, *, validate: bool = True) -> Segmentation:
        """Mask, probability and confidence after the CRF, where there is one; ``frames`` as large as the masks."""
        if self.crf is None:
            return result
        crf = self.crf
        (probability,) = in_parts(
            lambda a, b: [crf(result.probability[a:b], frames[a:b], validate=validate)],
            len(frames),
            self.chunk,
        )
        confidence = (2 * probability - 1).abs()
        return result._replace(mask=probability > 0.5, probability=probability, confidence=confidence)

    def features(self, frames: Tensor, *, validate: bool = True) -> Features:
        """Checks frames ``[T, 3, H, W]`` and runs the front end on them, ``chunk`` at a time."""
        sizes = check_tensor("frames", frames, "T 3 H W", kind="frames")
        if min(sizes.values()) == 0:
            raise fail("frames", f"shape {tuple(frames.shape)}", "at least one frame of at least one pixel")
        if validate:
            check_values("frames", frames, low=0, high=1)
        return Features._make(in_parts(lambda a, b: self._part(frames, a, b), len(frames), self.chunk))

    def _part(self, frames: Tensor, first: int, last: int) -> Features:
        """Features of the frames from ``first`` to before ``last``, with one neighbour for their flow."""
        stop = min(last + 1, len(frames))
        start = first if stop - first > 1 else max(0, first - 1)
        features: Any = self.front_end(frames[start:stop])
        if not isinstance(features, tuple) or len(features) != 3:
            raise fail("front_end", f"a result of type {type(features).__name__}",
                       "Features(embedding, objectness, flow)")  # fmt: skip
        if stop - start == len(frames) == last - first:
            return Features._make(features)
        if not all(isinstance(value, Tensor) and value.shape[:1] == (stop - start,) for value in features):
            raise fail("front_end", "features of another number of frames", f"tensors [{stop - start}, ...]")
        return Features._make(value[first - start : last - start] for value in features)
