"""What can be measured of a sequence: every variant of the method that a table of the paper asks for.

A variant is a name, such as ``paper/every-5``. All variants of one rule share one run of the method: seeds, regions,
saliency and tracks are computed once and only what differs is computed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor

from gpuvos import functional as F
from gpuvos.config import Config, RankBy, checked_config
from gpuvos.metrics import boundary_accuracy, foreground_score, region_similarity, temporal_stability
from gpuvos.paper import ablation, drift, oracles
from gpuvos.paper.datasets import LabelledVideo
from gpuvos.pipeline.refinement import RefinementName, refinement
from gpuvos.pipeline.segment import segment
from gpuvos.pipeline.steps import probability_under, source_frames
from gpuvos.pipeline.tracking import track_seeds, tracks_of
from gpuvos.types import Features, SeedSets, Segmentation

RULES = ("robust", "paper")
PERIODS: tuple[int | None, ...] = (1, 5, 10, 20, 40, None)  # of Table 3
MASK_VOTE = 0.5  # of Table 5 where the vote counts beside the first mask
RANKINGS = ("motion", "objectness", "both")  # of Table 4
EXPERIMENTS = ("main", "adaptation", "saliency", "semi", "sequences", "drift", "oracles", "embedding")
Row = dict[str, Any]


def period_name(period: int | None) -> str:
    """Variant of an adaptation every so many frames."""
    return "every-never" if period is None else f"every-{period}"


def plan(
    experiments: tuple[str, ...], rules: tuple[str, ...], *, refinements: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """The variants that every experiment needs.

    Example:
        >>> plan(("main", "drift"), ("paper",), refinements=("crf",))
        {'main': ('paper', 'paper/refine-crf', 'truth'), 'drift': ('drift',)}
    """
    plain = tuple(rules)
    refined = _each(rules, [f"refine-{name}" for name in refinements])
    wanted: dict[str, tuple[str, ...]] = {
        "main": (*plain, *refined, "truth"),
        "adaptation": plain + _each(rules, [period_name(period) for period in PERIODS if period != 1]),
        "saliency": plain + _each(rules, [f"rank-{ranking}" for ranking in RANKINGS if ranking != "both"]),
        "semi": semi_variants(rules, refinements),
        "sequences": plain + refined,
        "drift": ("drift",),
        "oracles": (*plain, "ceiling", *_each(rules, list(oracles.ORACLES))),
        "embedding": plain + _each(rules, list(ablation.EMBEDDINGS)),
    }
    return {name: wanted[name] for name in experiments}


def semi_variants(rules: tuple[str, ...], refinements: tuple[str, ...]) -> tuple[str, ...]:
    """Variants of Table 5: the first mask alone and, in the robust rule, the vote beside it; each refined as well.

    Example:
        >>> semi_variants(("robust", "paper"), ("crf",))
        ('robust/semi', 'paper/semi', 'robust/vote', 'robust/semi-crf', 'paper/semi-crf', 'robust/vote-crf')
    """
    kinds = [(rule, "semi") for rule in rules] + [("robust", "vote")] * ("robust" in rules)
    return tuple(f"{rule}/{kind}{end}" for end in ("", *(f"-{name}" for name in refinements)) for rule, kind in kinds)


def _each(rules: tuple[str, ...], variants: list[str]) -> tuple[str, ...]:
    return tuple(f"{rule}/{variant}" for rule in rules for variant in variants)


class Workbench:
    """Measures variants of one sequence; what they share is computed when the first of them asks for it.

    Args:
        video: the sequence, on the device of the features.
        features: of its frames.
        configs: parameters of the method by rule.
        stability: whether T is measured, which takes longer than the other measures together.
        semantic: gives the features with the embedding of the semantic network, where the front end has one.
    """

    def __init__(
        self,
        video: LabelledVideo,
        features: Features,
        configs: Mapping[str, Config],
        semantic: Callable[[Tensor, Features], Features] | None = None,
        *,
        stability: bool = True,
    ) -> None:
        self.video, self.features, self.configs, self.semantic = video, features, configs, semantic
        self.stability = stability
        self._base: dict[str, Segmentation] = {}
        self._semi_probability: dict[tuple[str, float], Tensor] = {}
        self._semantic_features: Features | None = None

    def base(self, rule: str) -> Segmentation:
        """The method under a rule, on the grid."""
        if rule not in self._base:
            self._base[rule] = segment(*self.features, config=self.configs[rule])
        return self._base[rule]

    @cached_property
    def truth(self) -> Tensor:
        """``[A, h, w]`` bool, the true masks on the grid."""
        return oracles.grid_truth(self.video.mask, self.grid)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return (self.features.objectness.shape[-2], self.features.objectness.shape[-1])

    @torch.no_grad()
    def measure(self, variant: str) -> Row:
        """The row of results of a variant; per-frame values are those of the frames that the protocol counts."""
        if variant == "drift":
            return drift.measure(self.features.embedding, self.truth, self.video.annotated)
        if variant == "truth":
            return self._stability(self.video.mask)
        if variant == "ceiling":
            return self._masks(oracles.enlarge(self.truth.float(), self.video.size) > 0.5)
        rule, _, what = variant.partition("/")
        if what == "":
            mask = self._enlarged(self.base(rule).probability) > 0.5
            return self._masks(mask) | self._stability(mask) | self._seed(self.base(rule))
        kind, _, detail = what.partition("-")
        handlers: dict[str, Callable[[str, str], Row]] = {
            "refine": self._refine,
            "every": self._every,
            "rank": self._rank,
            "semi": partial(self._semi, vote=0.0),
            "vote": partial(self._semi, vote=MASK_VOTE),
            "oracle": self._oracle,
            "embedding": self._embedding,
        }
        return handlers[kind](rule, detail)

    def _enlarged(self, probability: Tensor) -> Tensor:
        """A probability on the grid at the size of the frames, only of the annotated ones: ``[A, H, W]``."""
        number = torch.tensor(self.video.annotated, device=probability.device)
        return oracles.enlarge(probability[number], self.video.size)

    def _refine(self, rule: str, name: str) -> Row:
        mask = self._refined(self.base(rule).probability, name)
        return self._masks(mask) | self._stability(mask)

    def _refined(self, probability: Tensor, name: str) -> Tensor:
        """Masks ``[A, H, W]`` after the refinement of that name, a few frames at a time."""
        refine = refinement(cast("RefinementName", name)).to(probability.device)
        enlarged = self._enlarged(probability)
        frames = self.video.frames[torch.tensor(self.video.annotated, device=self.video.frames.device)]
        parts = zip(torch.split(enlarged, 8), torch.split(frames, 8), strict=True)
        return torch.cat([refine(some, images) > 0.5 for some, images in parts])

    def _every(self, rule: str, detail: str) -> Row:
        base, every = self.base(rule), None if detail == "never" else int(detail)
        probability = self._from_seeds(base, replace(self.configs[rule], adapt_every=every))
        return self._probability(self._enlarged(probability), base)

    def _from_seeds(self, result: Segmentation, config: Config) -> Tensor:
        """Eq. 13-15 with the seed sets of a result."""
        sets = SeedSets(*(value[None] for value in (result.seeds.embedding, result.foreground, result.background)))
        embedding = self.features.embedding[None]
        return probability_under(embedding, sets, config, source_frames(embedding, config))[0]

    def _rank(self, rule: str, by: str) -> Row:
        """Table 4: another ranking of the tracks, and in the robust rule other evidence of the seeds as well."""
        base, config = self.base(rule), replace(self.configs[rule], rank_by=cast("RankBy", by))
        seed = track_seeds(base.seeds, base.saliency, config).foreground_seed
        if rule == "paper":
            changed = oracles.with_track(base, self.features.embedding, seed, config)
        else:
            means = F.region_mean(self.features.objectness[:, None], base.forest.label, config.num_seeds)[..., 0]
            evidence = base.saliency if by == "motion" else means
            chosen = oracles.vote(base, evidence, config)
            changed = base._replace(foreground_seed=seed, foreground=chosen, background=base.seeds.valid & ~chosen)
        probability = self._from_seeds(changed, self.configs[rule])
        return self._probability(self._enlarged(probability), changed)

    def _semi(self, rule: str, detail: str, *, vote: float) -> Row:
        """Table 5: the seed sets come from the first mask, those of the robust rule from its vote as well."""
        if self.video.annotated[0] != 0:
            return {}
        if (rule, vote) not in self._semi_probability:
            config = replace(self.configs[rule], mask_vote=vote)
            result = segment(*self.features, config=config, first_mask=self.video.mask[0])
            self._semi_probability[rule, vote] = result.probability
        probability = self._semi_probability[rule, vote]
        return self._masks(self._refined(probability, detail) if detail else self._enlarged(probability) > 0.5)

    def _oracle(self, rule: str, detail: str) -> Row:
        truth, annotated = self.truth, torch.tensor(self.video.annotated, device=self.truth.device)
        if detail == "objectness":
            given = self.features.objectness.index_put((annotated,), truth.float())
            result = segment(self.features.embedding, given, self.features.flow, config=self.configs[rule])
            return self._probability(self._enlarged(result.probability), result)
        base = self.base(rule)
        if detail == "regions":
            label = base.forest.label[annotated]
            return self._masks(oracles.enlarge(oracles.true_regions(label, truth).float(), self.video.size) > 0.5)
        if detail == "seeds":
            changed = oracles.with_true_seeds(base, truth, annotated)
        else:
            seed = oracles.true_track(base, truth, annotated)
            changed = (
                oracles.with_track(base, self.features.embedding, seed, self.configs[rule])
                if rule == "paper"
                else base._replace(foreground_seed=seed)
            )
        probability = self._from_seeds(changed, self.configs[rule])
        return self._probability(self._enlarged(probability), changed)

    def _embedding(self, rule: str, name: str) -> Row:
        """Other embeddings, with the same objectness and flow; an empty row where the front end has none such."""
        features = self.features
        if name == "semantic":
            if self.semantic is None:
                return {}
            if self._semantic_features is None:
                self._semantic_features = self.semantic(self.video.frames, features)
            features = self._semantic_features
        else:
            features = features._replace(embedding=ablation.part(features.embedding, name))
        result = segment(*features, config=self.configs[rule])
        return self._probability(self._enlarged(result.probability), result)

    def _probability(self, enlarged: Tensor, result: Segmentation) -> Row:
        """Row of a soft mask ``[A, H, W]``, with the accuracy of the foreground seed."""
        return self._masks(enlarged > 0.5) | self._seed(result)

    def _seed(self, result: Segmentation) -> Row:
        return {"seed_accuracy": seed_accuracy(result, self.video).item()}

    def _stability(self, mask: Tensor) -> Row:
        """T of masks ``[A, H, W]``. Only the main table shows it, so only its variants pay: about 0.1 s a frame."""
        return {"t": stability(mask, self.video)} if self.stability else {}

    def _masks(self, mask: Tensor) -> Row:
        """J and F of masks ``[A, H, W]``, and precision and recall over the counted frames together."""
        counted = self.video.counted
        mask, truth = mask[counted], self.video.mask[counted]
        score = foreground_score(mask, truth)
        return {
            "j": region_similarity(mask, truth).tolist(),
            "f": boundary_accuracy(mask, truth).tolist(),
            "precision": score.precision.item(),
            "recall": score.recall.item(),
        }


def seed_accuracy(result: Segmentation, video: LabelledVideo) -> Tensor:
    """Share of the annotated frames whose foreground seed lies on the object."""
    h, w = result.forest.label.shape[-2:]
    foreground_seed = tracks_of(result, checked_config(result.config)).foreground_seed
    annotated = torch.tensor(video.annotated, device=video.mask.device)
    seed = foreground_seed[annotated]
    index = result.seeds.index[annotated].gather(1, seed.clamp(min=0)[:, None])[:, 0]
    row = ((index.clamp(min=0) // w).float() + 0.5) * video.size[0] / h
    column = ((index.clamp(min=0) % w).float() + 0.5) * video.size[1] / w
    number = torch.arange(len(annotated), device=seed.device)
    hit = video.mask[number, row.long(), column.long()] & (seed >= 0) & (index >= 0)
    return hit.float().mean()


def stability(mask: Tensor, video: LabelledVideo) -> list[float | None]:
    """T of masks ``[A, H, W]`` over the counted frames, None where one has no outline.

    As in the toolkit of DAVIS the true mask goes before the first frame that counts, where it is not the first.
    Empty where not all frames are annotated, for T is of successive ones.
    """
    if len(video.annotated) != len(video.frames):
        return []
    begin = video.counted.start or 0
    values = temporal_stability(torch.cat([video.mask[:begin][-1:], mask[video.counted]])).tolist()
    return [value if math.isfinite(value) else None for value in values]


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are there; None if none is."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def mean(values: list[float]) -> float:
    """Mean of a list; NaN of an empty one."""
    return math.fsum(values) / len(values) if values else math.nan
