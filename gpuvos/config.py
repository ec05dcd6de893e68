"""Every number of the method in one place."""

from __future__ import annotations

from dataclasses import dataclass

from gpuvos.errors import check_choice, check_positive, fail


@dataclass(frozen=True)
class Config:
    """Parameters of the method; the defaults are those of the paper wherever it gives one.

    Example:
        >>> Config(rule="paper", num_seeds=50).window
        9
    """

    rule: str = "robust"
    """How seeds are labelled: "paper" to the letter of the paper; "robust" replaces Eq. 7-8 by the residual of a
    camera model, adds confident seeds to the foreground and smooths the labels over the sequence (ours)."""

    num_seeds: int = 100
    """K, seeds of a frame (the first author's code; the paper does not say)."""

    window: int = 9
    """n, side of the window of Eq. 5 in pixels of the grid, odd (paper: 9; 5 for SegTrack-v2)."""

    edge_reduce: str = "max"
    """How Eq. 4 combines the neighbours: "max" or "mean" (the paper's equation is lost; "max" gives its counts)."""

    distance: str = "minimax"
    """Geodesic distance of regions: "minimax" (largest edge on the path) or "shortest" (sum of the edges)."""

    num_background: int = 30
    """N_BG, seeds of lowest objectness that start the background (inferred)."""

    rank_by: str = "both"
    """What Eq. 10 averages over a track: "both" (objectness times saliency, paper), "motion" or "objectness"."""

    coverage: float = 0.5
    """tau, share of a region that the initial foreground must exceed for its seed to join the foreground (paper)."""

    background_objectness: float = 0.3
    """Seeds of lower objectness are background, Eq. 12 (inferred)."""

    background_saliency: float = 0.01
    """Seeds of lower motion saliency are background, Eq. 12 (inferred; of the squared saliency of Eq. 7)."""

    adapt_every: int | None = 1
    """Frames between two renewals of the seed sets; None: those of frame 0 serve all (paper: 1)."""

    temperature: float = 1.0
    """Squared distances are divided by it before Eq. 1 where its scale is seen: Eq. 15 and the mean edge map."""

    mask_coverage: float = 0.5
    """alpha, semi-supervised: share of a region that the first mask must exceed to make it foreground (A.1; the
    paper's number is lost)."""

    confident_objectness: float = 0.5
    """Robust rule: seeds with objectness above it and saliency above the next are foreground too."""

    confident_saliency: float = 0.05
    """Robust rule: see ``confident_objectness``."""

    smoothing_neighbors: int = 30
    """Robust rule: each seed takes the mean label of this many nearest seeds over the whole sequence; 0: off."""

    smoothing_threshold: float = 0.5
    """Robust rule: a smoothed label above it is foreground, at or below it background."""

    def __post_init__(self) -> None:
        check_choice("config.rule", self.rule, ("paper", "robust"))
        check_choice("config.edge_reduce", self.edge_reduce, ("max", "mean"))
        check_choice("config.distance", self.distance, ("minimax", "shortest"))
        check_choice("config.rank_by", self.rank_by, ("both", "motion", "objectness"))
        for name in ("num_seeds", "window", "num_background", "temperature"):
            check_positive(f"config.{name}", getattr(self, name))
        check_positive("config.smoothing_neighbors", self.smoothing_neighbors, zero=True)
        if self.adapt_every is not None:
            check_positive("config.adapt_every", self.adapt_every)
        if self.window % 2 == 0:
            raise fail("config.window", str(self.window), "an odd number")
        for name in ("coverage", "background_objectness", "background_saliency", "mask_coverage",
                     "confident_objectness", "confident_saliency", "smoothing_threshold"):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise fail(f"config.{name}", repr(getattr(self, name)), "a number in [0, 1]")
