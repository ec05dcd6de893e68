"""How much of J on DAVIS-2016 train is owed to choosing the robust rule's parameters there.

The parameters of the vote are chosen on one half of the sequences and scored on the other, both ways round. What a half
loses when the other half chooses for it is what tuning flatters; that one half is harder than the other is not part of
it. Frames are compared with their own seed sets alone. Features are computed once (``--cache`` keeps them). A run that
is stopped goes on where it was, from ``--keep``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product

import torch
from over_davis import Row, measure_all, options
from torch import Tensor

import gpuvos
from gpuvos import functional as F
from gpuvos.functional.voting import take_vote
from gpuvos.metrics import region_similarity
from gpuvos.paper.oracles import enlarge
from gpuvos.pipeline.rules.robust import vote_options

GRID = {
    "vote_threshold": (0.25, 0.3, 0.35, 0.4, 0.45),
    "confident_share": (0.45, 0.5, 0.55, 0.6, 0.65),
    "smoothing_share": (0.006, 0.0085, 0.012),
}


def settings() -> dict[str, gpuvos.Config]:
    """Every combination by a name that lists its values."""
    combinations = [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]
    return {name_of(options): gpuvos.Config(**options) for options in combinations}


def name_of(options: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in options.items())


DEFAULT = name_of({name: getattr(gpuvos.Config(), name) for name in GRID})


def measure(features: gpuvos.Features, truth: Tensor, every: int) -> Row:
    """J of every combination on every so many frames; DAVIS leaves out the first and the last."""
    base = gpuvos.segment(*features)
    objectness = F.region_mean(features.objectness[:, None], base.forest.label, base.seeds.valid.shape[-1])[..., 0]
    evidence = (base.saliency * objectness.clamp(min=0)).sqrt()
    frames = torch.arange(1, len(truth) - 1, every)
    size = (truth.shape[-2], truth.shape[-1])
    seeds, scores = base.seeds, {}
    shares: dict[gpuvos.Config, Tensor] = {}  # of a seed's neighbours; the threshold comes after them
    for name, config in settings().items():
        vote = replace(config, vote_threshold=gpuvos.Config().vote_threshold)
        if vote not in shares:
            shares[vote] = take_vote(seeds.embedding, evidence, seeds.valid, **vote_options(vote)).share
        foreground = (shares[vote] > config.vote_threshold) & seeds.valid
        sets = (seeds.embedding, foreground, seeds.valid & ~foreground)
        probability = F.foreground_probability(features.embedding[frames], *(value[frames] for value in sets))
        found = enlarge(probability, size) > 0.5
        scores[name] = 100 * float(region_similarity(found, truth[frames]).mean())
    return scores


def halves(names: list[str]) -> tuple[list[str], list[str]]:
    """The sequences that the parameters were chosen on, and the others; see ``results/davis2016-train.md``."""
    return [name for i, name in enumerate(names) if i % 4 < 2], [name for i, name in enumerate(names) if i % 4 >= 2]


def mean(kept: dict[str, Row], names: list[str], setting: str) -> float:
    return sum(kept[name][setting] for name in names) / len(names)


def table(kept: dict[str, Row]) -> str:
    """J of each half by whoever chose the parameters, and the range over all combinations."""
    parts = dict(zip(("the 16", "the 14"), halves(sorted(kept)), strict=True))
    chosen = {half: max(settings(), key=lambda setting: mean(kept, names, setting)) for half, names in parts.items()}
    rows = {"the defaults": DEFAULT} | {f"chosen on {half}": setting for half, setting in chosen.items()}
    lines = [f"| parameters | values | {' | '.join(parts)} |", "|---|---|" + "---:|" * len(parts)]
    for title, setting in rows.items():
        scores = [f"{mean(kept, names, setting):.2f}" for names in parts.values()]
        lines.append(f"| {title} | {setting} | {' | '.join(scores)} |")
    worst = [min(mean(kept, names, setting) for setting in settings()) for names in parts.values()]
    lines.append(f"| the worst of all | - | {' | '.join(f'{value:.2f}' for value in worst)} |")
    return "\n".join(lines)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--every", type=int, default=4, help="frames between two that are scored")
    arguments = parser.parse_args()
    settings = {"grid": {name: list(values) for name, values in GRID.items()}, "every": arguments.every}
    kept = measure_all(arguments, partial(measure, every=arguments.every), settings)
    print("\n" + table(kept))


if __name__ == "__main__":
    main()
