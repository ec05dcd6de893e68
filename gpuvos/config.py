"""Every number of the method in one place."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

import torch
from torch import Tensor

from gpuvos.errors import check_choice, check_count, check_positive, check_share, fail

N = TypeVar("N", int, Tensor)
Rule = Literal["robust", "paper"]
Reduce = Literal["max", "mean"]
Distance = Literal["minimax", "shortest"]
RankBy = Literal["both", "motion", "objectness"]
LinkBy = Literal["mean", "last"]

COLDEST = 1e-30  # the smallest temperature
_MOST = 2**20  # of every count

RULE_DEFAULTS = {
    "paper": {"num_seeds": 100, "window": 9, "adjacent_sets": 0},
    "robust": {"num_seeds": 300, "window": 5, "adjacent_sets": 1},
}
"""Defaults that differ between the rules."""

RULE_FIELDS = {
    "paper": ("coverage", "squared_saliency", "background_objectness", "background_saliency"),
    "robust": (
        "min_motion",
        "smoothing_frames",
        "smoothing_share",
        "smoothing_neighbors",
        "confident_share",
        "vote_threshold",
        "mask_vote",
    ),
}
"""Fields that one rule alone reads; with another rule any value of them but the default raises a warning."""


@dataclass(frozen=True)
class Config:
    """Parameters of the method; the defaults are those of the paper wherever it gives one.

    ``dataclasses.replace`` keeps what depends on the rule (``RULE_DEFAULTS``) as it was with the rule it came from.

    Example:
        >>> Config(rule="paper", num_seeds=50).window
        9
    """

    rule: Rule = "robust"
    """How seeds are labelled: "paper" to the letter of the paper; "robust" (ours) scores every seed by objectness
    and by the motion that a camera model leaves over, smoothed over the sequence; see ``functional.vote_labels``."""

    num_seeds: int = None  # type: ignore[assignment]  # an integer from __post_init__ on
    """K, seeds of a frame. None: 100 with the paper's rule (the first author's code; the paper does not say), 300 with
    the robust one (tuned: more seeds raise what true labels of the seeds would give from 82.2 to 84.7)."""

    window: int = None  # type: ignore[assignment]
    """n, side of the window of Eq. 5 in pixels of the grid, odd. None: 9 with the paper's rule (paper; 5 for
    SegTrack-v2), 5 with the robust one, which needs the candidates."""

    edge_reduce: Reduce = "max"
    """How Eq. 4 combines the neighbours: "max" or "mean" (the paper's equation is lost; "max" gives its counts)."""

    distance: Distance = "minimax"
    """Geodesic distance of regions: "minimax" (largest edge on the path) or "shortest" (sum of the edges)."""

    num_background: int = 40
    """N_BG, seeds of lowest objectness that start the background (the number is lost from the paper's text; chosen on
    DAVIS train)."""

    link_by: LinkBy = "mean"
    """What the next seed of a track, Eq. 9, is most similar to: the "mean" embedding of the track so far or its "last"
    seed. The symbol is lost from the paper's text ("adding the seed with the highest similarity to"); on DAVIS train
    80 links from seed to seed leave the object in every sixth frame, those to the mean in one of forty."""

    rank_by: RankBy = "both"
    """What Eq. 10 averages over a track: "both" (objectness times saliency, paper), "motion" or "objectness"."""

    coverage: float = 0.5
    """tau, share of a region that the initial foreground must exceed for its seed to join the foreground (paper)."""

    squared_saliency: bool = False
    """Whether Eq. 7 squares the distance of flows. The equation is lost from the paper's text; on DAVIS train the
    distance itself is the better reading, whatever the thresholds below."""

    background_objectness: float = 0.1
    """Seeds of lower objectness are background, Eq. 12 (inferred; chosen on DAVIS train)."""

    background_saliency: float = 0.005
    """Seeds of lower motion saliency are background, Eq. 12 (inferred; chosen on DAVIS train)."""

    adapt_every: int | None = 1
    """Frames between two renewals of the seed sets; None: those of frame 0 serve all (paper: 1)."""

    adjacent_sets: int = None  # type: ignore[assignment]
    """P joins what Eq. 15 says under the seed sets of a frame, of so many frames before it and of as many after it (the
    first or last frame where there is none), by the mean of log(P / (1 - P)): a seed that one of them lacks or labels
    wrong decides less. None: 0 with the paper's rule, 1 with the robust one (on DAVIS train J is 83.7 with it, 83.2
    without)."""

    temperature: float | Tensor = 1.0
    """Squared distances are divided by it before Eq. 1 where its scale is seen: Eq. 15 and the mean edge map. A tensor
    of one number, which may be learned, is looked at by ``segment(validate=True)``. From 1e-30 to 1e30; below 1 the
    embedding must be small enough for the quotients to be floats."""

    track_seeds: bool = False
    """Robust rule: compute the tracks, the best of them and the initial foreground (Eq. 9-11) as well, which this rule
    does not use. The paper's rule always has them."""

    softness: float = 0.0
    """0: seeds are foreground, background or neither. Above 0, for training: they have weights in Eq. 13-15, the
    thresholds of Eq. 12 and of the robust rule being steps of this relative width (``functional.soft_background``), so
    that the probability has gradients with respect to objectness and flow as well. About 0.25."""

    mask_coverage: float = 0.5
    """alpha, semi-supervised: share of a region that the first mask must exceed to make it foreground (A.1; the
    paper's number is lost)."""

    mask_vote: float = 0.0
    """Robust rule, semi-supervised: how much the vote on objectness and motion counts beside the first mask. 0: not at
    all (A.1), the mask may name anything. Above 0 the seeds of every frame join those of frame 0, labelled by both
    (``RobustRule.under_mask``): for a mask of the object that moves. At 0.5 J on DAVIS train is 83.7, at 0 79.3."""

    min_motion: float = 0.25
    """Robust rule: a frame in which no region moves by more (pixels of the image, after the camera) has no saliency."""

    smoothing_frames: int = 16
    """Robust rule: scores and labels are means over the nearest seeds of this many frames, evenly spaced."""

    smoothing_share: float = 0.0085
    """Robust rule: the nearest are this share of those frames' seeds, and at least three (tuned)."""

    smoothing_neighbors: int = 128
    """Robust rule: and at most so many."""

    confident_share: float = 0.55
    """Robust rule: seeds whose score exceeds this share of the largest are confidently foreground (tuned)."""

    vote_threshold: float = 0.35
    """Robust rule: a seed is foreground if more than this share of its neighbours is confidently so (tuned)."""

    def __post_init__(self) -> None:
        check_choice("config.rule", self.rule, ("paper", "robust"))
        for name, value in RULE_DEFAULTS[self.rule].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)  # frozen for everybody else
        check_choice("config.edge_reduce", self.edge_reduce, ("max", "mean"))
        check_choice("config.distance", self.distance, ("minimax", "shortest"))
        check_choice("config.rank_by", self.rank_by, ("both", "motion", "objectness"))
        check_choice("config.link_by", self.link_by, ("mean", "last"))
        counts = ("num_seeds", "window", "num_background", "smoothing_neighbors", "smoothing_frames")
        for name in counts if self.adapt_every is None else (*counts, "adapt_every"):
            check_count(f"config.{name}", getattr(self, name), high=_MOST)
        check_count("config.adjacent_sets", self.adjacent_sets, 0, high=_MOST)
        for name in ("track_seeds", "squared_saliency"):
            if not isinstance(getattr(self, name), bool):
                raise fail(f"config.{name}", repr(getattr(self, name)), "True or False")
        check_positive("config.smoothing_share", self.smoothing_share, high=1)
        _check_temperature(self.temperature)
        for name in ("min_motion", "softness"):
            check_positive(f"config.{name}", getattr(self, name), zero=True)
        if self.window % 2 == 0:
            raise fail("config.window", str(self.window), "an odd number")
        for name in (
            "coverage",
            "background_objectness",
            "background_saliency",
            "mask_coverage",
            "confident_share",
            "vote_threshold",
            "mask_vote",
        ):
            check_share(f"config.{name}", getattr(self, name))
        self._warn_of_ignored()

    def source_frame(self, frame: N) -> N:
        """The frame whose seed sets serve ``frame``, an integer or an int64 tensor of several (``adapt_every``).

        Example:
            >>> [Config(adapt_every=2).source_frame(frame) for frame in range(5)]
            [0, 0, 2, 2, 4]
        """
        if self.adapt_every is None:
            return frame * 0
        return frame if self.adapt_every == 1 else frame - frame % self.adapt_every

    def source_frames(self, frame: Tensor, last: int | Tensor) -> Tensor:
        """The frames whose seed sets serve ``frame`` together, by ``adjacent_sets``: int64, ``[n, ...]``, n odd.

        That at the middle of n is the frame's own.

        Args:
            frame: int64, numbers of frames.
            last: number of the last frame, or a tensor of several that broadcasts with ``frame``.

        Example:
            >>> import torch
            >>> Config(adjacent_sets=1).source_frames(torch.arange(4), 3)
            tensor([[0, 0, 1, 2],
                    [0, 1, 2, 3],
                    [1, 2, 3, 3]])
        """
        reach = 0 if self.adapt_every is None else self.adjacent_sets  # there one frame serves all
        if isinstance(last, Tensor):  # in a program with open shapes a number is no int
            frame = frame + torch.zeros_like(last)
        elif not reach:
            return self.source_frame(frame)[None]
        near = torch.arange(-reach, reach + 1, device=frame.device).view(-1, *(1,) * frame.ndim) + frame
        inside = near.clamp(max=last).clamp(min=0) if isinstance(last, Tensor) else near.clamp(0, last)
        return self.source_frame(inside)

    def _warn_of_ignored(self) -> None:
        defaults = {field.name: field.default for field in fields(self)}
        for rule, names in RULE_FIELDS.items():
            changed = [name for name in names if rule != self.rule and getattr(self, name) != defaults[name]]
            if changed:
                warnings.warn(
                    f"rule={self.rule!r} ignores {', '.join(changed)}: the {rule} rule alone reads them", stacklevel=4
                )


def checked_config(config: Config | None) -> Config:
    """Returns the config, ``Config()`` in place of None; raises InputError for anything else.

    Example:
        >>> checked_config(None).rule
        'robust'
    """
    if config is not None and not isinstance(config, Config):
        raise fail("config", type(config).__name__, "a gpuvos.Config", 'for example Config(rule="paper")')
    return config or Config()


def _check_temperature(temperature: float | Tensor) -> None:
    if not isinstance(temperature, Tensor):
        check_positive("config.temperature", temperature, low=COLDEST)
    elif temperature.numel() != 1:
        raise fail("config.temperature", f"shape {tuple(temperature.shape)}", "one number")
